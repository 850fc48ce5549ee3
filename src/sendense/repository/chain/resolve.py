"""Which layer of a chain owns each byte of a disk: merging runs, purely.

A disk is a stack of layers, newest first.  A byte belongs to the first layer that
states it; one that no layer states reads as zero::

    layer 0 (newest)     | data |       | zero |
    layer 1       | data    | zero         | data |
    owner         | 1  |  0   |  1z |  - |  0z | 1  |

Layers may have different block sizes and different disk sizes (a disk grows): a
run ends where its layer's disk ended, and behind that the layer states nothing.

The work is one pass with two heaps, O(runs x log layers); recursion through the
layers would cost runs x layers, which hurts with a year of daily points.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol


class Stated(Protocol):
    """One range that a layer states."""

    @property
    def start(self) -> int:
        """Give the first byte."""

    @property
    def end(self) -> int:
        """Give the offset behind the last byte."""

    @property
    def zero(self) -> bool:
        """Tell whether it is stated to be zero."""


class Segment(NamedTuple):
    """One range with one owner."""

    start: int
    end: int
    layer: int | None
    """Index of the owner; none where no layer states the range."""
    zero: bool
    """Whether it reads as zero."""


def resolve(layers: Sequence[Iterable[Stated]], *, start: int, end: int) -> Iterator[Segment]:
    """Give the owner of every byte from ``start`` to ``end``, in order, joined where they touch.

    Each layer gives its ranges ascending; those before ``start`` are passed over.
    """
    last: Segment | None = None
    for segment in _sweep(layers, start, end):
        if last is not None and (last.layer, last.zero) == (segment.layer, segment.zero):
            last = Segment(last.start, segment.end, last.layer, last.zero)
            continue
        if last is not None:
            yield last
        last = segment
    if last is not None:
        yield last


def _sweep(layers: Sequence[Iterable[Stated]], start: int, end: int) -> Iterator[Segment]:
    """Go over the disk from border to border."""
    iterators = [iter(layer) for layer in layers]
    coming: list[tuple[int, int, Stated]] = []
    """The next range of each layer, by where it begins."""
    here: list[tuple[int, int, bool]] = []
    """What is stated at the position: layer, end, zero; the newest layer first."""
    for index, iterator in enumerate(iterators):
        _fetch(coming, iterator, index)
    position = start
    while position < end:
        while coming and coming[0][0] <= position:
            _, index, stated = heapq.heappop(coming)
            heapq.heappush(here, (index, stated.end, stated.zero))
            _fetch(coming, iterators[index], index)
        while here and here[0][1] <= position:
            heapq.heappop(here)
        border = min(end, coming[0][0]) if coming else end
        if here:
            index, stop, zero = here[0]
            border = min(border, stop)
            yield Segment(position, border, index, zero)
        else:
            yield Segment(position, border, None, zero=True)
        position = border


def _fetch(coming: list[tuple[int, int, Stated]], iterator: Iterator[Stated], index: int) -> None:
    stated = next(iterator, None)
    if stated is not None:
        heapq.heappush(coming, (stated.start, index, stated))
