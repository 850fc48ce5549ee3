"""Sinks that remember what they were given, and hold the giver to the contract."""

from __future__ import annotations


class MemorySink:
    """A disk in memory; what is not named keeps ``before``."""

    def __init__(self, size: int, *, block_size: int = 65536, before: bytes | None = None) -> None:
        self.block_size = block_size
        self.content = bytearray(before if before is not None else bytes(size))
        self.named: list[tuple[int, int, bool]] = []
        """Offset, length and whether it was stated to be zero."""
        self._position = 0

    def write(self, offset, data):
        self._advance(offset, len(data), zero=False)
        self.content[offset : offset + len(data)] = data

    def zero(self, offset, length):
        self._advance(offset, length, zero=True)
        self.content[offset : offset + length] = bytes(length)

    def _advance(self, offset: int, length: int, *, zero: bool) -> None:
        end, size = offset + length, len(self.content)
        assert length > 0
        assert offset >= self._position, "chunks ascend"
        assert offset % self.block_size == 0
        assert end % self.block_size == 0 or end == size
        assert end <= size
        self._position = end
        self.named.append((offset, length, zero))
