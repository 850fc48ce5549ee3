"""Comparing two readings of a disk, in lockstep and without keeping either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sendense.model.stream import Chunk
from sendense.units import MIB

_ZEROES = bytes(MIB)


@dataclass(frozen=True)
class Compared:
    """One range of two readings, and how they compare there."""

    offset: int
    length: int
    same: bool
    data: bytes | None = None
    """What is wanted there, where it is not found; none where that is zeroes."""


def compared(
    wanted: Iterator[Chunk], found: Iterator[Chunk], *, block_size: int
) -> Iterator[Compared]:
    """Walk over two readings of one disk, in order, and say of each range whether it is the same.

    Both must name the whole disk; zeroes may be stated in one and read in the other.  What
    differs is told in blocks, joined where they touch, of at most a MiB.
    """
    one, other = _Reading(wanted), _Reading(found)
    while one.remaining() and other.remaining():
        if one.offset != other.offset:
            break
        step, offset = min(one.remaining(), other.remaining()), one.offset
        if not (one.stated_zero and other.stated_zero):
            step = min(step, len(_ZEROES))
        left, right = one.take(step), other.take(step)
        if left == right:
            yield Compared(offset, step, same=True)
        else:
            yield from _by_blocks(offset, step, left, right, block_size)
    if one.remaining() or other.remaining():
        # To go on would leave what was not compared as it is.
        raise ValueError(f"two readings of a disk part at offset {one.offset} and {other.offset}")


def _by_blocks(
    offset: int, length: int, left: bytes | None, right: bytes | None, block_size: int
) -> Iterator[Compared]:
    """Cut a range that differs somewhere into runs of blocks of one kind."""
    begun = 0
    kind: tuple[bool, bool] | None = None
    for start in range(0, length, block_size):
        end = min(start + block_size, length)
        want, have = _part(left, start, end), _part(right, start, end)
        this = (want == have, want is None)
        if kind is not None and this != kind:
            yield _run(offset, begun, start, left, kind)
            begun = start
        kind = this
    if kind is not None:
        yield _run(offset, begun, length, left, kind)


def _run(
    offset: int, start: int, end: int, left: bytes | None, kind: tuple[bool, bool]
) -> Compared:
    same, zero = kind
    data = None if same or zero or left is None else left[start:end]
    return Compared(offset + start, end - start, same=same, data=data)


def _part(data: bytes | None, start: int, end: int) -> bytes | None:
    """Give a part of what a reading gave; none where it is zeroes."""
    if data is None:
        return None
    part = data[start:end]
    return None if part == _ZEROES[: end - start] else part


def first_difference(left: Iterator[Chunk], right: Iterator[Chunk]) -> int | None:
    """Give the offset near which two readings differ, or none.

    Both must name the whole disk in order; zeroes may be stated in one and read
    in the other.  The offset is exact to the chunk.
    """
    one, other = _Reading(left), _Reading(right)
    while one.remaining() and other.remaining():
        step = min(one.remaining(), other.remaining(), len(_ZEROES))
        if one.offset != other.offset:
            return min(one.offset, other.offset)
        if one.take(step) != other.take(step):
            return one.offset - step
    if one.remaining() or other.remaining():
        return min(one.offset, other.offset)
    return None


class _Reading:
    """Walks over chunks in steps of any length."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._chunk: Chunk | None = None
        self.offset = 0

    @property
    def stated_zero(self) -> bool:
        """Tell whether the current chunk is a statement of zeroes."""
        return self._chunk is not None and self._chunk.data is None

    def remaining(self) -> int:
        """Give the bytes left in the current chunk, fetching the next one; 0 at the end."""
        if self._chunk is None or self.offset >= self._chunk.end:
            self._chunk = next(self._chunks, None)
            if self._chunk is None:
                return 0
            self.offset = self._chunk.offset
        return self._chunk.end - self.offset

    def take(self, length: int) -> bytes | None:
        """Give the next bytes; none where they are zeroes, stated or read."""
        chunk = self._chunk
        if chunk is None:
            raise ValueError("there is no chunk left")
        start = self.offset - chunk.offset
        self.offset += length
        if chunk.data is None:
            return None
        # A copy: comparing memoryviews goes byte by byte (0.7 GiB/s), comparing bytes does not.
        data = bytes(memoryview(chunk.data)[start : start + length])
        return None if data == _ZEROES[:length] else data
