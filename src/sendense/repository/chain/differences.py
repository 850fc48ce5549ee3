"""Where two disks of chains differ, told by their maps.

Both disks are resolved side by side.  A range that one layer owns in both is the same.  Blocks of
different layers are held against each other by their hashes, where these are of equal
blocks; where they are not, the range counts as different.  Maps lie beside the images, so nothing
is read for this but hashes.

Nothing is asked of how the two disks are related: hashes know no repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sendense.formats.blockmap import HASH_SIZE, NO_CONTENT
from sendense.repository.chain.layers import Layer
from sendense.repository.chain.resolve import Segment
from sendense.units import round_down, round_up

Range = tuple[int, int]
_HASHES_AT_ONCE = 8192


class Differences:
    """Compares the owners of a disk's ranges with those of another disk."""

    def __init__(self, own: list[Layer], other: list[Layer]) -> None:
        """Compare disks by their open layers, newest first."""
        self._own = own
        self._other = other

    def between(self, own: Iterable[Segment], other: Iterable[Segment]) -> Iterator[Range]:
        """Give the ranges that differ, in order; both name the same range, without a gap."""
        for first, second in _side_by_side(own, other):
            if first.zero or second.zero:
                if first.zero != second.zero:
                    yield first.start, first.end
                continue
            layer, beside = self._own[first.layer or 0], self._other[second.layer or 0]
            if layer.map.digest != beside.map.digest:
                yield from _by_hash(layer, beside, first.start, first.end)


def _side_by_side(
    own: Iterable[Segment], other: Iterable[Segment]
) -> Iterator[tuple[Segment, Segment]]:
    """Cut two rows of segments at each other's borders."""
    first, second = iter(own), iter(other)
    left, right = next(first, None), next(second, None)
    while left is not None and right is not None:
        end = min(left.end, right.end)
        yield left._replace(end=end), right._replace(end=end)
        left = left._replace(start=end) if left.end > end else next(first, None)
        right = right._replace(start=end) if right.end > end else next(second, None)


def _by_hash(own: Layer, other: Layer, start: int, end: int) -> Iterator[Range]:
    """Compare whole blocks of data; what is no whole block in both differs."""
    size = own.map.block_size
    if other.map.block_size != size:
        yield start, end
        return
    first = round_up(start, size)
    behind = end if end == own.map.size == other.map.size else round_down(end, size)
    if first >= behind:
        yield start, end
        return
    if start < first:
        yield start, first
    for position in range(first, behind, _HASHES_AT_ONCE * size):
        stop = min(behind, position + _HASHES_AT_ONCE * size)
        count = -(-(stop - position) // size)
        hashes = own.map.hashes(position, count), other.map.hashes(position, count)
        for block in _unequal(*hashes):
            low = position + block * size
            yield low, min(low + size, behind)
    if behind < end:
        yield behind, end


def _unequal(own: bytes, other: bytes) -> Iterator[int]:
    """Give the numbers of the hashes that do not prove equal content."""
    if own == other and NO_CONTENT not in own:
        return
    for number, place in enumerate(range(0, len(own), HASH_SIZE)):
        known = own[place : place + HASH_SIZE]
        if known != other[place : place + HASH_SIZE] or known == NO_CONTENT:
            yield number


def widened(ranges: Iterable[Range], block_size: int, size: int) -> Iterator[Range]:
    """Give whole blocks, joined where they touch, up to the disk's end."""
    last: Range | None = None
    for start, end in ranges:
        low, high = round_down(start, block_size), min(round_up(end, block_size), size)
        if last is not None and low <= last[1]:
            last = last[0], max(last[1], high)
            continue
        if last is not None:
            yield last
        last = low, high
    if last is not None:
        yield last
