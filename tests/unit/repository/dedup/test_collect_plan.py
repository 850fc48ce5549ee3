"""What a collection of garbage decides for each pack, and the reason that it gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sendense.errors import Rejected
from sendense.repository.dedup.collecting.facts import (
    CollectFacts,
    CondemnationFacts,
    LeaseFacts,
    PackFacts,
)
from sendense.repository.dedup.collecting.plan import (
    Action,
    CollectOptions,
    keep_locked,
    make_plan,
)
from sendense.repository.dedup.format import PackKind
from sendense.units import MIB

HOURS = {number: timedelta(hours=number) for number in (0, 1, 2, 23, 24, 30, 100)}
BACKUP = LeaseFacts("a backup of web1", frozenset(), writes=True)
RESTORE = LeaseFacts("a reader of p1", frozenset(), writes=False)


def pack(name="a", live=100, *, age=100, size=32 * MIB, kind=PackKind.DATA, lost=0):
    """A pack of 100 bytes of records, of which so many are live."""
    return PackFacts(
        id=name,
        kind=kind,
        size=size,
        age=None if age is None else timedelta(hours=age),
        records=100,
        live=live,
        live_records=live,
        lost_records=lost,
    )


def unindexed(age):
    return PackFacts("a", None, 10, timedelta(hours=age))


def condemned(*packs, age=100, name="c1"):
    return CondemnationFacts(name, frozenset(packs), timedelta(hours=age))


def plan(*packs, by=(), leases=(), free=None, **options):
    return make_plan(CollectFacts(packs, by, leases, free), CollectOptions(**options))


def verdict(*args, **more):
    (only,) = plan(*args, **more).verdicts
    return only.action, only.reason


# --- one pack ---


@pytest.mark.parametrize(
    ("facts", "action", "reason"),
    [
        (pack(live=100), Action.KEEP, "100% live"),
        (pack(live=70), Action.KEEP, "70% live"),
        (pack(live=69), Action.REWRITE, "69% live, below 70%"),
        (pack(live=0), Action.CONDEMN, "nothing refers to it"),
        (pack(live=0, age=0), Action.CONDEMN, "nothing refers to it"),
        (pack(live=1, size=MIB), Action.REWRITE, "1% live, below 70%"),
        (pack(size=MIB), Action.KEEP, "small: 1.0 MiB, with too few others to join"),
        (pack(live=30, lost=1), Action.KEEP, "1 record in it cannot be copied: damaged"),
        (pack(live=30, lost=9), Action.KEEP, "9 records in it cannot be copied: damaged"),
        (
            pack(live=5, age=None),
            Action.KEEP,
            "missing from the store, and points refer to 5 records in it",
        ),
        (
            pack(live=0, age=None),
            Action.CONDEMN,
            "missing from the store, and nothing refers to it",
        ),
        (unindexed(23), Action.KEEP, "no index names it yet: it is 23 hours old"),
        (unindexed(30), Action.CONDEMN, "no index names it, and it is 30 hours old"),
        (
            replace(unindexed(30), live_records=2),
            Action.KEEP,
            "no index names it, and points miss 2 records that it holds",
        ),
        (
            replace(unindexed(30), lost_records=1),
            Action.KEEP,
            "no index names it, and it cannot be read",
        ),
    ],
)
def test_a_pack_that_is_not_condemned(facts, action, reason):
    assert verdict(facts) == (action, reason)


def test_the_share_is_a_choice():
    assert verdict(pack(live=50), live_ratio=0.5)[0] is Action.KEEP
    assert verdict(pack(live=99), live_ratio=1.0)[0] is Action.REWRITE
    assert verdict(pack(live=1), live_ratio=0.0)[0] is Action.KEEP
    assert verdict(pack(live=0), live_ratio=0.0)[0] is Action.CONDEMN


@pytest.mark.parametrize("live", [0, 30])
def test_what_a_backup_under_way_may_need_is_left_alone(live):
    reason = "it is 23 hours old, and may belong to a backup under way"
    assert verdict(pack(live=live, age=23), leases=[BACKUP]) == (Action.KEEP, reason)
    assert verdict(pack(live=live, age=30), leases=[BACKUP])[0] is not Action.KEEP
    assert verdict(pack(live=live, age=23), leases=[RESTORE])[0] is not Action.KEEP


def test_also_with_a_short_grace_time():
    short = {"grace": HOURS[0], "leases": [BACKUP]}
    assert verdict(unindexed(2), **short)[0] is Action.KEEP
    assert verdict(pack(live=0, age=2), **short)[0] is Action.KEEP
    assert verdict(unindexed(24), **short)[0] is Action.CONDEMN
    assert verdict(unindexed(0), grace=HOURS[0])[0] is Action.CONDEMN


# --- condemned packs ---


def test_one_that_nobody_needs_is_removed():
    found = plan(pack(live=0), by=[condemned("a", age=30)])
    assert [(item.action, item.reason) for item in found.verdicts] == [
        (Action.REMOVE, "condemned 30 hours ago, and nothing refers to it")
    ]
    assert (found.freed_now, found.freed_later, found.next_in) == (32 * MIB, 0, None)


@pytest.mark.parametrize("facts", [pack(live=0, age=None), unindexed(0)])
def test_whatever_else_is_known_of_it(facts):
    assert verdict(facts, by=[condemned("a")])[0] is Action.REMOVE


def test_one_that_is_referred_to_again_is_rescued():
    reason = "points refer to 1 record in it again"
    assert verdict(pack(live=1), by=[condemned("a", age=0)]) == (Action.RESCUE, reason)


def test_one_that_may_hold_what_points_miss_stays():
    by = [condemned("a")]
    assert verdict(replace(unindexed(30), live_records=2), by=by)[0] is Action.RESCUE
    assert verdict(replace(unindexed(30), lost_records=1), by=by)[0] is Action.KEEP


def test_the_grace_time_is_waited_for():
    found = plan(pack(live=0), by=[condemned("a", age=2)])
    (only,) = found.waiting
    assert only.action is Action.KEEP
    assert only.reason == "condemned 2 hours ago, the grace time is 1 day"
    assert (found.freed_now, found.freed_later, found.next_in) == (0, 32 * MIB, timedelta(hours=22))
    assert verdict(pack(live=0), by=[condemned("a", age=24)])[0] is Action.REMOVE
    assert verdict(pack(live=0), by=[condemned("a", age=0)], grace=HOURS[0])[0] is Action.REMOVE


@pytest.mark.parametrize("lease", [BACKUP, RESTORE])
def test_who_is_at_work_is_waited_for(lease):
    by = [condemned("a")]
    found = plan(pack(live=0), by=by, leases=[lease])
    (only,) = found.waiting
    assert only.reason == f"{lease.text} has not seen its condemnation"
    assert found.blockers == (lease.text,)
    seen = replace(lease, seen=frozenset({"c1"}))
    assert verdict(pack(live=0), by=by, leases=[seen])[0] is Action.REMOVE
    assert verdict(pack(live=0), by=by, leases=[seen, lease])[0] is Action.KEEP


def test_each_has_to_have_seen_one_of_two_condemnations():
    by = [condemned("a", name="c1", age=2), condemned("a", name="c2", age=30)]
    first = replace(BACKUP, seen=frozenset({"c1"}))
    second = replace(BACKUP, seen=frozenset({"c2", "c3"}))
    assert verdict(pack(live=0), by=by, leases=[first, second])[0] is Action.REMOVE
    assert verdict(pack(live=0), by=by, leases=[first, second, RESTORE])[0] is Action.KEEP


# --- many packs ---


def small(number, live=100, size=MIB, kind=PackKind.DATA):
    return [pack(f"{kind.name}{n}", live, size=size + n, kind=kind) for n in range(number)]


def test_small_packs_are_joined_when_there_are_enough():
    assert not plan(*small(3)).of(Action.REWRITE)
    joined = plan(*small(4)).of(Action.REWRITE)
    assert {item.reason for item in joined} == {"small: 1.0 MiB, joined with 3 others"}
    assert not plan(*small(3), *small(3, kind=PackKind.META)).of(Action.REWRITE)
    assert not plan(*small(4, size=8 * MIB)).of(Action.REWRITE)
    assert len(plan(*small(9), *small(4, kind=PackKind.META)).of(Action.REWRITE)) == 13


def test_a_run_copies_only_so_much_and_begins_where_it_pays_most():
    packs = [pack("a", 60), pack("b", 10), pack("c", 30), pack("d", 50)]
    found = plan(*packs, most_rewrite=100)
    assert [item.pack for item in found.of(Action.REWRITE)] == ["b", "c", "d"]
    assert found.to_copy == 90
    left = next(item for item in found.verdicts if item.pack == "a")
    assert left.reason == "60% live, below 70%, but this run copies no more than 100 B"
    assert left.wait is None
    assert plan(*packs, most_rewrite=0).of(Action.REWRITE) == ()


def test_a_run_takes_no_more_than_half_of_what_is_free():
    assert plan(pack(live=60), free=119).of(Action.REWRITE) == ()
    assert plan(pack(live=60), free=120).to_copy == 60


def test_small_packs_are_joined_with_what_is_left():
    found = plan(pack("worn", 50), *small(6), most_rewrite=450)
    assert found.to_copy == 450
    assert len(found.of(Action.REWRITE)) == 5
    assert len(plan(pack("worn", 51), *small(6), most_rewrite=450).of(Action.REWRITE)) == 1


def test_packs_that_the_store_keeps_are_not_copied():
    until = datetime(2027, 3, 1, tzinfo=UTC)
    found = keep_locked(plan(pack("a", 10), pack("b", 10), pack("c", 0)), {"a": until, "c": until})
    told = {item.pack: (item.action, item.reason) for item in found.verdicts}
    assert told["a"] == (
        Action.KEEP,
        "10% live, below 70%, but the store keeps it until 2027-03-01",
    )
    assert told["b"][0] is Action.REWRITE
    assert told["c"][0] is Action.CONDEMN


def test_the_sums():
    found = plan(
        pack("live", 90),
        pack("worn", 30),
        pack("dead", 0),
        pack("waits", 0),
        pack("goes", 0),
        by=[condemned("waits", age=1), condemned("goes", age=30, name="c2")],
    )
    assert found.freed_now == 32 * MIB
    assert found.freed_later == 3 * 32 * MIB
    assert found.to_copy == 30
    assert found.next_in == timedelta(hours=23)
    assert plan().next_in is None


@pytest.mark.parametrize(
    "wrong", [{"live_ratio": 1.1}, {"live_ratio": -0.1}, {"grace": -HOURS[1]}, {"most_rewrite": -1}]
)
def test_options_that_mean_nothing(wrong):
    with pytest.raises(Rejected):
        CollectOptions(**wrong)
