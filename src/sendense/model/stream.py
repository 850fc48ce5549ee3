"""How the bytes of a disk flow: chunks in, in order, through to a sink.

A disk is read as a run of chunks with ascending, non-overlapping offsets.  A
chunk is either data or a statement that a range is zero; a range that no chunk
names is *unchanged* in an incremental, and zero in a full.  In order means
that writers need no map of the whole disk in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol, Union, runtime_checkable

Buffer = Union[bytes, bytearray, memoryview]


@dataclass(frozen=True)
class Chunk:
    """One range of a disk: its bytes, or the statement that it reads as zero."""

    offset: int
    length: int
    data: Optional[Buffer]
    """``length`` bytes, or none for zeroes."""

    @property
    def end(self) -> int:
        """Give the offset behind the last byte."""
        return self.offset + self.length


class BlockSink(Protocol):
    """Where a disk is written: an image in a repository, a file, a device, an NBD server.

    Calls come from one thread, with ascending, non-overlapping offsets.  The
    sink must not keep ``data`` after the call returns.
    """

    block_size: int
    """Offsets and lengths are multiples of this, save for a length that ends at the disk's end."""

    def write(self, offset: int, data: Buffer) -> None:
        """Put ``data`` at ``offset``."""

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zero, whatever lies under it."""


@runtime_checkable
class RoomySink(BlockSink, Protocol):
    """A sink that has data put straight into its own memory, which saves a copy."""

    def room(self, offset: int, length: int) -> Optional[memoryview]:
        """Give memory for data that :meth:`write` will be called with, in the order of asking.

        It is for ``length`` bytes from ``offset`` on, or for the first of them.  Fill it, and
        then write exactly it: the very object that was given.  Without an answer there is no room
        before what was asked for earlier is written; when all of that is, there is an answer,
        for which the call may wait.  What nobody can finish filling ends with the sink.

        Only for a disk of which everything comes by.
        """


def deliver(chunk: Chunk, sink: BlockSink) -> None:
    """Hand one chunk to a sink."""
    if chunk.data is None:
        sink.zero(chunk.offset, chunk.length)
    else:
        sink.write(chunk.offset, chunk.data)
