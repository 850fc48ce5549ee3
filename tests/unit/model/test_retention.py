"""Retention judges each point with its reasons, and never costs the last good one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendense.errors import Rejected
from sendense.model.hold import Hold, HoldKind
from sendense.model.point import SAFETY, Attachment, PointState, RecoveryPoint
from sendense.model.retention import KeepRules, Verdict, plan_retention
from tests.support.builders import a_disk, a_machine, a_point, an_image

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
THE_LAST = ("the last good point", "holds the last good image of vda")


def points(count: int, *, damaged: tuple[int, ...] = ()) -> list[RecoveryPoint]:
    """Give points 1 to ``count``, one a day."""
    return [
        a_point(
            f"p{number}",
            number,
            state=PointState.DAMAGED if number in damaged else PointState.COMPLETE,
        )
        for number in range(1, count + 1)
    ]


def at(*times: str) -> list[RecoveryPoint]:
    """Give points that were taken at these times, named after them."""
    return [
        a_point(text, number, taken_at=datetime.fromisoformat(text).replace(tzinfo=UTC))
        for number, text in enumerate(times, start=1)
    ]


def kept(verdicts: tuple[Verdict, ...]) -> set[str]:
    return {verdict.point_id for verdict in verdicts if verdict.keep}


def reasons(verdicts: tuple[Verdict, ...], point_id: str) -> tuple[str, ...]:
    return next(verdict.reasons for verdict in verdicts if verdict.point_id == point_id)


def test_the_last_are_kept():
    verdicts = plan_retention(points(5), KeepRules(last=2), NOW)
    assert kept(verdicts) == {"p4", "p5"}
    assert reasons(verdicts, "p5") == ("number 1 of the last 2", *THE_LAST)
    assert reasons(verdicts, "p4") == ("number 2 of the last 2",)
    assert reasons(verdicts, "p1") == ("no rule keeps it",)


def test_all_reasons_are_one_line():
    rules = KeepRules(last=7, daily=3, monthly=1, within=timedelta(days=18))
    verdicts = plan_retention(points(5), rules, NOW)
    assert [verdict.reason for verdict in verdicts] == [
        "number 5 of the last 7",
        "number 4 of the last 7",
        "number 3 of the last 7; daily 2026-01-03; younger than 18 days",
        "number 2 of the last 7; daily 2026-01-04; younger than 18 days",
        "number 1 of the last 7; daily 2026-01-05; monthly 2026-01; younger than 18 days; "
        "the last good point; holds the last good image of vda",
    ]


def test_order_is_the_sequence_not_the_time():
    scrambled = [
        a_point("new", 2, taken_at=datetime(2020, 1, 1, tzinfo=UTC)),
        a_point("old", 1, taken_at=datetime(2026, 1, 1, tzinfo=UTC)),
    ]
    for rules in (KeepRules(last=1), KeepRules(yearly=1)):
        assert kept(plan_retention(scrambled, rules, NOW)) == {"new"}


def test_a_wrong_clock_takes_one_place():
    times = ("2026-01-01T10", "2026-01-02T10", "2099-05-05T10", "2026-01-03T10", "2026-01-04T10")
    verdicts = plan_retention(at(*times), KeepRules(daily=4), NOW)
    assert kept(verdicts) == set(times[1:])
    assert kept(plan_retention(at(*times), KeepRules(daily=2), NOW)) == set(times[3:])


def test_more_than_there_are_keeps_all():
    assert len(kept(plan_retention(points(3), KeepRules(last=10), NOW))) == 3


def test_young_points_are_kept():
    verdicts = plan_retention(points(15), KeepRules(within=timedelta(days=7)), NOW)
    assert kept(verdicts) == {"p14", "p15"}
    assert reasons(verdicts, "p14") == ("younger than 7 days",)


def test_all_too_old_still_leaves_the_last():
    verdicts = plan_retention(points(3), KeepRules(within=timedelta(hours=5)), NOW)
    assert kept(verdicts) == {"p3"}
    assert reasons(verdicts, "p3") == THE_LAST


@pytest.mark.parametrize(
    ("rule", "times", "left"),
    [
        (
            {"hourly": 2},
            ("2026-01-01T10:00", "2026-01-01T10:59", "2026-01-01T11:01", "2026-01-01T11:30"),
            {"2026-01-01T10:59": "hourly 2026-01-01T10+00:00"},
        ),
        (
            {"daily": 2},
            ("2026-01-01T00:00", "2026-01-01T23:59", "2026-01-09T00:00"),
            {"2026-01-01T23:59": "daily 2026-01-01"},
        ),
        (
            # A Sunday ends its week; 2026-01-01 is in the first week, 2027-01-01 in the 53rd.
            {"weekly": 3},
            ("2025-12-28T10:00", "2026-01-01T10:00", "2026-12-31T10:00", "2027-01-03T23:00",
             "2027-01-04T00:00"),
            {"2026-01-01T10:00": "weekly 2026-W01", "2027-01-03T23:00": "weekly 2026-W53"},
        ),
        (
            {"monthly": 3},
            ("2026-01-31T10:00", "2026-02-01T10:00", "2026-02-28T23:59", "2026-07-01T00:00"),
            {"2026-01-31T10:00": "monthly 2026-01", "2026-02-28T23:59": "monthly 2026-02"},
        ),
        (
            {"yearly": 2},
            ("2023-05-01T10:00", "2025-12-31T23:59", "2026-01-01T00:00"),
            {"2025-12-31T23:59": "yearly 2025"},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) and len(value) == 1 else "",
)  # fmt: skip
def test_the_newest_of_each_period_that_has_one(rule, times, left):
    verdicts = plan_retention(at(*times), KeepRules(**rule), NOW)
    assert kept(verdicts) == {*left, times[-1]}
    for name, reason in left.items():
        assert reasons(verdicts, name) == (reason,)


def test_periods_are_those_of_the_zone():
    """23:30 in Berlin is another day than 00:30, which in UTC are of one day."""
    times = ("2026-07-01T21:30", "2026-07-01T22:30")
    assert kept(plan_retention(at(*times), KeepRules(daily=2), NOW)) == {times[1]}
    berlin = KeepRules(daily=2, monthly=2, timezone="Europe/Berlin")
    verdicts = plan_retention(at("2026-06-30T21:30", "2026-06-30T22:30"), berlin, NOW)
    assert reasons(verdicts, "2026-06-30T21:30") == ("daily 2026-06-30", "monthly 2026-06")


def test_damaged_points_do_not_count():
    verdicts = plan_retention(points(4, damaged=(2, 4)), KeepRules(last=1, daily=1), NOW)
    assert kept(verdicts) == {"p3", "p4"}
    assert reasons(verdicts, "p4") == ("damaged, but newer than the oldest point that is kept",)
    assert reasons(verdicts, "p2") == ("damaged, and older than all points that are kept",)


def test_a_damaged_point_takes_no_place_of_its_period():
    bad = a_point("bad", 3, taken_at=datetime(2026, 1, 2, 23, tzinfo=UTC), state=PointState.DAMAGED)
    verdicts = plan_retention([*points(2), bad], KeepRules(daily=1), NOW)
    assert "daily 2026-01-02" in reasons(verdicts, "p2")


def test_without_a_good_point_nothing_goes():
    verdicts = plan_retention(points(3, damaged=(1, 2, 3)), KeepRules(last=1), NOW)
    assert kept(verdicts) == {"p1", "p2", "p3"}


def test_the_last_image_of_a_disk_is_kept():
    vda, vdb = a_disk("vda"), a_disk("vdb")
    machine = a_machine(vda, vdb)
    both = a_point("both", 1, machine=machine, disks=(an_image(vda), an_image(vdb)))
    later = [a_point(f"a{n}", n, machine=machine, disks=(an_image(vda),)) for n in (2, 3, 4)]
    verdicts = plan_retention([both, *later], KeepRules(last=1), NOW)
    assert kept(verdicts) == {"both", "a4"}
    assert reasons(verdicts, "both") == ("holds the last good image of vdb",)


def test_a_disk_that_is_gone_keeps_nothing():
    vda, vdb = a_disk("vda"), a_disk("vdb")
    both = a_point("both", 1, machine=a_machine(vda, vdb), disks=(an_image(vda), an_image(vdb)))
    now_one = a_point("one", 2, machine=a_machine(vda), disks=(an_image(vda),))
    assert kept(plan_retention([both, now_one], KeepRules(last=1), NOW)) == {"one"}


def test_machines_are_judged_apart():
    other = a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")
    mixed = [*points(2), a_point("o1", 1, machine=other)]
    assert kept(plan_retention(mixed, KeepRules(last=1), NOW)) == {"p2", "o1"}


# --- holds ---


def pin(point_id: str, note: str = "") -> Hold:
    return Hold(point_id, HoldKind.PIN, None, note, NOW)


def lock(point_id: str, until: datetime) -> Hold:
    return Hold(point_id, HoldKind.LOCK, until, "", NOW)


def test_held_points_stay_and_say_why():
    holds = [pin("p1", "before the upgrade"), lock("p2", datetime(2027, 1, 31, tzinfo=UTC))]
    verdicts = plan_retention(points(5), KeepRules(last=1), NOW, holds)
    assert kept(verdicts) == {"p1", "p2", "p5"}
    assert reasons(verdicts, "p1") == ("pinned: before the upgrade",)
    assert reasons(verdicts, "p2") == ("locked until 2027-01-31",)


def test_a_held_point_counts_as_any_other():
    verdicts = plan_retention(points(5), KeepRules(last=2), NOW, [pin("p4"), pin("p1")])
    assert kept(verdicts) == {"p1", "p4", "p5"}
    assert reasons(verdicts, "p4") == ("number 2 of the last 2", "pinned")


def test_a_lock_that_is_over_keeps_nothing():
    until = datetime(2027, 1, 31, tzinfo=UTC)
    rules, holds = KeepRules(last=1), [lock("p1", until)]
    before = until - timedelta(microseconds=1)
    assert "p1" in kept(plan_retention(points(2), rules, before, holds))
    assert "p1" not in kept(plan_retention(points(2), rules, until, holds))


def test_a_date_is_told_in_the_zone_of_the_rules():
    holds = [lock("p1", datetime(2027, 1, 30, 23, tzinfo=UTC))]
    rules = KeepRules(last=1, timezone="Europe/Berlin")
    verdicts = plan_retention(points(2), rules, NOW, holds)
    assert reasons(verdicts, "p1") == ("locked until 2027-01-31",)
    verdicts = plan_retention(points(2), KeepRules(last=1), NOW, holds)
    assert reasons(verdicts, "p1") == ("locked until 2027-01-30 23:00:00 UTC",)


def test_a_damaged_point_can_be_held():
    verdicts = plan_retention(points(3, damaged=(1,)), KeepRules(last=1), NOW, [pin("p1")])
    assert kept(verdicts) == {"p1", "p3"}
    verdicts = plan_retention(points(1, damaged=(1,)), KeepRules(last=1), NOW, [pin("p1")])
    assert reasons(verdicts, "p1") == ("no good point is left to rely on", "pinned")


# --- rules ---


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"last": -1},
        {"last": 1, "daily": -1},
        {"last": 1, "within": timedelta(hours=-1)},
        {"timezone": "Europe/Berlin"},
        {"last": 1, "timezone": "Mars/Olympus"},
        {"last": 1, "timezone": "Europe"},
        {"last": 1, "timezone": "../../etc/passwd"},
        {"last": 1, "timezone": ""},
    ],
    ids=str,
)
def test_rules_that_keep_nothing_or_mean_nothing_are_refused(rules):
    with pytest.raises(Rejected) as caught:
        KeepRules(**rules)
    assert caught.value.hint or "negative" in caught.value.message


def test_rules_say_what_they_are():
    rules = KeepRules(last=7, daily=14, within=timedelta(days=1), timezone="Europe/Berlin")
    assert rules.words == "last 7, daily 14, younger than 1 day (Europe/Berlin)"


# --- Safety points


def safety(number: int, **changes: object) -> RecoveryPoint:
    """Give a point that undoes a restore."""
    return a_point(f"p{number}", number, attachments=(Attachment(SAFETY, 2, ""),), **changes)


def test_what_undoes_a_restore_stays_for_its_time():
    rules = KeepRules(last=1, daily=2, safety=timedelta(days=14))
    judged = [*points(3), safety(4), *points(5)[4:]]
    verdicts = plan_retention(judged, rules, NOW - timedelta(days=4))
    assert kept(verdicts) == {"p3", "p4", "p5"}
    assert reasons(verdicts, "p4") == ("undoes a restore, and younger than 14 days",)
    later = plan_retention(judged, rules, NOW)
    assert kept(later) == {"p3", "p5"}
    assert reasons(later, "p4") == ("a safety point whose time is over",)


def test_it_pushes_no_backup_out():
    """What is undone on a day is no reason to lose the backup of that day."""
    same_day = a_point("p1").taken_at + timedelta(hours=3)
    judged = [a_point("p1"), safety(2, taken_at=same_day)]
    verdicts = plan_retention(judged, KeepRules(daily=1, safety=timedelta(0)), NOW)
    assert kept(verdicts) == {"p1", "p2"}
    assert reasons(verdicts, "p1")[0] == "daily 2026-01-01"
    assert "the last good point that is no safety point" in reasons(verdicts, "p1")
    assert reasons(verdicts, "p2") == THE_LAST


def test_it_stays_while_its_restore_is_not_finished():
    judged = [*points(1), safety(2), *points(3)[2:]]
    rules = KeepRules(last=1, safety=timedelta(0))
    assert kept(plan_retention(judged, rules, NOW)) == {"p3"}
    needed = {"p2": "undoes the restore j, which is not finished"}
    verdicts = plan_retention(judged, rules, NOW, needed=needed)
    assert kept(verdicts) == {"p2", "p3"}
    assert reasons(verdicts, "p2") == (needed["p2"],)


def test_a_negative_time_is_refused():
    with pytest.raises(Rejected, match="negative"):
        KeepRules(last=1, safety=timedelta(days=-1))
