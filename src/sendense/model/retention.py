"""Which points of a machine stay and which go, each with its reasons.

Pure: the same value is what ``sendense prune --dry-run`` prints, what a prune
carries out, and what the tests hold to its promises.

The rules are those that operators know: the newest N, all that are younger than a span,
and for hours, days, weeks, months and years the newest point of each of the newest N
periods *that have a point*.  A machine that was off for a month keeps as many monthlies
as one that was not.  A point stays if any rule keeps it, so each rule only adds.

"Newest" goes by the order of the points, the period by their time: a point that was
taken under a wrong clock takes one place, and leaves it when newer ones come.

What was removed would not be kept later, and does not change what is kept: pruning every
day leaves the same as pruning once at the end.

Whatever the rules say:

* Only points that are complete count.  A damaged one never takes the place of a
  good one, and it goes once all points that are kept are newer.
* A machine keeps its newest good point, and so does each disk that the machine
  has now: a run of ``--include vda`` backups must not cost the last of ``vdb``.
* A machine without any good point loses nothing.
* A point that is pinned or locked stays.  In the rules it counts as any other, so a
  hold adds to what is kept, and never takes anything from it.
* A safety point, which undoes a restore, stays for a span of its own, and while that restore
  is not finished.  It takes no place in the rules: what a restore was to do away with must not
  push out the backup of that day.  Nor is it what a machine relies on: the newest good point
  that is none stays as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from types import MappingProxyType
from typing import Optional

from sendense.errors import Rejected
from sendense.model.hold import Hold, holds_in_force
from sendense.model.periods import UTC, PeriodKind, find_zone, local_time, period_name
from sendense.model.point import PointState, RecoveryPoint
from sendense.units import format_span

Holds = Mapping[str, Sequence[Hold]]
SAFETY_SPAN = timedelta(days=14)
"""How long a safety point stays where nothing else is said."""
_NONE = timedelta(0)
_Kept = tuple[str, str]
"""The id of a point, and a reason for which it stays."""


@dataclass(frozen=True)
class KeepRules:
    """What is kept; a point stays if any rule keeps it."""

    last: int = 0
    """The newest so many good points."""
    hourly: int = 0
    """The newest good point of each of the newest so many hours that have one."""
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Optional[timedelta] = None
    """All good points younger than this."""
    timezone: str = UTC
    """Whose hours, days and so on: an IANA name."""
    safety: timedelta = SAFETY_SPAN
    """Safety points younger than this; no other rule keeps them."""

    def __post_init__(self) -> None:
        """Refuse rules that keep nothing: that is a deletion, and is asked for by name."""
        counts = (self.last, *self.counts.values())
        if min(counts) < 0 or min(self.within or _NONE, self.safety) < _NONE:
            raise Rejected("a retention rule cannot be negative")
        if max(counts) == 0 and self.within is None:
            raise Rejected(
                "no retention rule is given",
                hint="say how many points to keep, by an option or in the settings; "
                "'sendense points delete' deletes by name",
            )
        find_zone(self.timezone)

    @property
    def counts(self) -> dict[PeriodKind, int]:
        """Give how many periods of each kind keep a point."""
        return {
            PeriodKind.HOUR: self.hourly,
            PeriodKind.DAY: self.daily,
            PeriodKind.WEEK: self.weekly,
            PeriodKind.MONTH: self.monthly,
            PeriodKind.YEAR: self.yearly,
        }

    @property
    def words(self) -> str:
        """Say what the rules are: ``last 7, daily 14 (Europe/Berlin)``."""
        named = {"last": self.last, **{kind.value: n for kind, n in self.counts.items()}}
        said = [f"{name} {count}" for name, count in named.items() if count]
        if self.within is not None:
            said.append(f"younger than {format_span(self.within)}")
        return f"{', '.join(said)} ({self.timezone})"


@dataclass(frozen=True)
class Verdict:
    """What happens to one point, and why."""

    point_id: str
    keep: bool
    reasons: tuple[str, ...]
    """All of them: each rule, promise and hold that keeps the point, or the one why it goes."""

    @property
    def reason(self) -> str:
        """Give the reasons as one line."""
        return "; ".join(self.reasons)


def plan_retention(
    points: Iterable[RecoveryPoint],
    rules: KeepRules,
    now: datetime,
    holds: Iterable[Hold] = (),
    *,
    needed: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Verdict, ...]:
    """Judge every point, machine by machine, oldest first.

    ``needed`` are points that work under way relies on, by id, each with what to say of it.
    """
    in_force = holds_in_force(holds, now)
    machines: dict[str, list[RecoveryPoint]] = {}
    for point in points:
        machines.setdefault(point.machine.uuid, []).append(point)
    return tuple(
        verdict
        for uuid in sorted(machines)
        for verdict in _judge(sorted(machines[uuid], key=_sequence), rules, now, in_force, needed)
    )


def _sequence(point: RecoveryPoint) -> int:
    return point.sequence


def _judge(
    points: Sequence[RecoveryPoint],
    rules: KeepRules,
    now: datetime,
    holds: Holds,
    needed: Mapping[str, str],
) -> tuple[Verdict, ...]:
    """Judge the points of one machine, which come in their order."""
    good = [point for point in points if point.state is PointState.COMPLETE]
    if not good:
        kept = _collected(_without_a_good_one(points), _by_holds(points, rules, holds))
        return tuple(Verdict(point.id, True, kept[point.id]) for point in points)
    plain = [point for point in good if not point.is_safety]
    kept = _collected(
        _by_number(plain, rules),
        _by_period(plain, rules),
        _by_age(plain, rules, now),
        _safety_points(points, rules, now),
        _needed(points, needed),
        _last_good(good, plain),
        _last_of_disks(points[-1], good),
        _last_of_disks(points[-1], plain),
        _by_holds(points, rules, holds),
    )
    oldest = min(point.sequence for point in good if point.id in kept)
    return tuple(_verdict(point, kept, oldest=oldest) for point in points)


def _collected(*parts: Iterator[_Kept]) -> dict[str, tuple[str, ...]]:
    """Give all reasons of each point, each once."""
    kept: dict[str, dict[str, None]] = {}
    for point_id, reason in chain(*parts):
        kept.setdefault(point_id, {})[reason] = None
    return {point_id: tuple(reasons) for point_id, reasons in kept.items()}


def _by_number(good: Sequence[RecoveryPoint], rules: KeepRules) -> Iterator[_Kept]:
    """Keep the newest points."""
    for place, point in enumerate(reversed(good[-rules.last :] if rules.last else ()), start=1):
        yield point.id, f"number {place} of the last {rules.last}"


def _by_period(good: Sequence[RecoveryPoint], rules: KeepRules) -> Iterator[_Kept]:
    """Keep the newest point of each of the newest periods that have one."""
    zone = find_zone(rules.timezone)
    newest_first = [(point, local_time(point.taken_at, zone)) for point in reversed(good)]
    for kind, count in rules.counts.items():
        seen: set[str] = set()
        for point, local in newest_first if count else ():
            name = period_name(kind, local)
            if name not in seen:
                seen.add(name)
                yield point.id, f"{kind.value} {name}"
            if len(seen) == count:
                break


def _by_age(good: Sequence[RecoveryPoint], rules: KeepRules, now: datetime) -> Iterator[_Kept]:
    """Keep young points."""
    if rules.within is not None:
        for point in good:
            if now - point.taken_at < rules.within:
                yield point.id, f"younger than {format_span(rules.within)}"


def _safety_points(
    points: Sequence[RecoveryPoint], rules: KeepRules, now: datetime
) -> Iterator[_Kept]:
    """Keep what undoes the restores of late, be it good or damaged."""
    for point in points:
        if point.is_safety and now - point.taken_at < rules.safety:
            yield point.id, f"undoes a restore, and younger than {format_span(rules.safety)}"


def _needed(points: Sequence[RecoveryPoint], needed: Mapping[str, str]) -> Iterator[_Kept]:
    for point in points:
        if point.id in needed:
            yield point.id, needed[point.id]


def _last_good(good: Sequence[RecoveryPoint], plain: Sequence[RecoveryPoint]) -> Iterator[_Kept]:
    yield good[-1].id, "the last good point"
    if good[-1].is_safety and plain:
        yield plain[-1].id, "the last good point that is no safety point"


def _last_of_disks(newest: RecoveryPoint, good: Sequence[RecoveryPoint]) -> Iterator[_Kept]:
    """Keep the last good image of each disk that the machine still has."""
    holders: dict[str, list[str]] = {}
    for disk in newest.machine.disks:
        holder = next((point for point in reversed(good) if point.image_of(disk.identity)), None)
        if holder is not None:
            holders.setdefault(holder.id, []).append(disk.target)
    for point_id, targets in holders.items():
        yield point_id, f"holds the last good image of {', '.join(targets)}"


def _by_holds(points: Sequence[RecoveryPoint], rules: KeepRules, holds: Holds) -> Iterator[_Kept]:
    """Keep what is pinned or locked, be it good or damaged."""
    zone = find_zone(rules.timezone)
    for point in points:
        for hold in holds.get(point.id, ()):
            yield point.id, hold.reason(zone)


def _without_a_good_one(points: Sequence[RecoveryPoint]) -> Iterator[_Kept]:
    for point in points:
        yield point.id, "no good point is left to rely on"


def _verdict(point: RecoveryPoint, kept: Mapping[str, tuple[str, ...]], *, oldest: int) -> Verdict:
    if point.id in kept:
        return Verdict(point.id, True, kept[point.id])
    if point.state is PointState.COMPLETE:
        reason = "a safety point whose time is over" if point.is_safety else "no rule keeps it"
        return Verdict(point.id, False, (reason,))
    if point.sequence > oldest:
        reason = "damaged, but newer than the oldest point that is kept"
        return Verdict(point.id, True, (reason,))
    return Verdict(point.id, False, ("damaged, and older than all points that are kept",))
