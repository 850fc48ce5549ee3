"""What of a disk reads as zero, known without reading it.

A range that is said to be zero is.  One that is not may be zero all the same: it has to be read to
know, and whoever reads it learns also where it is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Extent(NamedTuple):
    """One range of a disk."""

    start: int
    end: int
    zero: bool


def joined(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Join neighbours of one kind."""
    last: Extent | None = None
    for extent in extents:
        if last is not None and last.zero == extent.zero and last.end == extent.start:
            last = Extent(last.start, extent.end, last.zero)
            continue
        if last is not None:
            yield last
        last = extent
    if last is not None:
        yield last


def check_range(offset: int, end: int, size: int) -> None:
    """Refuse a range that is not inside a disk."""
    if not 0 <= offset <= end <= size:
        raise ValueError(f"{offset} to {end} is no range of a disk of {size} bytes")
