"""Who excludes whom: every row and column of the table in docs/format.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.lease_claim import Claim, LeaseKind, LeaseRecord, Wish
from sendense.repository.dedup.lease_holder import Fate
from sendense.repository.dedup.lease_rules import (
    TOGETHER,
    Course,
    Rival,
    busy,
    conflicts,
    course,
    death,
    obstacle,
)
from tests.unit.repository.dedup.lease_stage import (
    DELETE,
    OTHER_MACHINE,
    READ,
    WRITE,
    on_another_host,
    wish,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
W, R, D, G, C, P, K = (
    LeaseKind.WRITE,
    LeaseKind.READ,
    LeaseKind.DELETE,
    LeaseKind.GC,
    LeaseKind.CHECK,
    LeaseKind.REPAIR,
    LeaseKind.KEYS,
)
# On the same machine and the same point.
EXCLUSIVE = {
    (W, W), (W, D), (D, D), (R, D), (G, G), (G, C), (K, K),
    (W, P), (D, P), (G, P), (C, P), (P, P),
}  # fmt: skip
# On different machines and points.
ALWAYS = EXCLUSIVE - {(W, W), (W, D), (D, D), (R, D)}
PAIRS = list(combinations_with_replacement(LeaseKind, 2))


def record(of: Wish | None, lease_id: str = "5" * 32, *, modified=NOON, settled=False):
    claim = None
    if of is not None:
        claim = Claim(of, on_another_host(), "2026-01-31T12:00:00.000000Z", settled)
    return LeaseRecord(lease_id, modified, claim)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_on_the_same_machine_and_point(one, other):
    expected = {(one, other), (other, one)} & EXCLUSIVE
    assert bool(conflicts(wish(one), wish(other))) == bool(expected)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_on_different_machines_and_points(one, other):
    expected = {(one, other), (other, one)} & ALWAYS
    there = wish(other, OTHER_MACHINE, ("p2", "p3"))
    assert bool(conflicts(wish(one), there)) == bool(expected)


def test_readers_of_other_points_do_not_keep_a_deletion():
    one, more = wish(R, points=("p1",)), wish(D, points=("p2", "p3"))
    assert conflicts(one, more) is None
    assert conflicts(wish(R, points=("p9", "p3")), more)
    assert conflicts(wish(R, points=()), more) is None


@given(st.sampled_from(list(product(LeaseKind, repeat=2))), st.booleans(), st.booleans())
def test_both_are_given_the_same_reason(kinds, same_machine, same_point):
    one = wish(kinds[0])
    other = wish(
        kinds[1], one.machine or "a" if same_machine else "b", ("p1",) if same_point else ("p2",)
    )
    assert conflicts(one, other) == conflicts(other, one)


@pytest.mark.parametrize("kind", [W, D])
def test_a_machine_has_to_be_named(kind):
    with pytest.raises(ValueError, match="machine"):
        Wish(kind, "a test")


@pytest.mark.parametrize("kind", LeaseKind)
def test_what_cannot_be_read_keeps_all_but_readers(kind):
    assert bool(obstacle(wish(kind), record(None))) == (kind is not R)


def test_a_lease_that_can_be_read_keeps_whom_it_excludes():
    assert obstacle(WRITE, record(WRITE)) == conflicts(WRITE, WRITE)
    assert obstacle(READ, record(WRITE)) is None


# --- dead


@pytest.mark.parametrize(
    ("fate", "age", "dead"),
    [
        (Fate.ALIVE, 0, False),
        (Fate.UNKNOWN, 0, False),
        (Fate.GONE, 0, True),
        (Fate.ALIVE, fmt.LEASE_EXPIRY_S, False),
        (Fate.UNKNOWN, fmt.LEASE_EXPIRY_S, False),
        (Fate.ALIVE, fmt.LEASE_EXPIRY_S + 1, True),
        (Fate.UNKNOWN, fmt.LEASE_EXPIRY_S + 1, True),
        (Fate.UNKNOWN, -fmt.LEASE_EXPIRY_S - 1, False),
    ],
)
@pytest.mark.parametrize("readable", [True, False])
def test_dead(fate, age, dead, readable):
    found = record(WRITE if readable else None)
    assert bool(death(found, fate, NOON + timedelta(seconds=age))) == dead


# --- two at the same time

LOW, MIDDLE, HIGH = (digit * 32 for digit in "159")


@pytest.mark.parametrize(
    ("own", "rivals", "expected"),
    [
        (MIDDLE, [], Course.TAKE),
        (MIDDLE, [{"lease_id": HIGH}], Course.STAY),
        (MIDDLE, [{"lease_id": LOW}], Course.YIELD),
        (MIDDLE, [{"lease_id": HIGH}, {"lease_id": LOW}], Course.YIELD),
        (MIDDLE, [{"lease_id": HIGH, "settled": True}], Course.REFUSED),
        (MIDDLE, [{"lease_id": LOW}, {"lease_id": HIGH, "settled": True}], Course.REFUSED),
        (MIDDLE, [{"lease_id": HIGH, "of": None}], Course.REFUSED),
        (MIDDLE, [{"lease_id": HIGH, "modified": NOON - TOGETHER}], Course.STAY),
        (MIDDLE, [{"lease_id": HIGH, "modified": NOON - 2 * TOGETHER}], Course.REFUSED),
        (MIDDLE, [{"lease_id": HIGH, "modified": NOON + 2 * TOGETHER}], Course.REFUSED),
    ],
)
def test_course(own, rivals, expected):
    found = [Rival(record(**{"of": WRITE, **rival}), "a reason") for rival in rivals]
    assert course(record(WRITE, own), found) is expected


def test_who_has_it_for_certain_is_not_waited_for():
    rival = Rival(record(WRITE, HIGH), "a reason", certain=True)
    assert course(record(WRITE, LOW), [rival]) is Course.REFUSED


@given(st.sets(st.text("0123456789abcdef", min_size=32, max_size=32), min_size=2))
def test_of_those_who_come_together_one_stays(ids):
    found = {lease_id: record(WRITE, lease_id) for lease_id in ids}
    courses = [
        course(own, [Rival(other, "") for other in found.values() if other is not own])
        for own in found.values()
    ]
    assert courses.count(Course.STAY) == 1
    assert courses.count(Course.YIELD) == len(ids) - 1


# --- words


def test_busy_says_who_why_and_what_to_do():
    asks = Rival(record(DELETE, LOW), "another reason")
    holds = Rival(record(WRITE, settled=True), "one at a time")
    error = busy([asks, holds])
    assert str(error) == (
        "a write test (root@kvm2, process 123, since 2026-01-31T12:00:00.000000Z) is at work: "
        "one at a time"
    )
    assert error.hint is not None
    assert "wait" in error.hint
    assert error.data["lease"] == holds.record.id


def test_busy_with_somebody_unknown():
    assert "cannot be read" in str(busy([Rival(record(None), "not known")]))


# --- content

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
claims = st.builds(
    Claim,
    wish=st.builds(
        Wish, st.sampled_from(LeaseKind), texts, machine=texts, points=st.frozensets(texts)
    ),
    holder=st.builds(
        on_another_host,
        host=texts,
        user=texts,
        boot=texts,
        pid=st.integers(),
        started=st.integers(),
    ),
    taken_at=texts,
    settled=st.booleans(),
    seen=st.frozensets(texts),
)


@given(claims)
def test_a_claim_comes_back(claim):
    content = claim.to_json()
    content["later"] = "what a later version says"
    assert Claim.from_json(content, "leases/x") == claim


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "of a later version"},
        {"kind": None},
        {"machine": 5},
        {"machine": None},
        {"points": "p1"},
        {"points": [1]},
        {"points": 1},
        {"text": None},
        {"holder": None},
        {"holder": {}},
        {"holder": {"host": "a", "user": "b", "boot": "c", "pid_namespace": 1, "pid": "x"}},
        {"seen": None},
        {"taken_at": 1},
    ],
    ids=str,
)
def test_what_is_no_claim(change):
    content = Claim(WRITE, on_another_host(), "now").to_json()
    with pytest.raises(Damaged, match="leases/x"):
        Claim.from_json({**content, **change}, "leases/x")


@pytest.mark.parametrize("missing", Claim(WRITE, on_another_host(), "now").to_json())
def test_what_lacks_something(missing):
    content = Claim(WRITE, on_another_host(), "now").to_json()
    del content[missing]
    with pytest.raises(Damaged):
        Claim.from_json(content, "leases/x")
