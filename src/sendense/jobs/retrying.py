"""Whether a job that failed is tried again, when, and why.

A backup that finds somebody else at work (CloudStack moves the instance, another backup reads it)
has not failed: it waits, without using up its attempts, for as long as a night's window is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sendense.clock import format_utc
from sendense.errors import Busy
from sendense.jobs.settings import RetryRules
from sendense.model.job import JobFailure
from sendense.model.schedule import spread

BUSY_FOR = timedelta(hours=6)
"""So long after its first attempt began, a backup waits for others; then each attempt counts."""
_BUSY_PAUSE = timedelta(minutes=10)
"""At most, between two looks whether others are done, where they do not say how long they need."""


@dataclass(frozen=True)
class Tries:
    """What was tried of a job so far."""

    job_id: str
    attempt: int
    """The one that failed now, from 1."""
    busy: int = 0
    """How many before it found somebody else at work."""
    since: datetime | None = None
    """When the first began."""
    waits: bool = False
    """Whether it waits for others.  A restore does not: what it was asked to write over would be
    written over whenever the machine is stopped, hours later."""


@dataclass(frozen=True)
class Retry:
    """What follows a failure."""

    at: datetime | None
    """When the next attempt may begin; none: there is none."""
    reason: str


def is_busy(failure: JobFailure) -> bool:
    """Tell whether somebody else was at work."""
    return failure.code == Busy.code


def after_failure(rules: RetryRules, failure: JobFailure, tries: Tries, now: datetime) -> Retry:
    """Decide on the next attempt.

    The pause is spread by a quarter, so that a hundred jobs that one dead host failed do not come
    back in the same second.
    """
    if not failure.retryable:
        return Retry(None, f"not tried again: {failure.code!r} does not mend itself")
    if tries.waits and tries.since is not None and is_busy(failure):
        until = tries.since + BUSY_FOR
        if now < until:
            pause = _spread(_busy_pause(rules, failure, tries), tries)
            return Retry(
                now + pause,
                f"tried again in {int(pause.total_seconds())} s: somebody else works on it, which "
                f"counts as no attempt until {format_utc(until)}",
            )
    counted = max(1, tries.attempt - tries.busy) if tries.waits else tries.attempt
    if counted >= rules.attempts:
        return Retry(None, f"not tried again: this was attempt {counted} of {rules.attempts}")
    first = max(rules.first, timedelta(seconds=failure.retry_s or 0))
    pause = _spread(min(first * rules.factor ** (counted - 1), rules.longest), tries)
    seconds = int(pause.total_seconds())
    return Retry(
        now + pause,
        f"tried again in {seconds} s, as attempt {counted + 1} of {rules.attempts}: "
        f"{failure.code!r} may mend itself",
    )


def _busy_pause(rules: RetryRules, failure: JobFailure, tries: Tries) -> timedelta:
    if failure.retry_s is not None:
        return timedelta(seconds=failure.retry_s)
    # Few steps lead to the longest pause, and the exponent stays small.
    grown: timedelta = rules.first * rules.factor ** min(tries.busy, 8)
    return min(grown, _BUSY_PAUSE)


def _spread(pause: timedelta, tries: Tries) -> timedelta:
    quarter = timedelta(seconds=pause.total_seconds() / 4)
    return pause + spread(quarter, tries.job_id, str(tries.attempt))
