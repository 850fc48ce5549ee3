"""The map of a layer into which its child was merged.

The child's statements win; where it states nothing, the parent's stay, with the
hashes they had.  So a merge reads and trusts no data: a block that was damaged
before does not match its hash afterwards either.

Only where the old hashes do not fit the merged layer are blocks hashed anew, from
data that was read and checked through the child: where the child's blocks are
smaller and hide a part of a parent's block, where they are larger, and where the
parent's last block was cut by the end of a disk that grew.  A block that fails its
check there gets the hash that nothing has, and stays damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sendense.errors import Damaged
from sendense.formats.blockmap import NO_CONTENT, BlockMap, MapSummary, MapWriter
from sendense.repository.chain.reading import MOST, ResolvedDisk, hash_blocks
from sendense.repository.chain.resolve import Segment, resolve
from sendense.units import round_down, round_up

_HASHES_AT_ONCE = 8192


class Part(NamedTuple):
    """A range of whole blocks of the merged map."""

    start: int
    end: int
    owner: int | None
    """0 for the child, 1 for the parent; none for what neither states."""
    zero: bool
    rehash: bool


def plan(child: BlockMap, parent: BlockMap) -> Iterator[Part]:
    """Tell how each range of the merged map is made; blocks are the parent's size."""
    size, end = parent.block_size, child.size
    position = 0
    for segment in resolve([child.runs(), parent.runs()], start=0, end=end):
        start = max(segment.start, position)
        if start >= segment.end:
            continue
        whole_end = segment.end if segment.end == end else round_down(segment.end, size)
        if whole_end > start:
            yield _whole(segment, start, whole_end, (child, parent))
        position = whole_end
        if whole_end < segment.end:
            position = min(round_up(segment.end, size), end)
            yield Part(whole_end, position, segment.layer, zero=False, rehash=True)


def _whole(segment: Segment, start: int, end: int, maps: tuple[BlockMap, BlockMap]) -> Part:
    """Decide about whole blocks with one owner."""
    fits = segment.zero or maps[segment.layer or 0].block_size == maps[1].block_size
    return Part(start, end, segment.layer, zero=segment.zero, rehash=not fits)


def write_merged_map(
    path: Path, child: BlockMap, parent: BlockMap, *, open_child: Callable[[], ResolvedDisk]
) -> tuple[MapSummary, bool]:
    """Write the merged map; also tell whether a block had to be marked as damaged.

    ``open_child`` gives the child's disk, and is called only if a block has to be read.
    """
    path.unlink(missing_ok=True)
    size = parent.block_size
    writer = MapWriter(path, child.size, block_size=size)
    disk: ResolvedDisk | None = None
    broken = False
    try:
        for part in plan(child, parent):
            if part.rehash:
                disk = disk or open_child()
                broken |= _rehash(writer, disk, part, size)
            elif part.zero:
                if part.owner is not None:
                    writer.zero(part.start // size, -(-(part.end - part.start) // size))
            elif part.owner is not None:
                _copy(writer, (child, parent)[part.owner], part)
        return writer.finish(), broken
    finally:
        writer.abort()
        if disk is not None:
            disk.close()


def _copy(writer: MapWriter, source: BlockMap, part: Part) -> None:
    """Take hashes over as they are.  A part may span several runs of its owner."""
    size = source.block_size
    for run in source.runs(part.start):
        if run.start >= part.end:
            break
        start, end = max(run.start, part.start), min(run.end, part.end)
        for position in range(start, end, _HASHES_AT_ONCE * size):
            stop = min(end, position + _HASHES_AT_ONCE * size)
            writer.data(position // size, source.hashes(position, -(-(stop - position) // size)))


def _rehash(writer: MapWriter, disk: ResolvedDisk, part: Part, size: int) -> bool:
    """Hash blocks anew; tell whether one of them is damaged."""
    broken = False
    step = max(MOST, size)
    for start in range(part.start, part.end, step):
        end = min(start + step, part.end)
        try:
            writer.data(start // size, _hashes(disk, start, end, size))
        except Damaged:
            broken = True
            for block in range(start, end, size):
                writer.data(block // size, _hash_or_none(disk, block, min(block + size, end)))
    return broken


def _hash_or_none(disk: ResolvedDisk, start: int, end: int) -> bytes:
    try:
        return _hashes(disk, start, end, end - start)
    except Damaged:
        return NO_CONTENT


def _hashes(disk: ResolvedDisk, start: int, end: int, size: int) -> bytes:
    data = bytearray(end - start)
    for chunk in disk.read(start, end):
        if chunk.data is not None:
            data[chunk.offset - start : chunk.end - start] = chunk.data
    return hash_blocks(memoryview(data), size)
