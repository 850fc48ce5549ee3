"""Reading a restored disk back: does the storage hold what was written to it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sendense.errors import Damaged
from sendense.model.decision import Method
from sendense.model.progress import ProgressListener
from sendense.model.restoring import DiskRestore
from sendense.model.stream import Chunk
from sendense.targets.qemunbd import QemuNbd
from sendense.targets.target import BLOCK
from sendense.transfer.comparing import first_difference
from sendense.transfer.extents import stored_pieces
from sendense.transfer.meter import Meter
from sendense.transfer.reader import read_pieces
from sendense.transfer.source import ReadOptions, Source, open_source


def ensure_reads_back(
    item: DiskRestore,
    expected: Iterator[Chunk],
    *,
    path: str,
    listener: ProgressListener,
    check: Callable[[], None],
) -> None:
    """Compare what ``path`` holds now with the chunks that were written; all of it.

    The comparison goes through QEMU, so it sees what a guest would see.
    """
    place, target = item.destination, item.image.disk.target
    options = ReadOptions()
    with (
        QemuNbd(
            path, image_format=place.format, writable=False, connections=options.connections
        ) as server,
        open_source(server.export(target, place.capacity), options, on_wait=check) as source,
    ):
        ensure_source_reads_back(item, expected, source, path=path, listener=listener, check=check)


def ensure_source_reads_back(
    item: DiskRestore,
    expected: Iterator[Chunk],
    source: Source,
    *,
    path: str,
    listener: ProgressListener,
    check: Callable[[], None],
) -> None:
    """Compare what an open export holds with the chunks that were written; all of it."""
    target = item.image.disk.target
    meter = Meter(listener, phase="read-back", subject=target, total=source.size)
    restored = _watched(whole(source), meter, check)
    offset = first_difference(padded(expected, item.image.size, source.size), restored)
    meter.finish()
    if offset is not None:
        raise Damaged(
            f"disk {target} reads back differently from what was written, at offset {offset}",
            hint=f"the storage under {path} does not keep what it is given",
            path=path,
            offset=offset,
        )


def whole(source: Source) -> Iterator[Chunk]:
    """Read all that an export holds, read ahead and in order; zeroes are stated."""
    pieces = stored_pieces(source, method=Method.EVERYTHING, block_size=BLOCK)
    return read_pieces(source, pieces, block_size=BLOCK)


def padded(chunks: Iterator[Chunk], size: int, capacity: int) -> Iterator[Chunk]:
    """Add the zeroes that a larger destination holds behind the disk's end."""
    yield from chunks
    if capacity > size:
        yield Chunk(size, capacity - size, None)


def _watched(chunks: Iterator[Chunk], meter: Meter, check: Callable[[], None]) -> Iterator[Chunk]:
    for chunk in chunks:
        check()
        yield chunk
        meter.add(chunk.length)
