"""Reading disks: leaves ahead on several threads, every block checked on its way out.

A leaf (4 MiB) is one job: its chunks are fetched in few requests, decrypted,
decompressed, and each block is held against its digest before it is copied to its
place.  Results come in order.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from sendense.errors import Damaged
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.machine import Disk, SourceKind
from sendense.model.point import DiskImage
from sendense.model.stream import Buffer, Chunk
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.chunk_cache import ChunkCache
from sendense.repository.dedup.differences import Differences, widened
from sendense.repository.dedup.entries import Location
from sendense.repository.dedup.identity import digest_blocks
from sendense.repository.dedup.leaf_ahead import Filled, LeafAhead, Wanted, Zeroes
from sendense.repository.dedup.leaf_making import Slots, runs
from sendense.repository.dedup.nodes import Slot, decode_leaf
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.range_reading import RangeReader, WholeDisk
from sendense.repository.dedup.record_reading import Records, missing
from sendense.repository.dedup.trees import Tree
from sendense.repository.extents import Extent
from sendense.repository.protocol import DiskReader
from sendense.units import MIB

_MOST = MIB
"""Bytes of data in one chunk of the stream."""
_LOCAL_THREADS = 4
_REMOTE_THREADS = 8
_LOCAL_EARLY = 2
"""Beyond the threads, so that they go on while a leaf is written: a restore of 2 GiB in memory took
1.30 to 1.31 s, and 1.34 to 1.40 s without."""
_REMOTE_EARLY = 4
"""Answers take longer or shorter: who waits for a late one in order shall not stop all threads."""


def reading_threads(parts: Parts) -> int:
    """Tell how many leaves to read at once."""
    return _REMOTE_THREADS if _remote(parts) else min(_LOCAL_THREADS, os.cpu_count() or 1)


def _remote(parts: Parts) -> bool:
    return parts.store.traits.kind not in ("local", "memory")


def chunk_cache(parts: Parts, records: Records) -> ChunkCache:
    """Give a cache of chunks for the disks of one point."""
    return ChunkCache(records, parts.ring.block_key, threads=reading_threads(parts))


class Stem(NamedTuple):
    """What names a tree."""

    root: bytes | None
    size: int
    """Of the disk."""


@dataclass(frozen=True)
class Place:
    """Whose disk is read, for messages."""

    point: str
    image: DiskImage

    def located(self, error: Damaged, number: int) -> Damaged:
        """Give the error of the leaf of that number with its place on the disk."""
        block = int(error.data.get("block", 0))
        blocks = int(error.data.get("blocks", fmt.LEAF_BLOCKS))
        return self.damaged(error, number * fmt.LEAF_BYTES + block * fmt.BLOCK, blocks)

    def damaged(self, error: Damaged, offset: int, blocks: int) -> Damaged:
        """Say of an error which blocks of the disk it concerns."""
        disk = self.image.disk
        return Damaged(
            f"disk {disk.target} of point {self.point} is damaged at offset {offset}: "
            f"{error.message}",
            hint=error.hint,
            **{
                **error.data,
                "point": self.point,
                "disk": disk.identity,
                "offset": offset,
                "length": blocks * fmt.BLOCK,
            },
        )


class LeafReader:
    """Reads whole leaves, checked."""

    def __init__(self, parts: Parts, records: Records) -> None:
        """Read what ``records`` finds."""
        self._key = parts.ring.block_key
        self._records = records

    def read(self, leaf: bytes, buffer: memoryview, wanted: Collection[int]) -> list[int]:
        """Fill ``buffer`` with wanted blocks of a leaf; gives those of them that are not zero.

        After an error what ``buffer`` holds is of no use.
        """
        slots = decode_leaf(self._records.node(leaf))
        places = [place for place, slot in enumerate(slots) if slot is not None and place in wanted]
        filling = _Filling(self._key, memoryview(buffer), slots, places)
        try:
            self._records.read(filling.chunks, filling.take, filling.room)
        except Damaged as error:
            raise _located(error, slots) from error
        return places


class _Filling:
    """A leaf that is being filled: where the blocks of each chunk belong."""

    def __init__(self, key: bytes, view: memoryview, slots: Slots, places: Sequence[int]) -> None:
        self._key = key
        self._view = view
        self._parts: dict[bytes, list[tuple[int, Slot]]] = {}
        for place in places:
            slot = slots[place]
            if slot is not None:
                self._parts.setdefault(slot.chunk, []).append((place, slot))

    @property
    def chunks(self) -> list[bytes]:
        """Give the chunks that are needed."""
        return list(self._parts)

    def room(self, chunk: bytes, length: int) -> memoryview | None:
        """Give the place of a chunk of which all blocks belong in a row, as they lie in it.

        Most do.  Copying them there afterwards took a twentieth of a restore's processor time.
        """
        parts = self._parts[chunk]
        first = parts[0][0]
        in_order = all(
            place == first + number and slot.block == number
            for number, (place, slot) in enumerate(parts)
        )
        if not in_order or length != len(parts) * fmt.BLOCK:
            return None
        start = first * fmt.BLOCK
        return self._view[start : start + length]

    def take(self, chunk: bytes, plain: memoryview) -> None:
        """Hold a chunk against its digests, and put its blocks where they belong."""
        parts = self._parts[chunk]
        self._check(chunk, plain, parts)
        if self.room(chunk, len(plain)) is not None:
            return
        for place, slot in parts:
            start, target = slot.block * fmt.BLOCK, place * fmt.BLOCK
            self._view[target : target + fmt.BLOCK] = plain[start : start + fmt.BLOCK]

    def _check(self, chunk: bytes, plain: memoryview, parts: Sequence[tuple[int, Slot]]) -> None:
        """Hold the blocks of a chunk that are used against their digests."""
        digests = digest_blocks(self._key, plain)
        for _, slot in parts:
            if slot.block >= len(digests) or digests[slot.block] != slot.digest:
                raise missing(chunk, "a block is not what its digest says")


def _located(error: Damaged, slots: Slots) -> Damaged:
    """Give the error with the block in the leaf that it concerns first."""
    record = error.data.get("record")
    places = [
        place for place, slot in enumerate(slots) if slot is not None and slot.chunk.hex() == record
    ]
    first, behind = next(runs(places), (0, fmt.LEAF_BLOCKS))
    return Damaged(
        error.message, hint=error.hint, **{**error.data, "block": first, "blocks": behind - first}
    )


class DedupDiskReader:
    """Reads one disk of a point; the repository's DiskReader."""

    def __init__(
        self,
        parts: Parts,
        records: Records,
        place: Place,
        root: bytes | None,
        cache: ChunkCache | None = None,
    ) -> None:
        """Read the tree under ``root``; ``cache`` is shared with other disks of the point."""
        self.image = place.image
        self.root = root
        self._place = place
        self._parts = parts
        self._records = records
        self._ahead = LeafAhead(
            LeafReader(parts, records).read,
            place.located,
            threads=reading_threads(parts),
            early=_REMOTE_EARLY if _remote(parts) else _LOCAL_EARLY,
        )
        disk = WholeDisk(root, place.image.size, place.damaged)
        self._ranges = RangeReader(disk, records, cache or chunk_cache(parts, records))

    def slots_of(self, leaf: bytes) -> Slots:
        """Read a leaf."""
        return decode_leaf(self._records.node(leaf))

    def places_of(self, chunks: Sequence[bytes]) -> dict[bytes, Location]:
        """Tell where chunks lie; those that no pack holds are left out."""
        return self._records.find(chunks)

    def tree(self) -> Tree:
        """Give the disk's tree, with a memory of its own."""
        return Tree(self._records, self.root, self.image.size)

    def chunks(self) -> Iterator[Chunk]:
        """Give the whole disk in order, zeroes included."""
        return self.read(0, self.image.size)

    def changes(self, base: DiskReader, *, block_size: int = fmt.BLOCK) -> Iterator[Chunk] | None:
        """Give what differs from any other disk of this repository; nothing else is read."""
        if not isinstance(base, DedupDiskReader) or not self._is_beside(base):
            return None
        return self.changed(Stem(base.root, base.image.size), block_size=block_size)

    def _is_beside(self, other: DedupDiskReader) -> bool:
        """Tell whether another disk's ids mean the same as this one's."""
        return other._parts.ring.repository_id == self._parts.ring.repository_id

    def read(self, start: int, end: int) -> Iterator[Chunk]:
        """Give a range in order, checked; a chunk is valid until the next is asked for."""
        position = start
        for chunk in self._data(start, end):
            if chunk.offset > position:
                yield Chunk(position, chunk.offset - position, None)
            yield chunk
            position = chunk.end
        if position < end:
            yield Chunk(position, end - position, None)

    def matches(self, offset: int, data: Buffer) -> bool:
        """Tell whether ``data`` is what the disk holds at ``offset``; zero behind its end.

        Nothing is fetched but the leaves: the digests tell.
        """
        view = memoryview(data)
        digests = digest_blocks(self._parts.ring.block_key, view)
        tree = self.tree()
        leaf, slots = -1, list[Slot | None]()
        for number, digest in enumerate(digests, start=offset // fmt.BLOCK):
            if number // fmt.LEAF_BLOCKS != leaf:
                leaf = number // fmt.LEAF_BLOCKS
                slots = self._slots(tree, leaf)
            slot = slots[number % fmt.LEAF_BLOCKS]
            if digest != (None if slot is None else slot.digest):
                return False
        return True

    def read_at(self, offset: int, length: int) -> bytes:
        """Give any range inside the disk, checked; for many threads."""
        return self._ranges.read_at(offset, length)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Tell of a range what reads as zero; for many threads."""
        return self._ranges.extents(start, end)

    def _slots(self, tree: Tree, number: int) -> Slots:
        leaf = tree.find(0, number) if number < tree.leaves else None
        if leaf is None:
            return [None] * fmt.LEAF_BLOCKS
        return self.slots_of(leaf)

    def _data(self, start: int, end: int) -> Iterator[Chunk]:
        """Give the data of a range."""
        leaves = self.tree().present(start // fmt.LEAF_BYTES, -(-end // fmt.LEAF_BYTES))
        wanted = (Wanted(number, leaf, _wanted(number, start, end)) for number, leaf in leaves)
        for filled in self._ahead.run(self._from(start, wanted)):
            if isinstance(filled, Filled):
                base = filled.item.number * fmt.LEAF_BYTES
                for first, behind in runs(filled.places):
                    low = max(base + first * fmt.BLOCK, start)
                    high = min(base + behind * fmt.BLOCK, end)
                    yield from _cut(low, high, filled.view, base)

    def differences(self, base: Stem) -> Iterator[Wanted | Zeroes]:
        """Tell what is not as in another tree of this repository."""
        other = Tree(self._records, base.root, base.size)
        return iter(Differences(self._records, self.tree(), other))

    def changed(self, base: Stem, *, block_size: int = fmt.BLOCK) -> Iterator[Chunk]:
        """Give what differs, data and zeroes, in whole blocks."""
        size = self.image.size
        wanted = (
            widened(item, block_size) if isinstance(item, Wanted) else item
            for item in self.differences(base)
        )
        for filled in self._ahead.run(self._from(0, wanted)):
            if isinstance(filled, Zeroes):
                start = filled.first * fmt.LEAF_BYTES
                yield Chunk(start, min(filled.end * fmt.LEAF_BYTES, size) - start, None)
            else:
                yield from _stated(filled, size)

    def _from(self, start: int, items: Iterable[Wanted | Zeroes]) -> Iterator[Wanted | Zeroes]:
        """Give the items; a node that is damaged leaves all behind ``start`` in doubt."""
        try:
            yield from items
        except Damaged as error:
            rest = -(-self.image.size // fmt.BLOCK) - start // fmt.BLOCK
            raise self._place.damaged(error, start, rest) from error


def tail_reader(
    parts: Parts, records: Records, point: str, name: str, root: bytes | None, size: int
) -> DedupDiskReader:
    """Read a long attachment: it is stored as a disk is."""
    disk = Disk(target=name, path=name, format="raw", kind=SourceKind.FILE, serial=name)
    decision = DiskDecision(
        name, Mode.FULL, Method.EVERYTHING, Reason.REQUESTED, base=None, bitmap=None
    )
    image = DiskImage(
        disk=disk,
        size=size,
        chain=(),
        decision=decision,
        parent=None,
        block_size=fmt.BLOCK,
        read_bytes=0,
        data_bytes=0,
        zero_bytes=0,
        stored_bytes=0,
        digest="",
    )
    return DedupDiskReader(parts, records, Place(point, image), root)


def _stated(filled: Filled, size: int) -> Iterator[Chunk]:
    """Give what is wanted of a leaf, as data and as zeroes, up to the disk's end."""
    base = filled.item.number * fmt.LEAF_BYTES
    data = set(filled.places)
    for is_data, group in groupby(filled.item.places, key=data.__contains__):
        for first, behind in runs(list(group)):
            low = base + first * fmt.BLOCK
            high = min(base + behind * fmt.BLOCK, size)
            if is_data:
                yield from _cut(low, high, filled.view, base)
            elif low < high:
                yield Chunk(low, high - low, None)


def _cut(low: int, high: int, view: memoryview, base: int) -> Iterator[Chunk]:
    """Give a range of data in chunks that are not too long."""
    for offset in range(low, high, _MOST):
        stop = min(offset + _MOST, high)
        yield Chunk(offset, stop - offset, view[offset - base : stop - base])


def _wanted(number: int, start: int, end: int) -> range:
    """Give the blocks of a leaf that a range touches."""
    base = number * fmt.LEAF_BYTES
    first = max(start - base, 0) // fmt.BLOCK
    behind = -(-min(end - base, fmt.LEAF_BYTES) // fmt.BLOCK)
    return range(first, behind)
