"""Writing one disk of a point: chunks in, a layer and its map out.

Every block is hashed once.  The hash is what is stored, what tells that a block is
all zero (the hash of zeroes is known), and what is compared with the parent.  What
happens to a block depends on how the disk is read:

==============  ================  =======================  =========================
method          data              zero                     not named
==============  ================  =======================  =========================
``everything``  stored            left out (reads zero)    reads zero
``bitmap``      stored            stated: hides parent     the parent's
``compare``     stored where it   stated where the parent  the parent's
                differs           is not zero
==============  ================  =======================  =========================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path

from blake3 import blake3

from sendense.errors import Damaged
from sendense.formats.blockmap import MapWriter
from sendense.formats.qcow2 import Backing, l1_entries_for
from sendense.formats.qcow2_writer import Qcow2Writer
from sendense.model.decision import Method
from sendense.model.point import DiskImage
from sendense.model.stream import Buffer
from sendense.repository.chain import layout
from sendense.repository.chain.reading import LARGEST_BLOCK, ResolvedDisk
from sendense.repository.chain.resolve import Segment
from sendense.repository.protocol import DiskSpec
from sendense.storage.durable import explaining
from sendense.units import KIB, MIB, round_down, round_up

SMALLEST_BLOCK = 4 * KIB
_MOST_L1_BYTES = 8 * MIB


def block_size_for(spec: DiskSpec) -> int:
    """Choose the block size of a layer: as fine as changes are known, within bounds.

    Finer than 64 KiB only for what a bitmap marks: all else is read as a whole, and
    small blocks would only cost hashes.  A very large disk gets larger blocks, so
    that the image's first table stays small.
    """
    size = LARGEST_BLOCK
    if spec.decision.method is Method.BITMAP:
        granularity = 1 << max(0, spec.granularity.bit_length() - 1)
        size = min(max(granularity, SMALLEST_BLOCK), LARGEST_BLOCK)
    while l1_entries_for(spec.size, size) * 8 > _MOST_L1_BYTES:
        size *= 2
    return size


class _Fate(Enum):
    """What becomes of a block."""

    DATA = "data"
    ZERO = "zero"
    SKIP = "skip"


@dataclass(frozen=True)
class Parent:
    """What a layer is laid over."""

    point: str
    image: DiskImage
    disk: ResolvedDisk | None
    """Open for reading where the method compares."""


class LayerWriter:
    """Takes the chunks of one disk; the repository's DiskWriter."""

    def __init__(
        self,
        folder: Path,
        spec: DiskSpec,
        *,
        parent: Parent | None,
        compression_level: int | None,
    ) -> None:
        """Create the layer's files in ``folder``."""
        self.spec = spec
        self.block_size = block_size_for(spec)
        self.image: DiskImage | None = None
        self.discarded = False
        self._position = 0
        self._folder = folder
        self._parent = parent
        self._zero_hash = blake3(bytes(self.block_size)).digest()
        resolved = parent.disk if parent is not None else None
        self._comparison = _Comparison(resolved, self.block_size) if resolved is not None else None
        backing = None
        if parent is not None:
            backing = Backing(layout.backing_name(parent.point, parent.image), "qcow2")
        with explaining(folder):
            self._image = Qcow2Writer(
                folder / layout.image_file(spec.disk.target),
                spec.size,
                cluster_size=self.block_size,
                backing=backing,
                compression_level=compression_level,
            )
            self._map = MapWriter(
                folder / layout.map_file(spec.disk.target), spec.size, block_size=self.block_size
            )

    def write(self, offset: int, data: Buffer) -> None:
        """Store the blocks of ``data`` that have to be stored."""
        self._advance(offset, len(data))
        size = self.block_size
        view = memoryview(data)
        hashes = [blake3(view[at : at + size]).digest() for at in range(0, len(view), size)]
        fates = [
            self._fate(offset + index * size, view[index * size : (index + 1) * size], digest)
            for index, digest in enumerate(hashes)
        ]
        index = 0
        with explaining(self._folder):
            for fate, group in groupby(fates):
                count = sum(1 for _ in group)
                start, end = index * size, min((index + count) * size, len(view))
                if fate is _Fate.DATA:
                    self._image.write(offset + start, view[start:end])
                    self._map.data((offset + start) // size, b"".join(hashes[index:][:count]))
                elif fate is _Fate.ZERO:
                    self._state_zero(offset + start, offset + end)
                index += count

    def zero(self, offset: int, length: int) -> None:
        """State a range to be zero, as far as that has to be stated."""
        self._advance(offset, length)
        if self._parent is None or length == 0:
            return
        with explaining(self._folder):
            if self._comparison is None:
                self._state_zero(offset, offset + length)
                return
            for start, end in self._comparison.not_zero(offset, offset + length):
                self._state_zero(start, end)

    def finish(self, *, read_bytes: int, sampled_blocks: int, seconds: float) -> DiskImage:
        """Make the disk durable and describe it."""
        with explaining(self._folder):
            summary = self._map.finish()
            self._image.close()
        self._close_parent()
        self.image = DiskImage(
            disk=self.spec.disk,
            size=self.spec.size,
            chain=self.spec.chain,
            decision=self.spec.decision,
            parent=None if self._parent is None else self._parent.point,
            block_size=self.block_size,
            read_bytes=read_bytes,
            data_bytes=summary.data_bytes,
            zero_bytes=summary.zero_bytes,
            stored_bytes=stored_bytes(self._image.path) + stored_bytes(self._map.path),
            digest=summary.digest,
            sampled_blocks=sampled_blocks,
            seconds=seconds,
        )
        return self.image

    def discard(self) -> None:
        """Forget all of it."""
        self.discarded = True
        self._close_parent()
        for writer in (self._image, self._map):
            writer.abort()
            writer.path.unlink(missing_ok=True)
        self.image = None

    def _advance(self, offset: int, length: int) -> None:
        """Hold the caller to whole blocks in ascending order, also where nothing is stored."""
        end = offset + length
        if not self._position <= offset <= end <= self.spec.size:
            raise ValueError(f"{offset}+{length} does not follow {self._position}")
        if offset % self.block_size or (end % self.block_size and end != self.spec.size):
            raise ValueError(f"{offset}+{length} is not made of whole blocks")
        self._position = end

    def _close_parent(self) -> None:
        if self._parent is not None and self._parent.disk is not None:
            self._parent.disk.close()

    def _fate(self, offset: int, block: memoryview, digest: bytes) -> _Fate:
        is_zero = digest == (
            self._zero_hash if len(block) == self.block_size else blake3(bytes(len(block))).digest()
        )
        if self._parent is None:
            return _Fate.SKIP if is_zero else _Fate.DATA
        if self._comparison is not None and self._comparison.same(
            offset, block, digest, is_zero=is_zero
        ):
            return _Fate.SKIP
        return _Fate.ZERO if is_zero else _Fate.DATA

    def _state_zero(self, start: int, end: int) -> None:
        self._image.zero(start, end - start)
        self._map.zero(start // self.block_size, -(-(end - start) // self.block_size))


class _Comparison:
    """The parent's disk beside the one that is written, moving along with it."""

    def __init__(self, parent: ResolvedDisk, block_size: int) -> None:
        self._parent = parent
        self._block_size = block_size
        self._segments = parent.segments(0, parent.image.size)
        self._segment = next(self._segments, None)

    def same(self, offset: int, block: memoryview, digest: bytes, *, is_zero: bool) -> bool:
        """Tell whether the parent holds this very block.

        A parent that is damaged here holds nothing that could be the same.
        """
        end = offset + len(block)
        segment = self._covering(offset, end)
        if segment is not None and segment.zero:
            return is_zero
        if segment is not None and self._is_block(segment, offset, end):
            known = self._parent.layers[segment.layer or 0].map.hashes(offset, 1)
            return known == digest
        try:
            return self._parent.matches(offset, block)
        except Damaged:
            return False

    def not_zero(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Give the ranges of whole blocks, in order, where the parent is not all zero."""
        size = self._block_size
        open_start, open_end = start, start
        limit = min(end, self._parent.image.size)
        for segment in self._parent.segments(start, limit):
            if segment.zero:
                continue
            first = max(start, round_down(segment.start, size))
            if first > open_end:
                if open_end > open_start:
                    yield open_start, open_end
                open_start = first
            elif open_end == open_start:
                open_start = first
            open_end = min(end, round_up(segment.end, size))
        if open_end > open_start:
            yield open_start, open_end

    def _covering(self, start: int, end: int) -> Segment | None:
        """Give the parent's segment that holds all of a range, moving on to it."""
        while self._segment is not None and self._segment.end <= start:
            self._segment = next(self._segments, None)
        segment = self._segment
        if segment is None:
            return Segment(start, end, None, zero=True)
        return segment if segment.start <= start and end <= segment.end else None

    def _is_block(self, segment: Segment, start: int, end: int) -> bool:
        """Tell whether a range is exactly one block of the layer that owns it."""
        blocks = self._parent.layers[segment.layer or 0].map
        return blocks.block_size == self._block_size and (
            end - start == self._block_size or end == blocks.size
        )


def stored_bytes(path: Path) -> int:
    """Give what a file takes: less than its length where it has holes."""
    found = path.stat()
    return min(found.st_size, found.st_blocks * 512) if found.st_blocks else found.st_size
