"""Whatever the points, the rules and the holds: what must never be deleted is never deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sendense.model.hold import Hold, HoldKind
from sendense.model.periods import PeriodKind, find_zone, local_time, period_name
from sendense.model.point import SAFETY, Attachment, PointState, RecoveryPoint
from sendense.model.retention import KeepRules, plan_retention
from tests.support.builders import a_disk, a_machine, a_point, an_image

START = datetime(2026, 10, 1, tzinfo=UTC)
"""Some weeks before the autumn nights of Berlin and New York."""
UUIDS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(3)]
TARGETS = ["vda", "vdb", "vdc"]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
]

MARK = (Attachment(SAFETY, 2, ""),)
marks = st.sampled_from([(), (), MARK])
"""Of the attachments of points; some are safety points."""
targets = st.lists(st.sampled_from(TARGETS), min_size=1, unique=True)
counts = st.integers(0, 5)
moments = st.integers(0, 60 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))
spans = st.none() | st.timedeltas(timedelta(0), timedelta(days=30))
rules = st.builds(
    KeepRules,
    last=st.integers(1, 9),
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    within=spans,
    timezone=st.sampled_from(ZONES),
    safety=st.timedeltas(timedelta(0), timedelta(days=30)),
)


@st.composite
def some_points(draw) -> list[RecoveryPoint]:
    """Give points of up to three machines, in any order, some damaged, some partial."""
    made = []
    for uuid in UUIDS[: draw(st.integers(1, 3))]:
        for sequence in range(1, draw(st.integers(0, 8)) + 1):
            has = draw(targets)
            machine = a_machine(*(a_disk(target) for target in has), uuid=uuid)
            held = draw(st.lists(st.sampled_from(has), min_size=1, unique=True))
            made.append(
                a_point(
                    f"{uuid[:8]}-{sequence}",
                    sequence,
                    machine=machine,
                    taken_at=draw(moments),
                    disks=tuple(an_image(a_disk(target)) for target in held),
                    state=draw(st.sampled_from(PointState)),
                    attachments=draw(marks),
                )
            )
    shuffled: list[RecoveryPoint] = draw(st.permutations(made))
    return shuffled


@st.composite
def one_machine(draw) -> list[RecoveryPoint]:
    """Give the points of a machine whose disks stay the same, in their order."""
    times = draw(st.lists(moments, min_size=1, max_size=25))
    if draw(st.booleans()):
        times.sort()
    # The builder's time has the day of the sequence.
    return [
        replace(
            a_point(f"p{number}"),
            sequence=number,
            taken_at=time,
            state=draw(st.sampled_from([PointState.COMPLETE] * 4 + [PointState.DAMAGED])),
            attachments=draw(marks),
        )
        for number, time in enumerate(times, start=1)
    ]


@st.composite
def some_holds(draw, points: Sequence[RecoveryPoint]) -> list[Hold]:
    """Hold some of the points; some locks are over."""
    chosen = draw(st.lists(st.sampled_from(points), max_size=3)) if points else []
    return [
        Hold(point.id, HoldKind.PIN if until is None else HoldKind.LOCK, until, "", START)
        for point in chosen
        for until in [draw(st.none() | moments)]
    ]


def kept(points, rules, now, holds=()) -> set[str]:
    return {item.point_id for item in plan_retention(points, rules, now, holds) if item.keep}


@given(st.data(), some_points(), rules, moments)
def test_promises(data, points, rules, now):
    holds = data.draw(some_holds(points))
    verdicts = plan_retention(points, rules, now, holds)
    assert sorted(item.point_id for item in verdicts) == sorted(point.id for point in points)
    assert all(item.reasons for item in verdicts)
    keep = {item.point_id for item in verdicts if item.keep}
    assert {hold.point_id for hold in holds if hold.in_force(now)} <= keep
    for uuid in {point.machine.uuid for point in points}:
        mine = sorted(
            (point for point in points if point.machine.uuid == uuid),
            key=lambda point: point.sequence,
        )
        good = [point for point in mine if point.state is PointState.COMPLETE]
        if not good:
            assert {point.id for point in mine} <= keep
            continue
        plain = [point for point in good if not point.is_safety]
        assert {point.id for point in (*plain[-rules.last :], good[-1])} <= keep
        for disk in mine[-1].machine.disks:
            for among in (good, plain):
                holders = [point for point in among if point.image_of(disk.identity)]
                assert not holders or holders[-1].id in keep


@given(st.data(), some_points(), rules, moments)
def test_what_undoes_a_restore_stays(data, points, rules, now):
    """For its time, and while the restore is not finished, whatever its state."""
    some = data.draw(st.lists(st.sampled_from(points), max_size=3)) if points else []
    needed = {point.id: "undoes a restore" for point in some}
    verdicts = plan_retention(points, rules, now, needed=needed)
    keep = {item.point_id for item in verdicts if item.keep}
    assert set(needed) <= keep
    young = {
        point.id for point in points if point.is_safety and now - point.taken_at < rules.safety
    }
    assert young <= keep
    assert keep >= kept(points, rules, now)


@given(some_points(), rules, moments)
def test_what_undoes_a_restore_takes_no_place(points, rules, now):
    """Each rule keeps of the backups what it keeps where there are no safety points."""
    plain = [point for point in points if not point.is_safety]
    alone, beside = (
        {
            (item.point_id, reason)
            for item in plan_retention(judged, rules, now)
            for reason in item.reasons
            if reason.startswith(("number", "younger", *(f"{kind.value} " for kind in PeriodKind)))
        }
        for judged in (plain, points)
    )
    assert alone == beside


@given(st.data(), some_points(), rules, moments)
def test_the_order_of_what_is_given_says_nothing(data, points, rules, now):
    holds = data.draw(some_holds(points))
    again = data.draw(st.permutations(points)), data.draw(st.permutations(holds))
    first = plan_retention(points, rules, now, holds)
    second = plan_retention(again[0], rules, now, again[1])
    assert [(item.point_id, item.keep) for item in first] == [
        (item.point_id, item.keep) for item in second
    ]
    assert [sorted(item.reasons) for item in first] == [sorted(item.reasons) for item in second]


@given(st.data(), some_points(), rules, moments)
def test_a_second_prune_finds_nothing(data, points, rules, now):
    holds = data.draw(some_holds(points))
    keep = kept(points, rules, now, holds)
    left = [point for point in points if point.id in keep]
    assert kept(left, rules, now, holds) == keep


@given(st.data(), some_points(), rules, moments)
def test_keeping_more_never_deletes_more(data, points, rules, now):
    """One more of any rule, and one more hold, each only add."""
    holds = data.draw(some_holds(points))
    keep = kept(points, rules, now, holds)
    numbers = [item.name for item in fields(rules) if isinstance(getattr(rules, item.name), int)]
    for name in numbers:
        more = replace(rules, **{name: getattr(rules, name) + 1})
        assert keep <= kept(points, more, now, holds)
    if rules.within is not None:
        longer = replace(rules, within=rules.within + timedelta(days=1))
        assert keep <= kept(points, longer, now, holds)
    assert keep <= kept(points, rules, now, [*holds, *data.draw(some_holds(points))])


@given(st.data(), one_machine(), rules, moments)
def test_a_newer_point_brings_no_removed_one_back(data, points, rules, now):
    holds = data.draw(some_holds(points))
    removed = {point.id for point in points[:-1]} - kept(points[:-1], rules, now, holds)
    assert not removed & kept(points, rules, now, holds)


@given(st.data(), one_machine(), rules)
def test_pruning_after_every_point_leaves_what_pruning_once_leaves(data, points, rules):
    pins = [hold for hold in data.draw(some_holds(points)) if hold.until is None]
    now = max(point.taken_at for point in points)
    left: list[RecoveryPoint] = []
    for point in points:
        left.append(point)
        keep = kept(left, rules, min(point.taken_at, now), pins)
        left = [item for item in left if item.id in keep]
    assert kept(left, rules, now, pins) == kept(points, rules, now, pins)


@given(one_machine(), st.sampled_from(PeriodKind), st.integers(1, 6), st.sampled_from(ZONES))
def test_the_newest_of_each_of_the_newest_periods(points, kind, count, zone):
    """Said once more, another way: the last point of each period, and of those the last."""
    rules = KeepRules(**{kind.value: count, "timezone": zone})
    good = [point for point in points if point.state is PointState.COMPLETE and not point.is_safety]
    last_of = {
        period_name(kind, local_time(point.taken_at, find_zone(zone))): point.sequence
        for point in good
    }
    expected = sorted(last_of.values())[-count:]
    verdicts = plan_retention(points, rules, START)
    by_rule = [
        point.sequence
        for point, verdict in zip(points, verdicts, strict=True)
        if any(reason.startswith(f"{kind.value} ") for reason in verdict.reasons)
    ]
    assert by_rule == expected


@given(st.integers(0, 65 * 366 * 24 * 60), st.sampled_from(ZONES))
def test_an_hour_is_one_stretch_of_an_hour_at_most(minute, zone):
    moment = datetime(1972, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    minutes = [moment + timedelta(minutes=number) for number in range(-90, 91)]
    names = [period_name(PeriodKind.HOUR, local_time(item, find_zone(zone))) for item in minutes]
    same = [place for place, name in enumerate(names) if name == names[90]]
    assert same == list(range(same[0], same[-1] + 1))
    assert len(same) <= 60
