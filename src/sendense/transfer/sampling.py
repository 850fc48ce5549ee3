"""Holding a dirty bitmap to its word: some of what it calls clean is read again.

A bitmap can be wrong without a sign (somebody disabled it for a while, a bug in
QEMU, a disk that shrank and grew again).  So each incremental re-reads
a few random blocks that the bitmap calls clean, and compares them with the last
point.  Random blocks of every run add up: what is wrong for long is found.

Most of the sample is taken from blocks with data, since most blocks of a thin
disk are holes, and some from those that read as zero, where data was discarded.
The disk is walked once with two reservoirs (algorithm L of Li, 1994), so the
memory is the sample's, whatever the number of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from sendense.model.export import DiskExport
from sendense.model.extents import Flagged, blocks
from sendense.model.stream import Buffer
from sendense.transfer.extents import flagged_ranges
from sendense.transfer.source import ReadOptions, Source, open_source
from sendense.units import KIB

BLOCK = 64 * KIB


class Older(Protocol):
    """The last point's image of the disk."""

    def matches(self, offset: int, data: Buffer) -> bool:
        """Tell whether ``data`` is what the disk held at ``offset``."""


@dataclass(frozen=True)
class Sample:
    """What a sample showed."""

    blocks: int
    """How many were compared."""
    changed_at: int | None
    """Offset of the first that differs; the bitmap is wrong there."""


def find_changed_sample(
    export: DiskExport,
    older: Older,
    *,
    count: int,
    random: Random,
    options: ReadOptions | None = None,
    check: Callable[[], None] = lambda: None,
) -> Sample:
    """Compare up to ``count`` random clean blocks with the last point; stop at a difference."""
    options = options or ReadOptions()
    with open_source(export, options, dirty=True, on_wait=check) as source:
        offsets = choose_clean_blocks(
            blocks(flagged_ranges(source, dirty=True), block_size=BLOCK, size=source.size),
            count=count,
            random=random,
        )
        for number, offset in enumerate(offsets):
            check()
            if not older.matches(offset, _read(source, offset)):
                return Sample(number + 1, offset)
    return Sample(len(offsets), None)


def _read(source: Source, offset: int) -> memoryview:
    return source.read(offset, min(BLOCK, source.size - offset))


def choose_clean_blocks(runs: Iterable[Flagged], *, count: int, random: Random) -> tuple[int, ...]:
    """Choose offsets of clean blocks out of runs of whole blocks; ascending."""
    with_data = _Reservoir(count - count // 4, random)
    without = _Reservoir(count // 4, random)
    for run in runs:
        if not run.dirty:
            (without if run.zero else with_data).add(run.start, -(-run.length // BLOCK))
    return tuple(sorted(with_data.offsets + without.offsets))


class _Reservoir:
    """A uniform sample of the blocks of runs whose number is known only at the end."""

    def __init__(self, size: int, random: Random) -> None:
        self.offsets: list[int] = []
        self._size = size
        self._random = random
        self._seen = 0
        self._weight = 1.0
        self._next = 0
        """Number of the next block that goes in."""

    def add(self, start: int, count: int) -> None:
        """Add a run of ``count`` blocks; costs nothing for those that are passed over."""
        if self._size == 0:
            return
        first, self._seen = self._seen, self._seen + count
        while self._next < self._seen:
            offset = start + (self._next - first) * BLOCK
            if len(self.offsets) < self._size:
                self.offsets.append(offset)
            else:
                self.offsets[self._random.randrange(self._size)] = offset
            self._next += 1 if len(self.offsets) < self._size else self._skip()

    def _skip(self) -> int:
        """Draw how far it is to the next block that goes in."""
        # random() may be 0, whose logarithm does not exist; 1 - random() may not.
        self._weight *= math.exp(math.log(1.0 - self._random.random()) / self._size)
        if self._weight >= 1.0:
            return 1
        passed = math.log(1.0 - self._random.random()) / math.log1p(-self._weight)
        return int(min(passed, 1 << 62)) + 1
