"""From runs to figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.dedup.jobs import Run
from bench.figures import Better, Figure, Goal
from bench.timing import GIB, Cost, middle, rates
from sendense.units import MIB

MEMORY = Goal(256)


class Peer(NamedTuple):
    """Whom a figure is held against."""

    name: str
    costs: Sequence[Cost]


def costs(runs: Sequence[Run]) -> list[Cost]:
    """Give what runs took while the engine worked."""
    return [run.cost for run in runs]


def speed(
    name: str, amount: int, ours: Sequence[Cost], peer: Peer, goal: Goal | None = None
) -> Figure:
    """Give a figure in GiB/s of ``amount`` bytes."""
    runs, theirs = rates(ours, amount), rates(peer.costs, amount)
    return Figure(
        name,
        "GiB/s",
        Better.HIGHER,
        middle(runs) or 0.0,
        middle(theirs),
        peer.name,
        goal,
        runs,
        theirs,
    )


def processor(name: str, amount: int, ours: Sequence[Cost], peer: Peer) -> Figure:
    """Give a figure in seconds of processor time for a GiB."""
    runs, theirs = (
        [cost.processor_s * GIB / amount for cost in costs] for costs in (ours, peer.costs)
    )
    return less(f"{name}, processor time per GiB", "s", runs, theirs, peer.name)


def memory(name: str, ours: Sequence[Run]) -> Figure:
    """Give the most memory that any of the runs took."""
    peaks = tuple(run.peak / MIB for run in ours)
    return Figure(f"memory, {name}", "MiB", Better.LOWER, max(peaks), goal=MEMORY, runs=peaks)


def less(
    name: str,
    unit: str,
    ours: Sequence[float],
    theirs: Sequence[float] = (),
    peer: str | None = None,
) -> Figure:
    """Give a figure of something that is the better the less it is."""
    return Figure(
        name,
        unit,
        Better.LOWER,
        middle(ours) or 0.0,
        middle(theirs),
        peer,
        runs=tuple(ours),
        peer_runs=tuple(theirs),
    )


def single(
    name: str, unit: str, ours: float, *, goal: Goal | None = None, note: str = ""
) -> Figure:
    """Give a figure of something that is measured once, and the better the less it is."""
    return Figure(name, unit, Better.LOWER, ours, goal=goal, note=note)
