"""What to read of a disk: merging allocation and dirty extents, purely.

An NBD server answers two questions about a disk in runs that need not share
boundaries: which ranges read as zero (``base:allocation``) and which are dirty
(``qemu:dirty-bitmap:...``).  This module merges the two answers::

    allocation   |  data   |   zero        |  data     |
    dirty        | clean |   dirty   | clean    | dirty|
    full         | DATA    |   ZERO        |  DATA     |
    incremental  | -     |DA|  ZERO   | -         | DATA |

Rules that other tools learnt the hard way:

* dirty and zero is stored as zero: the older point has data there;
* a hole is not a zero: only the ZERO flag (bit 1) says how a range reads
  (NBD protocol, "base:allocation");
* an answer that leaves a gap, overlaps or stops short is an error, never
  "nothing changed".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

from sendense.errors import Unavailable
from sendense.units import round_down, round_up

STATE_ZERO = 2
"""``NBD_STATE_ZERO``: the range reads as zero."""
STATE_DIRTY = 1
"""Bit 0 of a ``qemu:dirty-bitmap`` answer: the range is dirty."""


@dataclass(frozen=True)
class Status:
    """One run of a block status answer: ``length`` bytes with the same flags."""

    length: int
    flags: int


@dataclass(frozen=True)
class Piece:
    """One range to store: data to be read, or zeroes to be stated."""

    start: int
    length: int
    zero: bool

    @property
    def end(self) -> int:
        """Give the offset behind the last byte."""
        return self.start + self.length

    def cut(self, length: int) -> tuple[Piece, Optional[Piece]]:
        """Give the first ``length`` bytes, and the rest if there is one."""
        if length >= self.length:
            return self, None
        rest = Piece(self.start + length, self.length - length, self.zero)
        return Piece(self.start, length, self.zero), rest


@dataclass(frozen=True)
class Flagged:
    """One range of the merged answers."""

    start: int
    length: int
    zero: bool
    dirty: bool

    @property
    def end(self) -> int:
        """Give the offset behind the last byte."""
        return self.start + self.length


def merge(
    start: int, length: int, allocation: Iterable[Status], dirty: Optional[Iterable[Status]]
) -> Iterator[Flagged]:
    """Merge the answers for one window; ``dirty`` is none for a full (all dirty).

    Answers may run over the window's end (they are cut), must not stop short.
    """
    bits = dirty if dirty is not None else [Status(length, STATE_DIRTY)]
    left = _Cursor("base:allocation", allocation)
    right = _Cursor("dirty bitmap", bits)
    position, end = start, start + length
    while position < end:
        step = min(left.remaining(), right.remaining(), end - position)
        yield Flagged(
            position, step, bool(left.flags & STATE_ZERO), bool(right.flags & STATE_DIRTY)
        )
        left.advance(step)
        right.advance(step)
        position += step


class _Cursor:
    """Walks over the runs of one answer."""

    def __init__(self, name: str, runs: Iterable[Status]) -> None:
        self._name = name
        self._runs = iter(runs)
        self._left = 0
        self.flags = 0

    def remaining(self) -> int:
        """Give the bytes left in the current run, fetching the next one at its end."""
        if self._left == 0:
            run = next(self._runs, None)
            if run is None or run.length <= 0:
                raise Unavailable(
                    f"the server's {self._name} answer ends before the range it was asked for",
                    hint="nothing was stored; run the backup again",
                )
            self._left, self.flags = run.length, run.flags
        return self._left

    def advance(self, step: int) -> None:
        """Leave ``step`` bytes behind."""
        self._left -= step


def pieces(flagged: Iterable[Flagged], *, block_size: int, size: int) -> Iterator[Piece]:
    """Turn merged ranges into whole blocks to store, in order, joined where they touch.

    ``flagged`` must ascend over the whole disk of ``size`` bytes.  A block with
    one dirty byte is dirty; a dirty block is zero only if all of it reads as zero.
    """
    return _join(
        Piece(item.start, item.length, item.zero)
        for item in blocks(flagged, block_size=block_size, size=size)
        if item.dirty
    )


def blocks(flagged: Iterable[Flagged], *, block_size: int, size: int) -> Iterator[Flagged]:
    """Cut ranges at block borders: whole blocks pass, the mixed ones are summed up.

    So a block is clean only if all of it is clean, and zero only if all of it
    reads as zero.
    """
    partial: Optional[_PartialBlock] = None
    for item in flagged:
        start = item.start
        if partial is not None:
            taken = min(item.end, partial.end) - start
            partial.add(item)
            start += taken
            if start < partial.end:
                continue
            yield partial.flagged()
            partial = None
        whole = item.end if item.end == size else round_down(item.end, block_size)
        if whole > start:
            yield Flagged(start, whole - start, item.zero, item.dirty)
            start = whole
        if start < item.end:
            partial = _PartialBlock(start, min(round_up(item.end, block_size), size))
            partial.add(item)
    if partial is not None:
        yield partial.flagged()


class _PartialBlock:
    """A block that several ranges share."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self._dirty = False
        self._zero = True

    def add(self, item: Flagged) -> None:
        self._dirty = self._dirty or item.dirty
        self._zero = self._zero and item.zero

    def flagged(self) -> Flagged:
        return Flagged(self.start, self.end - self.start, self._zero, self._dirty)


def _join(parts: Iterable[Piece]) -> Iterator[Piece]:
    """Join neighbours of one kind."""
    last: Optional[Piece] = None
    for part in parts:
        if last is not None and last.end == part.start and last.zero == part.zero:
            last = Piece(last.start, last.length + part.length, last.zero)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last
