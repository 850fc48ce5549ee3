"""Which points of a machine stay and which go, each with its reason.

Pure: the same value is what ``sendense prune --dry-run`` prints, what a prune
carries out, and what the tests hold to its promises.  Whatever the rules say:

* Only points that are complete count.  A damaged one never takes the place of a
  good one, and it goes once all points that are kept are newer.
* A machine keeps its newest good point, and so does each disk that the machine
  has now: a run of ``--include vda`` backups must not cost the last of ``vdb``.
* A machine without any good point loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional

from sendense.errors import Rejected
from sendense.model.point import PointState, RecoveryPoint


@dataclass(frozen=True)
class KeepRules:
    """What is kept; a point stays if any rule keeps it."""

    last: int = 0
    """The newest so many good points."""
    within: Optional[timedelta] = None
    """All good points younger than this."""

    def __post_init__(self) -> None:
        """Refuse rules that keep nothing: that is a deletion, and is asked for by name."""
        if self.last < 0 or (self.within is not None and self.within < timedelta(0)):
            raise Rejected("a retention rule cannot be negative")
        if self.last == 0 and self.within is None:
            raise Rejected(
                "no retention rule is given",
                hint="say how many points to keep; 'sendense points delete' deletes by name",
            )


@dataclass(frozen=True)
class Verdict:
    """What happens to one point, and why."""

    point_id: str
    keep: bool
    reason: str


def plan_retention(
    points: Iterable[RecoveryPoint], rules: KeepRules, now: datetime
) -> tuple[Verdict, ...]:
    """Judge every point, machine by machine, oldest first."""
    machines: dict[str, list[RecoveryPoint]] = {}
    for point in points:
        machines.setdefault(point.machine.uuid, []).append(point)
    return tuple(
        verdict
        for uuid in sorted(machines)
        for verdict in _judge(sorted(machines[uuid], key=_sequence), rules, now)
    )


def _sequence(point: RecoveryPoint) -> int:
    return point.sequence


def _judge(points: Sequence[RecoveryPoint], rules: KeepRules, now: datetime) -> tuple[Verdict, ...]:
    """Judge the points of one machine, which come in their order."""
    good = [point for point in points if point.state is PointState.COMPLETE]
    if not good:
        return tuple(
            Verdict(point.id, True, "no good point is left to rely on") for point in points
        )
    kept = {**_last_of_disks(points[-1], good), **_kept_by_rules(good, rules, now)}
    oldest = min(point.sequence for point in good if point.id in kept)
    return tuple(_verdict(point, kept, oldest=oldest) for point in points)


def _kept_by_rules(
    good: Sequence[RecoveryPoint], rules: KeepRules, now: datetime
) -> dict[str, str]:
    """Give the points that a rule keeps, each with its reason."""
    kept = {good[-1].id: "the last good point"}
    if rules.within is not None:
        for point in good:
            if now - point.taken_at < rules.within:
                kept[point.id] = f"younger than {_duration(rules.within)}"
    for place, point in enumerate(reversed(good[-rules.last :] if rules.last else ()), start=1):
        kept[point.id] = f"number {place} of the last {rules.last}"
    return kept


def _last_of_disks(newest: RecoveryPoint, good: Sequence[RecoveryPoint]) -> dict[str, str]:
    """Give the points that hold the last good image of a disk that the machine still has."""
    kept: dict[str, str] = {}
    for disk in newest.machine.disks:
        holder = next((point for point in reversed(good) if point.image_of(disk.identity)), None)
        if holder is not None:
            kept[holder.id] = f"holds the last good image of {disk.target}"
    return kept


def _verdict(point: RecoveryPoint, kept: dict[str, str], *, oldest: int) -> Verdict:
    if point.id in kept:
        return Verdict(point.id, True, kept[point.id])
    if point.state is PointState.COMPLETE:
        return Verdict(point.id, False, "no rule keeps it")
    if point.sequence > oldest:
        return Verdict(point.id, True, "damaged, but newer than the oldest point that is kept")
    return Verdict(point.id, False, "damaged, and older than all points that are kept")


def _duration(span: timedelta) -> str:
    hours = int(span.total_seconds() // 3600)
    return f"{hours // 24} days" if hours and hours % 24 == 0 else f"{hours} hours"
