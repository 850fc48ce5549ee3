"""A stream of chunks, cut so that each is made of whole blocks.

A reader cuts its chunks where it suits what it reads: a chain of QCOW2 files by blocks of 4 KiB,
say.  A sink that hashes blocks of 64 KiB takes whole ones only.  Where a border lies inside a
block, that block is put together here; all else passes through uncopied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sendense.model.stream import Chunk
from sendense.units import round_down


def whole_blocks(chunks: Iterable[Chunk], block_size: int) -> Iterator[Chunk]:
    """Give chunks that begin and end at multiples of ``block_size``, or at the disk's end.

    Where chunks do not follow each other, the border has to be such a multiple already.  What is
    given is valid until the next is asked for.
    """
    held = _Block(block_size)
    for chunk in chunks:
        position = chunk.offset
        if held.length and position != held.end:
            raise ValueError(f"a range ends at {held.end}, inside a block of {block_size}")
        while position < chunk.end:
            end = round_down(chunk.end, block_size)
            if not held.length and position % block_size == 0 and end > position:
                yield _part(chunk, position, end)
            else:
                end = min(chunk.end, round_down(position, block_size) + block_size)
                held.add(_part(chunk, position, end))
                if end % block_size == 0:
                    yield held.take()
            position = end
    if held.length:
        yield held.take()


def _part(chunk: Chunk, start: int, end: int) -> Chunk:
    data = None
    if chunk.data is not None:
        data = memoryview(chunk.data)[start - chunk.offset : end - chunk.offset]
    return Chunk(start, end - start, data)


class _Block:
    """A block that is put together."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._buffer = bytearray(size)
        self._start = 0
        self._zero = True
        self.length = 0

    @property
    def end(self) -> int:
        """Give the offset behind what is here."""
        return self._start + self.length

    def add(self, chunk: Chunk) -> None:
        """Put a piece behind the others."""
        if not self.length:
            if chunk.offset % self._size:
                raise ValueError(f"a range begins at {chunk.offset}, inside a block")
            self._start, self._zero = chunk.offset, True
        content = bytes(chunk.length) if chunk.data is None else chunk.data
        self._buffer[self.length : self.length + chunk.length] = content
        self._zero = self._zero and chunk.data is None
        self.length += chunk.length

    def take(self) -> Chunk:
        """Give what is here, and begin anew."""
        length, self.length = self.length, 0
        data = None if self._zero else memoryview(self._buffer)[:length]
        return Chunk(self._start, length, data)
