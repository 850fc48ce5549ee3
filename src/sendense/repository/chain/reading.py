"""Reading disks out of a repository: every byte is checked before it is handed out.

The layers of the disk are merged by :mod:`~sendense.repository.chain.resolve`, so that
each range is read straight from the file of the layer that owns it and checked
against that layer's own hashes.  A block of which newer layers hide a part is read
and checked as a whole, and then cut.

Reading and hashing run ahead on a few threads (both release the interpreter's
lock); the hash of a block is the only work per block.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from blake3 import blake3

from sendense.errors import Damaged
from sendense.formats.blockmap import HASH_SIZE
from sendense.formats.qcow2_reader import Place
from sendense.model.point import DiskImage
from sendense.model.stream import Buffer, Chunk
from sendense.repository.chain.differences import Differences, widened
from sendense.repository.chain.layers import Layer, close_layers
from sendense.repository.chain.resolve import Segment, resolve
from sendense.repository.extents import Extent, check_range, joined
from sendense.repository.protocol import DiskReader
from sendense.units import KIB, MIB, round_down, round_up

LARGEST_BLOCK = 64 * KIB
MOST = MIB
"""Bytes of data in one chunk."""
_AHEAD = 8
_EXTENTS = 1024
"""How many ranges are looked up in one turn."""
_Pending = tuple[Segment, "Future[memoryview] | None", bytearray | None]
_THREADS = min(4, max(2, os.cpu_count() or 1))


@dataclass(frozen=True)
class Piece:
    """One read: whole blocks of one layer, of which a part is wanted."""

    layer: Layer
    start: int
    end: int
    places: list[Place]
    hashes: bytes
    wanted_start: int
    wanted_end: int

    def fetch(self, buffer: bytearray) -> memoryview:
        """Read and check the blocks; give the wanted part of them."""
        view = memoryview(buffer)[: self.end - self.start]
        try:
            self.layer.reader.read(self.places, view)
        except Damaged as error:
            raise _damaged(self.layer, self.start, self.end, error.message) from error
        self._check(view)
        return view[self.wanted_start - self.start : self.wanted_end - self.start]

    def _check(self, view: memoryview) -> None:
        size = self.layer.map.block_size
        for index, start in enumerate(range(0, len(view), size)):
            known = self.hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE]
            if blake3(view[start : start + size]).digest() != known:
                offset = self.start + start
                raise _damaged(self.layer, offset, offset + size, "a block fails its check")


def _damaged(layer: Layer, start: int, end: int, what: str) -> Damaged:
    """Give the error that names the layer and the range."""
    link = layer.link
    return Damaged(
        f"disk {link.image.disk.target} of point {link.point} is damaged at offset {start}: {what}",
        hint="restore another point; the next backup of this disk should be a full",
        point=link.point,
        disk=link.image.disk.identity,
        offset=start,
        length=end - start,
    )


class ResolvedDisk:
    """A disk of a point, through all its layers; the repository's DiskReader.

    Looking up belongs to one thread; it starts threads of its own to read.  Those that call
    :meth:`read_at` and :meth:`extents` take turns to look up, and read at the same time.
    """

    def __init__(self, image: DiskImage, layers: list[Layer]) -> None:
        """Read ``image`` through its open ``layers``, newest first."""
        self.image = image
        self.layers = layers
        self._turn = threading.Lock()

    def close(self) -> None:
        """Give the layers' files back."""
        close_layers(self.layers)

    def chunks(self) -> Iterator[Chunk]:
        """Give the whole disk in order, zeroes included."""
        return self.read(0, self.image.size)

    def segments(self, start: int, end: int) -> Iterator[Segment]:
        """Give the owner of every byte of a range."""
        return resolve([layer.map.runs(start) for layer in self.layers], start=start, end=end)

    def changes(
        self, base: DiskReader, *, block_size: int = LARGEST_BLOCK
    ) -> Iterator[Chunk] | None:
        """Give what differs from any other disk of a chain; nothing else is read."""
        if not isinstance(base, ResolvedDisk):
            return None
        return self._read(self._parts(self._different(base, block_size)))

    def _different(self, base: ResolvedDisk, block_size: int) -> Iterator[Segment]:
        """Give the segments in which this disk differs from another."""
        size = self.image.size
        differences = Differences(self.layers, base.layers)
        ranges = differences.between(self.segments(0, size), base.segments(0, size))
        for start, end in widened(ranges, block_size, size):
            yield from self.segments(start, end)

    def read(self, start: int, end: int) -> Iterator[Chunk]:
        """Give a range in order, checked; a chunk is valid until the next is asked for."""
        return self._read(self._parts(self.segments(start, end)))

    def _read(self, parts: Iterator[Segment]) -> Iterator[Chunk]:
        buffers: list[bytearray] = []
        pending: deque[_Pending] = deque()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="verify") as pool:
            try:
                for part in parts:
                    pending.append((part, *self._begin(part, pool, buffers)))
                    while len(pending) > _AHEAD:
                        yield from _deliver(pending, buffers)
                while pending:
                    yield from _deliver(pending, buffers)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _begin(
        self, part: Segment, pool: ThreadPoolExecutor, buffers: list[bytearray]
    ) -> tuple[Future[memoryview] | None, bytearray | None]:
        """Start to read one part.  A failure is kept for its turn: what is before it is good."""
        if part.zero:
            return None, None
        try:
            piece = self.piece(part)
        except Damaged as error:
            failed: Future[memoryview] = Future()
            failed.set_exception(error)
            return failed, None
        buffer = _take(buffers, piece.end - piece.start)
        return pool.submit(piece.fetch, buffer), buffer

    def piece(self, segment: Segment) -> Piece:
        """Prepare the read of one segment of data: whole blocks of its owner."""
        layer = self.layers[segment.layer or 0]
        size = layer.map.block_size
        start = round_down(segment.start, size)
        end = min(round_up(segment.end, size), layer.map.size)
        try:
            places = layer.reader.locate(start, end - start)
            hashes = layer.map.hashes(start, -(-(end - start) // size))
        except Damaged as error:
            raise _damaged(layer, start, end, error.message) from error
        return Piece(layer, start, end, places, hashes, segment.start, segment.end)

    def matches(self, offset: int, data: Buffer) -> bool:
        """Tell whether ``data`` is what the disk holds at ``offset``; zero behind its end."""
        view = memoryview(data)
        for segment in self.segments(offset, offset + len(data)):
            part = view[segment.start - offset : segment.end - offset]
            if segment.zero:
                if bytes(part) != bytes(len(part)):
                    return False
            elif not self.segment_matches(segment, part):
                return False
        return True

    def segment_matches(self, segment: Segment, data: memoryview) -> bool:
        """Compare data with one segment: by hash where blocks are whole, else by content."""
        layer = self.layers[segment.layer or 0]
        size = layer.map.block_size
        whole_start = round_up(segment.start, size)
        whole_end = segment.end if segment.end == layer.map.size else round_down(segment.end, size)
        if whole_start >= whole_end:
            return self._content_matches(segment, data)
        head = Segment(segment.start, whole_start, segment.layer, zero=False)
        tail = Segment(whole_end, segment.end, segment.layer, zero=False)
        known = layer.map.hashes(whole_start, -(-(whole_end - whole_start) // size))
        inner = data[whole_start - segment.start : whole_end - segment.start]
        return (
            hash_blocks(inner, size) == known
            and self._content_matches(head, data[: head.end - head.start])
            and self._content_matches(tail, data[len(data) - (tail.end - tail.start) :])
        )

    def _content_matches(self, segment: Segment, data: memoryview) -> bool:
        if segment.start == segment.end:
            return True
        piece = self.piece(segment)
        return bytes(piece.fetch(bytearray(piece.end - piece.start))) == bytes(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Give any range inside the disk, checked."""
        check_range(offset, offset + length, self.image.size)
        with self._turn:
            parts = [
                part.end - part.start if part.zero else self.piece(part)
                for part in self._parts(self.segments(offset, offset + length))
            ]
        return b"".join(
            bytes(part) if isinstance(part, int) else part.fetch(bytearray(part.end - part.start))
            for part in parts
        )

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Tell of a range what reads as zero."""
        check_range(start, end, self.image.size)
        position = start
        while position < end:
            with self._turn:
                found = list(islice(self.segments(position, end), _EXTENTS))
            yield from joined(Extent(item.start, item.end, item.zero) for item in found)
            position = found[-1].end

    @staticmethod
    def _parts(segments: Iterable[Segment]) -> Iterator[Segment]:
        """Cut segments of data at multiples of the chunk size."""
        for segment in segments:
            position = segment.start
            while position < segment.end:
                stop = segment.end
                if not segment.zero:
                    stop = min(stop, round_down(position, MOST) + MOST)
                yield Segment(position, stop, segment.layer, segment.zero)
                position = stop


def hash_blocks(data: memoryview, size: int) -> bytes:
    """Give the joined hashes of the blocks of ``data``."""
    return b"".join(
        [blake3(data[start : start + size]).digest() for start in range(0, len(data), size)]
    )


def _take(buffers: list[bytearray], length: int) -> bytearray:
    """Give a buffer that is free and long enough; a chunk may lie across block borders."""
    while buffers:
        buffer = buffers.pop()
        if len(buffer) >= length:
            return buffer
    return bytearray(max(length, MOST + 2 * LARGEST_BLOCK))


def _deliver(
    pending: deque[_Pending],
    buffers: list[bytearray],
) -> Iterator[Chunk]:
    """Hand out the oldest part, and take its buffer back when the next is asked for."""
    part, future, buffer = pending.popleft()
    yield Chunk(part.start, part.end - part.start, None if future is None else future.result())
    if buffer is not None:
        buffers.append(buffer)
