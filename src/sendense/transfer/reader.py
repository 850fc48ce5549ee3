"""The pieces of a disk as chunks: read ahead, delivered in order.

A window of slots runs ahead of the caller: each slot is a stretch of data on its
way into memory, or a statement of zeroes, which takes none.  The caller gets the oldest
slot as soon as it is there.  The memory is one of a fixed set of buffers, used again when
the next chunk is asked for, or room that whoever takes the chunks gave for them.  So it
is bounded, and nothing is copied on the way from the socket to the sink.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sendense.model.extents import Piece
from sendense.model.stream import Chunk
from sendense.transfer.pipeline import Command
from sendense.transfer.source import Source
from sendense.units import round_up

_REQUESTS = 2
"""Of one slot in room that was given."""

Room = Callable[[int, int], "memoryview | None"]
"""Gives memory for an offset and a length; see :meth:`sendense.model.stream.RoomySink.room`."""


@dataclass(frozen=True)
class _Slot:
    """A piece on its way."""

    piece: Piece
    view: memoryview | None = None
    commands: tuple[Command, ...] = ()
    buffer: memoryview | None = None
    """What ``view`` is a part of, where it is used again."""


def read_pieces(
    source: Source, pieces: Iterable[Piece], *, block_size: int, room: Room | None = None
) -> Iterator[Chunk]:
    """Read pieces ahead and give them as chunks, in order.

    Data comes in chunks of at most the request size (rounded to whole blocks), and is valid
    until the next chunk is asked for.  With ``room`` it comes in there, and stays.
    """
    options = source.options
    most = round_up(min(options.request_bytes, source.terms.maximum), block_size)
    count = source.pipe.connections * options.in_flight
    memory: _Memory
    if room is not None and block_size % source.terms.minimum == 0:
        memory = _GivenRoom(source, room, most=most, count=count)
    else:
        memory = _OwnBuffers(source, most=most, count=count)
    window = _Window(memory, iter(pieces), most=4 * count)
    while (slot := window.next()) is not None:
        # The last one first: when that is there, so are the others, and we sleep but once.
        for command in reversed(slot.commands):
            source.pipe.wait(command)
        yield Chunk(slot.piece.start, slot.piece.length, slot.view)
        memory.release(slot)


class _Memory(Protocol):
    """Where the data comes in."""

    def read(self, piece: Piece) -> _Slot | None:
        """Begin to read the beginning of a piece, if there is memory for it."""

    def release(self, slot: _Slot) -> None:
        """Take note that a slot was delivered."""


class _OwnBuffers:
    """Buffers of our own, used again and again."""

    def __init__(self, source: Source, *, most: int, count: int) -> None:
        self._source = source
        self._most = most
        # A piece may have to be widened at both ends to what the server accepts.
        length = most + 2 * source.terms.minimum
        self._free = [memoryview(bytearray(length)) for _ in range(count)]

    def read(self, piece: Piece) -> _Slot | None:
        if not self._free:
            return None
        first, _ = piece.cut(self._most)
        buffer = self._free.pop()
        start, end = self._source.aligned(first.start, first.end)
        commands = self._source.submit_read(buffer[: end - start], start)
        lead = first.start - start
        return _Slot(first, buffer[lead : lead + first.length], tuple(commands), buffer)

    def release(self, slot: _Slot) -> None:
        if slot.buffer is not None:
            self._free.append(slot.buffer)


class _GivenRoom:
    """Memory of the sink; no more is asked for at once than we had buffers.

    A slot takes several requests, so that who takes its chunk is woken once for all of them.
    """

    def __init__(self, source: Source, room: Room, *, most: int, count: int) -> None:
        self._source = source
        self._room = room
        self._most = most
        self._requests = min(_REQUESTS, count)
        self._left = count // self._requests

    def read(self, piece: Piece) -> _Slot | None:
        if not self._left:
            return None
        view = self._room(piece.start, min(piece.length, self._requests * self._most))
        if view is None:
            return None
        self._left -= 1
        first, _ = piece.cut(len(view))
        commands: list[Command] = []
        for start in range(0, len(view), self._most):
            part = view[start : start + self._most]
            commands += self._source.submit_read(part, first.start + start)
        return _Slot(first, view, tuple(commands))

    def release(self, slot: _Slot) -> None:
        if slot.view is not None:
            self._left += 1


class _Window:
    """The slots between what was asked for and what was delivered."""

    def __init__(self, memory: _Memory, pieces: Iterator[Piece], *, most: int) -> None:
        self._memory = memory
        self._pieces = pieces
        self._slots: deque[_Slot] = deque()
        self._most = most
        self._rest: Piece | None = None
        """What is to be asked for next, of a piece that was begun."""

    def next(self) -> _Slot | None:
        """Fill up the window and give its oldest slot."""
        while len(self._slots) < self._most and (slot := self._begun()) is not None:
            self._slots.append(slot)
        if self._slots:
            return self._slots.popleft()
        if self._rest is not None:
            # To end here would store a disk without its end, whose rest then reads as zero.
            raise RuntimeError(f"there is no memory for what comes at {self._rest.start}")
        return None

    def _begun(self) -> _Slot | None:
        """Begin the next piece, or as much of it as there is memory for."""
        piece = self._rest if self._rest is not None else next(self._pieces, None)
        self._rest = piece
        if piece is None:
            return None
        slot = _Slot(piece) if piece.zero else self._memory.read(piece)
        if slot is not None:
            _, self._rest = piece.cut(slot.piece.length)
        return slot
