"""The points of the future are made up, and judged as those that there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendense.errors import Rejected
from sendense.model.forecast import Foreseen, Schedule, forecast
from sendense.model.hold import Hold, HoldKind
from sendense.model.point import PointState
from sendense.model.retention import KeepRules
from tests.support.builders import a_disk, a_machine, a_point, an_image

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAILY = Schedule(NOW, timedelta(days=1))
POINTS = [a_point(f"p{number}", number) for number in range(1, 6)]


def kept(found: tuple[Foreseen, ...]) -> list[str]:
    return [
        f"{item.point.taken_at:%m-%d}" if item.simulated else item.point.id
        for item in found
        if item.verdict.keep
    ]


def test_a_steady_state():
    rules = KeepRules(last=2, monthly=3)
    found = forecast(POINTS, rules, DAILY, datetime(2026, 3, 10, 12, tzinfo=UTC))
    assert kept(found) == ["01-31", "02-28", "03-09", "03-10"]
    assert found[-1].verdict.reasons[:2] == ("number 1 of the last 2", "monthly 2026-03")
    assert len(found) == 5 + 64
    assert [item.point.sequence for item in found] == list(range(1, 70))


def test_what_is_held_today_may_not_be_then():
    until = datetime(2026, 2, 1, tzinfo=UTC)
    holds = [
        Hold("p1", HoldKind.PIN, None, "", NOW),
        Hold("p2", HoldKind.LOCK, until, "", NOW),
    ]
    assert kept(forecast(POINTS, KeepRules(last=1), DAILY, until, holds)) == ["p1", "01-31"]


def test_without_time_nothing_is_made_up():
    found = forecast(POINTS, KeepRules(last=1), DAILY, NOW + timedelta(hours=23))
    assert kept(found) == ["p5"]
    assert kept(forecast([], KeepRules(last=1), DAILY, NOW + timedelta(days=9))) == []
    far = Schedule(NOW, timedelta(days=9_000_000))
    assert kept(forecast(POINTS, KeepRules(last=1), far, NOW + timedelta(days=9))) == ["p5"]


def test_made_up_points_hold_what_the_newest_good_one_holds():
    vda, vdb = a_disk("vda"), a_disk("vdb")
    machine = a_machine(vda, vdb)
    both = a_point("both", 1, machine=machine, disks=(an_image(vda), an_image(vdb)))
    one = a_point("one", 2, machine=machine, disks=(an_image(vda),))
    bad = a_point("bad", 3, machine=machine, state=PointState.DAMAGED)
    found = forecast([one, bad, both], KeepRules(last=1), DAILY, NOW + timedelta(days=2))
    assert kept(found) == ["both", "bad", "01-07"]


def test_each_machine_has_its_own_future():
    other = a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")
    found = forecast(
        [POINTS[0], a_point("o1", 1, machine=other)],
        KeepRules(last=1),
        DAILY,
        NOW + timedelta(days=3),
    )
    assert len({item.point.id for item in found}) == len(found) == 8
    assert kept(found) == ["01-08", "01-08"]


def test_too_much_is_refused():
    with pytest.raises(Rejected) as caught:
        Schedule(NOW, timedelta(0))
    with pytest.raises(Rejected) as caught:
        forecast(
            POINTS,
            KeepRules(last=1),
            Schedule(NOW, timedelta(hours=1)),
            datetime(2046, 1, 1, tzinfo=UTC),
        )
    assert caught.value.hint
