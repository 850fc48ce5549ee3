"""What schedules, windows and verdicts say to people, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendense.errors import Rejected
from sendense.model.cron import Cron
from sendense.model.protection import Protection
from sendense.model.schedule import Timetable, Window, due_run, last_due, next_run
from sendense.model.sla import Expected, Seen, judge
from tests.support.fleet import a_policy

NOW = datetime(2026, 11, 29, 11, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "daily",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 30 2 *",
        "* * 31 apr,jun *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "* * * * mon-",
        "1,,2 * * * *",
        "-1 * * * *",
        "* * * * \u0663",  # a digit, but not one of cron's
        "@reboot",
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(text):
    with pytest.raises(Rejected):
        Cron.parse(text)


@pytest.mark.parametrize(
    "text", ["", "22-06", "22:00-25:00", "22:60-23:00", "24:00-06:00", "1:00-1:00"]
)
def test_a_window_that_cannot_be_meant_is_refused(text):
    with pytest.raises(Rejected):
        Window.parse(text)


def test_a_window_may_end_at_midnight():
    assert Window.parse("22:00-24:00") == Window.parse("22:00-00:00")
    assert Window.parse("22:00-24:00").words == "22:00-00:00"


def test_the_next_run_waits_for_its_window_and_says_so():
    times = Timetable.read("0 12 * * *", "Europe/Berlin", "22:00-06:00", ["2026-11-30"])
    run = next_run(times, NOW)
    assert run.due == datetime(2026, 11, 30, 11, tzinfo=UTC)
    assert run.begins == datetime(2026, 11, 30, 23, tzinfo=UTC)  # midnight, when the blackout ends
    assert run.reason == (
        "due 2026-11-30 12:00:00 CET by '0 12 * * *'; 2026-11-30 is a blackout date: "
        "begins 2026-12-01"
    )


def test_one_run_is_made_up():
    run = due_run(Timetable.read("0 1 * * *"), NOW - 3 * DAY, NOW)
    assert run is not None
    assert run.due == NOW.replace(hour=1)
    assert run.late
    assert [moment.day for moment in run.missed] == [27, 28]
    assert run.reason.endswith("2 before it missed")


def test_a_run_that_is_seen_soon_is_on_time():
    run = due_run(Timetable.read("0 11 * * *"), NOW - HOUR, NOW + timedelta(seconds=20))
    assert run is not None
    assert not run.late
    assert run.missed == ()


NIGHTLY = Expected("nightly", NOW - 90 * DAY, (NOW - 9 * HOUR, NOW - 33 * HOUR))


@pytest.mark.parametrize(
    ("expected", "seen", "protection", "reason"),
    [
        (None, Seen(NOW), Protection.UNPROTECTED, "no policy takes it"),
        (NIGHTLY, Seen(NOW - 8 * HOUR), Protection.PROTECTED, "newest good point 8 h 00 min ago"),
        (
            NIGHTLY,
            Seen(NOW - 40 * HOUR, NOW - 9 * HOUR),
            Protection.LATE,
            "newest good point 1 d 16 h ago, two runs of nightly were due since",
        ),
        (
            NIGHTLY,
            Seen(NOW - 30 * HOUR, NOW - 9 * HOUR, 2, "host-1 does not answer"),
            Protection.FAILING,
            "2 runs failed since, the last: host-1 does not answer",
        ),
        (
            NIGHTLY,
            Seen(NOW - 30 * HOUR, NOW - 33 * HOUR),
            Protection.MISSED,
            "a run of nightly was due 9 h 00 min ago, none made",
        ),
        (
            NIGHTLY,
            Seen(NOW - 30 * HOUR, NOW - 9 * HOUR),
            Protection.PROTECTED,
            "newest good point 1 d 6 h ago",
        ),
        (
            Expected("new", NOW - HOUR),
            Seen(),
            Protection.NEW,
            "it has no point yet; its first run is to come",
        ),
        (
            Expected("gold", NOW - 90 * DAY, (), HOUR),
            Seen(NOW - 2 * HOUR),
            Protection.LATE,
            "newest good point 2 h 00 min ago, the SLA of gold is 1 h 00 min",
        ),
        (
            Expected("gold", NOW - DAY, (), HOUR),
            Seen(),
            Protection.LATE,
            "it has no good point, the SLA of gold is 1 h 00 min",
        ),
    ],
)
def test_how_an_instance_stands(expected, seen, protection, reason):
    verdict = judge(expected, seen, NOW)
    assert (verdict.protection, verdict.reasons[0]) == (protection, reason)


def test_all_reasons_are_told_and_the_worst_counts():
    verdict = judge(NIGHTLY, Seen(NOW - 9 * DAY, NOW - 8 * DAY, 1), NOW)
    assert verdict.protection is Protection.LATE
    assert len(verdict.reasons) == 3


@pytest.mark.parametrize(
    ("schedule", "ages"),
    [
        ("* * * * *", (timedelta(0), timedelta(minutes=1))),
        ("0 10 * * *", (HOUR, 25 * HOUR)),
        ("0 0 1 * *", (28 * DAY + 11 * HOUR, 59 * DAY + 11 * HOUR)),
    ],
)
def test_the_last_runs_that_were_due(schedule, ages):
    assert last_due(Timetable.read(schedule), NOW) == tuple(NOW - age for age in ages)
    assert last_due(Timetable.read("0 0 29 2 *"), NOW) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "@sometimes"},
        {"window": "22-06"},
        {"blackout_dates": ("24.12.2026",)},
        {"timezone": "Mars/Base"},
    ],
)
def test_a_policy_with_such_times_is_refused(changes):
    with pytest.raises(Rejected):
        a_policy(**changes)
