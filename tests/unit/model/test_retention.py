"""Retention judges each point with a reason, and never costs the last good one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendense.errors import Rejected
from sendense.model.point import PointState, RecoveryPoint
from sendense.model.retention import KeepRules, Verdict, plan_retention
from tests.support.builders import a_disk, a_machine, a_point, an_image

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)


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


def kept(verdicts: tuple[Verdict, ...]) -> set[str]:
    return {verdict.point_id for verdict in verdicts if verdict.keep}


def reason(verdicts: tuple[Verdict, ...], point_id: str) -> str:
    return next(verdict.reason for verdict in verdicts if verdict.point_id == point_id)


def test_the_last_are_kept():
    verdicts = plan_retention(points(5), KeepRules(last=2), NOW)
    assert kept(verdicts) == {"p4", "p5"}
    assert reason(verdicts, "p5") == "number 1 of the last 2"
    assert reason(verdicts, "p1") == "no rule keeps it"


def test_order_is_the_sequence_not_the_time():
    scrambled = [
        a_point("new", 2, taken_at=datetime(2020, 1, 1, tzinfo=UTC)),
        a_point("old", 1, taken_at=datetime(2026, 1, 1, tzinfo=UTC)),
    ]
    assert kept(plan_retention(scrambled, KeepRules(last=1), NOW)) == {"new"}


def test_more_than_there_are_keeps_all():
    assert len(kept(plan_retention(points(3), KeepRules(last=10), NOW))) == 3


def test_young_points_are_kept():
    verdicts = plan_retention(points(15), KeepRules(within=timedelta(days=7)), NOW)
    assert kept(verdicts) == {"p14", "p15"}
    assert reason(verdicts, "p14") == "younger than 7 days"


def test_all_too_old_still_leaves_the_last():
    verdicts = plan_retention(points(3), KeepRules(within=timedelta(hours=5)), NOW)
    assert kept(verdicts) == {"p3"}
    assert reason(verdicts, "p3") == "the last good point"


def test_damaged_points_do_not_count():
    verdicts = plan_retention(points(4, damaged=(2, 4)), KeepRules(last=1), NOW)
    assert kept(verdicts) == {"p3", "p4"}
    assert "damaged, but newer" in reason(verdicts, "p4")
    assert "damaged, and older" in reason(verdicts, "p2")


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
    assert reason(verdicts, "both") == "holds the last good image of vdb"


def test_a_disk_that_is_gone_keeps_nothing():
    vda, vdb = a_disk("vda"), a_disk("vdb")
    both = a_point("both", 1, machine=a_machine(vda, vdb), disks=(an_image(vda), an_image(vdb)))
    now_one = a_point("one", 2, machine=a_machine(vda), disks=(an_image(vda),))
    assert kept(plan_retention([both, now_one], KeepRules(last=1), NOW)) == {"one"}


def test_machines_are_judged_apart():
    other = a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")
    mixed = [*points(2), a_point("o1", 1, machine=other)]
    assert kept(plan_retention(mixed, KeepRules(last=1), NOW)) == {"p2", "o1"}


@pytest.mark.parametrize(
    "rules", [{}, {"last": -1}, {"last": 1, "within": timedelta(hours=-1)}], ids=str
)
def test_rules_that_keep_nothing_are_refused(rules):
    with pytest.raises(Rejected):
        KeepRules(**rules)
