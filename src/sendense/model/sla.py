"""How well an instance is protected, by its points, its policy and what became of its runs.

The worst of these counts, and every reason is told:

===========  ====================================================================================
state        when
===========  ====================================================================================
late         its newest good point is older than the policy's SLA; without one, older than the run
             before the last that was due
failing      a run failed, and none succeeded since
missed       a run was due, and no job was made for it
new          nothing of this, but it has no point yet: its first run is to come or under way
protected    nothing of this
unprotected  no policy takes it, whatever points it has
===========  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Optional

from sendense.model.protection import Protection


@dataclass(frozen=True)
class Expected:
    """What a policy promises for an instance."""

    policy: str
    """Its name."""
    since: datetime
    """When the policy began to count for the instance: what was due before is not asked for."""
    due: tuple[datetime, ...] = ()
    """The newest runs that were due, newest first, without those that are due only since a moment
    (``GRACE`` of the schedule); two are enough."""
    sla: Optional[timedelta] = None


@dataclass(frozen=True)
class Seen:
    """What there is of an instance."""

    last_good: Optional[datetime] = None
    """Of its newest good point."""
    last_job: Optional[datetime] = None
    """When the newest run that a job was made for was due."""
    failures: int = 0
    """Jobs that failed since the newest good point."""
    last_failure: str = ""


@dataclass(frozen=True)
class Judgement:
    """How an instance stands, and why."""

    protection: Protection
    reasons: tuple[str, ...]
    expected_by: Optional[datetime] = None
    """Where it has an SLA: when its next good point is needed."""
    unnamed: tuple[str, ...] = ()
    """The reasons without the policy's name, where one has it."""

    @property
    def reasons_for_tenants(self) -> tuple[str, ...]:
        """Give the reasons for whom a policy's name is not: it may be another customer's."""
        return self.unnamed or self.reasons


_NONE_YET = "it has no point yet; its first run is to come"


def judge(expected: Optional[Expected], seen: Seen, now: datetime) -> Judgement:
    """Tell how an instance stands."""
    if expected is None:
        return Judgement(Protection.UNPROTECTED, ("no policy takes it",))
    found = _found(expected, seen, now)
    deadline = _deadline(expected, seen)
    if found:
        order = list(Protection)
        worst = max(found, key=lambda each: order.index(each[0]))[0]
        unnamed = _found(replace(expected, policy="its policy"), seen, now)
        return Judgement(
            worst,
            tuple(reason for _, reason in found),
            deadline,
            unnamed=tuple(reason for _, reason in unnamed),
        )
    if seen.last_good is None:
        return Judgement(Protection.NEW, (_NONE_YET,), deadline)
    return Judgement(
        Protection.PROTECTED, (f"newest good point {_ago(seen.last_good, now)}",), deadline
    )


_Found = tuple[Protection, str]


def _found(expected: Expected, seen: Seen, now: datetime) -> list[_Found]:
    return [*_late(expected, seen, now), *_failing(seen), *_missed(expected, seen, now)]


def _deadline(expected: Expected, seen: Seen) -> Optional[datetime]:
    if expected.sla is None:
        return None
    return (seen.last_good or expected.since) + expected.sla


def _late(expected: Expected, seen: Seen, now: datetime) -> Iterator[_Found]:
    have = "it has no good point" if seen.last_good is None else ""
    newest = seen.last_good or expected.since
    have = have or f"newest good point {_ago(newest, now)}"
    if expected.sla is not None:
        if now - newest > expected.sla:
            yield Protection.LATE, f"{have}, the SLA of {expected.policy} is {_span(expected.sla)}"
    # Without an SLA: the last run may be under way, the one before must have left a point.
    elif len(expected.due) > 1 and max(newest, expected.since) < expected.due[1]:
        yield Protection.LATE, f"{have}, two runs of {expected.policy} were due since"


def _failing(seen: Seen) -> Iterator[_Found]:
    if seen.failures:
        runs = "1 run" if seen.failures == 1 else f"{seen.failures} runs"
        yield Protection.FAILING, f"{runs} failed since, the last: {seen.last_failure or 'unknown'}"


def _missed(expected: Expected, seen: Seen, now: datetime) -> Iterator[_Found]:
    due = expected.due[0] if expected.due else None
    if due is None or due <= expected.since:
        return
    done = (seen.last_job is not None and seen.last_job >= due) or (
        seen.last_good is not None and seen.last_good >= due
    )
    if not done:
        yield (
            Protection.MISSED,
            f"a run of {expected.policy} was due {_ago(due, now)}, none made",
        )


def _ago(moment: datetime, now: datetime) -> str:
    return f"{_span(now - moment)} ago"


def _span(span: timedelta) -> str:
    """Write a span in its two largest units."""
    minutes = max(0, int(span.total_seconds() // 60))
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
