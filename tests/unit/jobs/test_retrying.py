"""What follows a failure: an attempt more, a wait for others, or the end."""

from __future__ import annotations

from datetime import datetime, timedelta

from sendense.errors import Busy, Damaged, Unavailable
from sendense.jobs.retrying import BUSY_FOR, Tries, after_failure
from sendense.jobs.settings import RetryRules
from sendense.model.coding import decode, encode
from sendense.model.job import JobFailure
from tests.support.fleet import NOW

RULES = RetryRules(attempts=3)
MINUTE = timedelta(minutes=1)


def tries(attempt: int, busy: int = 0, *, waits: bool = True) -> Tries:
    return Tries("job", attempt, busy, NOW - MINUTE, waits)


def pause(failure: JobFailure, these: Tries, now: datetime = NOW) -> timedelta:
    """Give the pause before the next attempt."""
    at = after_failure(RULES, failure, these, now).at
    assert at is not None
    return at - now


def ends(failure: JobFailure, these: Tries, now: datetime = NOW) -> bool:
    return after_failure(RULES, failure, these, now).at is None


def test_what_does_not_mend_itself_is_the_end():
    assert ends(JobFailure.of(Damaged("x")), tries(1))


def test_attempts_are_counted():
    away = JobFailure.of(Unavailable("x"))
    assert pause(away, tries(1)) >= RULES.first
    assert pause(away, tries(2)) >= RULES.first * RULES.factor
    assert ends(away, tries(3))


def test_a_backup_waits_for_others_without_using_up_its_attempts():
    busy = JobFailure.of(Busy("CloudStack works on it", retry_s=600))
    found = after_failure(RULES, busy, tries(40, 39), NOW)
    assert timedelta(seconds=600) <= pause(busy, tries(40, 39)) <= timedelta(seconds=750)
    assert "counts as no attempt" in found.reason
    away = JobFailure.of(Unavailable("x"))
    assert not ends(away, tries(40, 38))
    assert ends(away, tries(40, 37))


def test_it_does_not_wait_for_ever():
    busy = JobFailure.of(Busy("x"))
    assert not ends(busy, tries(40, 39), NOW + BUSY_FOR)
    assert ends(busy, tries(42, 39), NOW + BUSY_FOR)


def test_pauses_grow_to_minutes_where_nobody_says_how_long():
    busy = JobFailure.of(Busy("x"))
    assert pause(busy, tries(1)) < MINUTE
    assert pause(busy, tries(500, 499)) <= timedelta(minutes=12.5)


def test_a_restore_does_not_begin_hours_later():
    busy = JobFailure.of(Busy("the machine runs"))
    assert ends(busy, tries(3, 2, waits=False))


def test_what_is_away_for_longer_is_given_longer():
    away = JobFailure.of(Unavailable("the cloud is away", retry_s=120))
    assert pause(away, tries(1)) >= 2 * MINUTE
    assert pause(away, tries(2)) >= 8 * MINUTE
    assert ends(away, tries(3))


def test_the_pause_is_remembered_with_the_failure():
    failure = JobFailure.of(Busy("x", retry_s=7))
    assert decode(JobFailure, encode(failure)) == failure
    assert decode(JobFailure, {"code": "busy", "message": "x"}).retry_s is None
