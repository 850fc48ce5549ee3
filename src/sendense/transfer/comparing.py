"""Comparing two readings of a disk, in lockstep and without keeping either."""

from __future__ import annotations

from collections.abc import Iterator

from sendense.model.stream import Chunk
from sendense.units import MIB

_ZEROES = bytes(MIB)


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
