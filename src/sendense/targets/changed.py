"""A disk restored by writing only what differs from what lies there.

The place is read over the connections that write to it, ahead and in order, and held against the
point.  Most of a disk that is taken back by a day is as it was: reading it costs the storage less
than writing it, keeps a QCOW2 image as small as it is, and sends what differs only.  A range that
reads as zero by the server's own word is not read, and needs no write where the point has zeroes.

Reads run ahead of writes and never over what was written, so nothing is compared with itself.
A run that died leaves a mixture of old and new, and the next one needs to know nothing of it: it
compares again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sendense.model.stream import Chunk
from sendense.targets.nbd import ExportDisk
from sendense.targets.readback import padded, whole
from sendense.targets.target import BLOCK
from sendense.transfer.comparing import compared


@dataclass(frozen=True)
class ChangedBytes:
    """What was found and written of one disk."""

    read_bytes: int
    """Of the place; what the server stated to be zero is not in it."""
    data_bytes: int
    zero_bytes: int


def write_changed(
    target: ExportDisk,
    chunks: Iterator[Chunk],
    *,
    size: int,
    on_step: Callable[[int, int], None] = lambda done, moved: None,
) -> ChangedBytes:
    """Bring ``target`` to hold a disk of ``size``, by what differs; its rest is made zero.

    ``on_step`` is told how many bytes are settled, and how many were read or written for it.
    The target was opened as one of the export's whole size.
    """
    source = target.source()
    count = _Counter()
    data_bytes = zero_bytes = moved = 0
    for item in compared(
        padded(chunks, size, source.size), count.counted(whole(source)), block_size=BLOCK
    ):
        if not item.same and item.data is None:
            target.zero(item.offset, item.length)
            zero_bytes += item.length
        elif item.data is not None:
            target.write(item.offset, item.data)
            data_bytes += item.length
        before, moved = moved, count.read_bytes + data_bytes
        on_step(item.length, moved - before)
    return ChangedBytes(count.read_bytes, data_bytes, zero_bytes)


class _Counter:
    """Counts the data that comes by."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def counted(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            if chunk.data is not None:
                self.read_bytes += chunk.length
            yield chunk
