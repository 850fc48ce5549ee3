"""The pieces of a disk as chunks: read ahead, delivered in order.

A window of slots runs ahead of the caller: each slot is a stretch of data on its
way into one of a fixed set of buffers, or a statement of zeroes, which takes
none.  The caller gets the oldest slot as soon as it is there; its buffer is used
again when the next chunk is asked for.  So the memory is bounded by the number
of buffers, and nothing is copied on the way from the socket to the sink.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sendense.model.extents import Piece, split
from sendense.model.stream import Chunk
from sendense.transfer.pipeline import Command
from sendense.transfer.source import Source
from sendense.units import round_up


@dataclass(frozen=True)
class _Slot:
    """A piece on its way; ``view`` is its part of ``buffer``."""

    piece: Piece
    buffer: bytearray | None = None
    view: memoryview | None = None
    commands: tuple[Command, ...] = ()


def read_pieces(source: Source, pieces: Iterable[Piece], *, block_size: int) -> Iterator[Chunk]:
    """Read pieces ahead and give them as chunks, in order.

    Data comes in chunks of at most the request size (rounded to whole blocks),
    and is valid until the next chunk is asked for.
    """
    options = source.options
    most = round_up(min(options.request_bytes, source.terms.maximum), block_size)
    window = _Window(
        source,
        split(pieces, most=most),
        count=source.pipe.connections * options.in_flight,
        # A piece may have to be widened at both ends to what the server accepts.
        length=most + 2 * source.terms.minimum,
    )
    while (slot := window.next()) is not None:
        for command in slot.commands:
            source.pipe.wait(command)
        yield Chunk(slot.piece.start, slot.piece.length, slot.view)
        window.release(slot)


class _Window:
    """The slots between what was asked for and what was delivered."""

    def __init__(self, source: Source, pieces: Iterator[Piece], *, count: int, length: int) -> None:
        self._source = source
        self._pieces = pieces
        self._slots: deque[_Slot] = deque()
        self._most_slots = 4 * count
        self._free = [bytearray(length) for _ in range(count)]

    def next(self) -> _Slot | None:
        """Fill up the window and give its oldest slot."""
        while self._free and len(self._slots) < self._most_slots:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._slots.append(self._slot(piece))
        return self._slots.popleft() if self._slots else None

    def release(self, slot: _Slot) -> None:
        """Take a delivered slot's buffer back."""
        if slot.buffer is not None:
            self._free.append(slot.buffer)

    def _slot(self, piece: Piece) -> _Slot:
        if piece.zero:
            return _Slot(piece)
        buffer = self._free.pop()
        start, end = self._source.aligned(piece.start, piece.end)
        commands = self._source.submit_read(memoryview(buffer)[: end - start], start)
        lead = piece.start - start
        view = memoryview(buffer)[lead : lead + piece.length]
        return _Slot(piece, buffer, view, tuple(commands))
