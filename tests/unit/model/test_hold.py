"""What may follow what: pins come and go, locks only get longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sendense.errors import Held, NotFound, Rejected
from sendense.model.hold import (
    MOST_LETTERS,
    Hold,
    HoldKind,
    holds_in_force,
    refuse_held,
    with_hold,
    without_hold,
)

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def pin(note: str = "", point_id: str = "p1") -> Hold:
    return Hold(point_id, HoldKind.PIN, None, note, NOW)


def lock(until: datetime, note: str = "") -> Hold:
    return Hold("p1", HoldKind.LOCK, until, note, NOW)


def test_words():
    assert pin().reason() == "pinned"
    assert pin("why").reason() == "pinned: why"
    assert lock(datetime(2027, 1, 31, tzinfo=UTC), "law").reason() == "locked until 2027-01-31: law"


def test_a_lock_ends_at_its_moment_in_any_zone():
    end = datetime(2026, 1, 21, 1, tzinfo=timezone(timedelta(hours=13)))  # NOW
    assert not lock(end).in_force(NOW)
    assert lock(end).in_force(NOW - timedelta(microseconds=1))


def test_in_force_by_point():
    holds = [lock(NOW + DAY), pin(), pin(point_id="p2"), lock(NOW - DAY)]
    assert holds_in_force(holds, NOW) == {"p1": (pin(), lock(NOW + DAY)), "p2": (holds[2],)}


def test_one_of_each_kind():
    held = with_hold(with_hold((), pin("a"), NOW), lock(NOW + DAY), NOW)
    assert set(with_hold(held, pin("b"), NOW)) == {pin("b"), lock(NOW + DAY)}


@pytest.mark.parametrize("later", [timedelta(0), DAY])
def test_a_lock_is_extended(later):
    held = (lock(NOW + DAY),)
    assert with_hold(held, lock(NOW + DAY + later, "new"), NOW) == (lock(NOW + DAY + later, "new"),)


@pytest.mark.parametrize("until", [NOW - DAY, NOW + DAY - timedelta(seconds=1)])
def test_a_lock_is_never_shortened(until):
    with pytest.raises(Held) as caught:
        with_hold((lock(NOW + DAY),), lock(until), NOW)
    assert "locked until 2026-01-21" in caught.value.message
    assert caught.value.hint


def test_a_lock_that_is_over_stands_in_nobodys_way():
    held = (lock(NOW),)
    assert with_hold(held, lock(NOW - DAY), NOW) == (lock(NOW - DAY),)
    assert without_hold(held, "p1", HoldKind.LOCK, NOW) == ()


def test_a_lock_is_not_taken_off():
    with pytest.raises(Held):
        without_hold((lock(NOW + DAY), pin()), "p1", HoldKind.LOCK, NOW)
    assert without_hold((lock(NOW + DAY), pin()), "p1", HoldKind.PIN, NOW) == (lock(NOW + DAY),)


@pytest.mark.parametrize("kind", HoldKind)
def test_what_is_not_there_is_not_taken_off(kind):
    with pytest.raises(NotFound):
        without_hold((), "p1", kind, NOW)


def test_a_deletion_is_refused_by_name():
    with pytest.raises(Held) as caught:
        refuse_held([pin("why")], ["p0", "p1"], NOW)
    assert caught.value.message == "point p1 is pinned: why"
    assert "points unpin p1" in (caught.value.hint or "")
    with pytest.raises(Held) as caught:
        refuse_held([lock(NOW + DAY), pin()], ["p1"], NOW)
    assert caught.value.message.startswith("point p1 is locked until 2026-01-21")
    refuse_held([lock(NOW), pin(point_id="p2")], ["p1"], NOW)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": HoldKind.LOCK, "until": None},
        {"kind": HoldKind.PIN, "until": NOW},
        {"kind": HoldKind.LOCK, "until": NOW.replace(tzinfo=None)},
        {"made_at": NOW.replace(tzinfo=None)},
        {"note": "two\nlines"},
        {"note": "\x1b[2J"},
        {"note": "x" * (MOST_LETTERS + 1)},
    ],
    ids=str,
)
def test_what_no_hold_can_be(values):
    usual = {"point_id": "p1", "kind": HoldKind.PIN, "until": None, "note": "", "made_at": NOW}
    with pytest.raises(Rejected):
        Hold(**{**usual, **values})
