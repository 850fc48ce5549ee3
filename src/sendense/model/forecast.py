"""What retention will have kept at a moment to come, if a point is made every so often.

A rule such as "14 daily, 12 monthly" is easily written, and what it leaves is easily got
wrong.  Here the points of the future are made up, and all are judged as of that moment.
Since pruning every day leaves what pruning once leaves (see ``retention``), this is what a
machine will have that is pruned after every point.

A made-up point is like the newest good one of its machine, with an id that no real
point can have.  Machines without any point stay without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sendense.errors import Rejected
from sendense.model.hold import Hold
from sendense.model.point import PointState, RecoveryPoint
from sendense.model.retention import KeepRules, Verdict, plan_retention

MOST_POINTS = 100_000
"""That are made up: more take long to judge, and nobody reads them."""


@dataclass(frozen=True)
class Schedule:
    """When points will be made."""

    start: datetime
    """Nothing is made up until then; usually now."""
    every: timedelta

    def __post_init__(self) -> None:
        """Refuse a schedule that never gets on."""
        if self.every <= timedelta(0):
            raise Rejected("a schedule needs a time between two points")

    def moments(self, until: datetime) -> Iterator[datetime]:
        """Give the times of the points up to a moment."""
        for number in range(1, self.count(until) + 1):
            yield self.start + number * self.every

    def count(self, until: datetime) -> int:
        """Give how many points come up to a moment."""
        return max((until - self.start) // self.every, 0)


@dataclass(frozen=True)
class Foreseen:
    """A point, and what will have happened to it."""

    point: RecoveryPoint
    simulated: bool
    """Whether it is made up."""
    verdict: Verdict


def forecast(
    points: Iterable[RecoveryPoint],
    rules: KeepRules,
    schedule: Schedule,
    until: datetime,
    holds: Iterable[Hold] = (),
) -> tuple[Foreseen, ...]:
    """Judge the points that there are, and those that will be made until then."""
    existing = tuple(points)
    simulated = _simulated(existing, schedule, until)
    known = {point.id: point for point in (*existing, *simulated)}
    made_up = {point.id for point in simulated}
    return tuple(
        Foreseen(known[verdict.point_id], verdict.point_id in made_up, verdict)
        for verdict in plan_retention(known.values(), rules, until, holds)
    )


def _simulated(
    points: Sequence[RecoveryPoint], schedule: Schedule, until: datetime
) -> tuple[RecoveryPoint, ...]:
    machines: dict[str, list[RecoveryPoint]] = {}
    for point in sorted(points, key=lambda item: item.sequence):
        machines.setdefault(point.machine.uuid, []).append(point)
    if schedule.count(until) * len(machines) > MOST_POINTS:
        raise Rejected(
            f"that makes more than {MOST_POINTS} points to foresee",
            hint="name one machine, a nearer date or a longer time between two points",
        )
    return tuple(
        point for mine in machines.values() for point in _simulated_of_one(mine, schedule, until)
    )


def _simulated_of_one(
    points: Sequence[RecoveryPoint], schedule: Schedule, until: datetime
) -> Iterator[RecoveryPoint]:
    """Make up the points of one machine, whose points come in their order."""
    newest = points[-1]
    good = [point for point in points if point.state is PointState.COMPLETE]
    pattern = good[-1] if good else newest
    for number, moment in enumerate(schedule.moments(until), start=1):
        yield replace(
            pattern,
            id=f"+{number}@{newest.machine.uuid}",
            sequence=newest.sequence + number,
            machine=newest.machine,
            attachments=(),  # a safety point that the newest is would make all of them such
            taken_at=moment,
            state=PointState.COMPLETE,
        )
