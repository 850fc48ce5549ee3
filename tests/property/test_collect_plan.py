"""Plans of a collection of garbage, over all kinds of facts."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from sendense.repository.dedup.collecting.facts import (
    CollectFacts,
    CondemnationFacts,
    LeaseFacts,
    PackFacts,
)
from sendense.repository.dedup.collecting.plan import (
    JOINED_AT_LEAST,
    SMALL,
    Action,
    CollectOptions,
    make_plan,
)
from sendense.repository.dedup.format import PackKind
from sendense.units import MIB

ages = st.integers(0, 60).map(lambda hours: timedelta(hours=hours))
names = st.sampled_from([f"c{number}" for number in range(4)])


@st.composite
def some_packs(draw):
    packs = []
    for number in range(draw(st.integers(0, 12))):
        records = draw(st.integers(1, 32 * MIB))
        live = draw(st.sampled_from([0, 0, 1, records // 2, records]))
        indexed = draw(st.booleans()) or live > 0
        count = draw(st.integers(1, 5)) if live else 0
        packs.append(
            PackFacts(
                id=f"p{number}",
                kind=draw(st.sampled_from(PackKind)) if indexed else None,
                size=records + 100,
                age=draw(st.none() | ages),
                records=records if indexed else 0,
                live=live,
                live_records=count,
                lost_records=draw(st.integers(0, count)),
            )
        )
    return packs


@st.composite
def some_facts(draw):
    packs = draw(some_packs())
    chosen = st.lists(st.sampled_from([pack.id for pack in packs] or ["none"]), max_size=6)
    return CollectFacts(
        packs=packs,
        condemned=[
            CondemnationFacts(name, frozenset(draw(chosen)), draw(ages))
            for name in draw(st.lists(names, unique=True))
        ],
        leases=draw(
            st.lists(
                st.builds(LeaseFacts, st.just("somebody"), st.frozensets(names), st.booleans()),
                max_size=3,
            )
        ),
        free_bytes=draw(st.none() | st.integers(0, 100 * MIB)),
    )


some_options = st.builds(
    CollectOptions,
    live_ratio=st.floats(0, 1),
    grace=ages,
    most_rewrite=st.integers(0, 200 * MIB),
)


def condemnations(facts, pack):
    return [item for item in facts.condemned if pack in item.packs]


@given(facts=some_facts(), options=some_options)
def test_each_pack_has_one_verdict_with_a_reason(facts, options):
    plan = make_plan(facts, options)
    assert [item.pack for item in plan.verdicts] == [pack.id for pack in facts.packs]
    assert all(item.reason for item in plan.verdicts)


@given(facts=some_facts(), options=some_options)
def test_what_is_live_is_neither_removed_nor_condemned_without_a_copy(facts, options):
    plan = make_plan(facts, options)
    for pack, verdict in zip(facts.packs, plan.verdicts, strict=True):
        if pack.live_records:
            assert verdict.action not in (Action.REMOVE, Action.CONDEMN)
        if pack.lost_records or pack.age is None:
            assert verdict.action is not Action.REWRITE


@given(facts=some_facts(), options=some_options)
def test_only_what_is_condemned_for_long_enough_and_seen_by_all_is_removed(facts, options):
    for verdict in make_plan(facts, options).of(Action.REMOVE):
        by = condemnations(facts, verdict.pack)
        assert max(item.age for item in by) >= options.grace
        assert all(lease.seen & {item.id for item in by} for lease in facts.leases)


@given(facts=some_facts(), options=some_options)
def test_what_is_condemned_is_not_condemned_again(facts, options):
    for verdict in make_plan(facts, options).verdicts:
        is_condemned = bool(condemnations(facts, verdict.pack))
        if verdict.action in (Action.REMOVE, Action.RESCUE):
            assert is_condemned
        if verdict.action in (Action.CONDEMN, Action.REWRITE):
            assert not is_condemned


@given(facts=some_facts(), options=some_options, longer=ages)
def test_a_longer_grace_time_removes_and_condemns_no_more(facts, options, longer):
    patient = CollectOptions(options.live_ratio, options.grace + longer, options.most_rewrite)
    soon, late = make_plan(facts, options), make_plan(facts, patient)
    for action in (Action.REMOVE, Action.CONDEMN):
        less = {item.pack for item in late.of(action)}
        assert less <= {item.pack for item in soon.of(action)}


@given(facts=some_facts(), options=some_options, lease=st.frozensets(names))
def test_one_more_at_work_removes_and_condemns_no_more(facts, options, lease):
    more = LeaseFacts("one more", lease, writes=True)
    busier = CollectFacts(facts.packs, facts.condemned, [*facts.leases, more], facts.free_bytes)
    before, after = make_plan(facts, options), make_plan(busier, options)
    for action in (Action.REMOVE, Action.CONDEMN):
        less = {item.pack for item in after.of(action)}
        assert less <= {item.pack for item in before.of(action)}


@given(facts=some_facts(), options=some_options)
def test_the_copying_is_bounded(facts, options):
    plan = make_plan(facts, options)
    assert plan.to_copy <= options.most_rewrite
    if facts.free_bytes is not None:
        assert plan.to_copy <= facts.free_bytes // 2
    joined = Counter(
        item.kind for item in plan.of(Action.REWRITE) if item.reason.startswith("small")
    )
    assert all(count >= JOINED_AT_LEAST for count in joined.values())
    assert all(
        item.size < SMALL for item in plan.of(Action.REWRITE) if item.reason.startswith("small")
    )
