"""Whatever the points and the rules: what must never be deleted is never deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sendense.model.point import PointState, RecoveryPoint
from sendense.model.retention import KeepRules, plan_retention
from tests.support.builders import a_disk, a_machine, a_point, an_image

START = datetime(2026, 1, 1, tzinfo=UTC)
UUIDS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(3)]
TARGETS = ["vda", "vdb", "vdc"]

targets = st.lists(st.sampled_from(TARGETS), min_size=1, unique=True)


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
                    taken_at=START + timedelta(hours=draw(st.integers(0, 1000))),
                    disks=tuple(an_image(a_disk(target)) for target in held),
                    state=draw(st.sampled_from(PointState)),
                )
            )
    shuffled: list[RecoveryPoint] = draw(st.permutations(made))
    return shuffled


rules = st.builds(
    KeepRules,
    last=st.integers(1, 9),
    within=st.none() | st.timedeltas(timedelta(0), timedelta(days=30)),
)


@given(some_points(), rules, st.integers(0, 2000))
def test_promises(points, rules, hours):
    verdicts = plan_retention(points, rules, START + timedelta(hours=hours))
    assert sorted(item.point_id for item in verdicts) == sorted(point.id for point in points)
    assert all(item.reason for item in verdicts)
    keep = {item.point_id for item in verdicts if item.keep}
    for uuid in {point.machine.uuid for point in points}:
        mine = sorted(
            (point for point in points if point.machine.uuid == uuid),
            key=lambda point: point.sequence,
        )
        good = [point for point in mine if point.state is PointState.COMPLETE]
        if not good:
            assert {point.id for point in mine} <= keep
            continue
        assert {point.id for point in good[-rules.last :]} <= keep
        for disk in mine[-1].machine.disks:
            holders = [point for point in good if point.image_of(disk.identity)]
            assert not holders or holders[-1].id in keep


@given(some_points(), rules)
def test_a_second_prune_finds_nothing(points, rules):
    keep = {item.point_id for item in plan_retention(points, rules, START) if item.keep}
    left = [point for point in points if point.id in keep]
    assert all(item.keep for item in plan_retention(left, rules, START))


@given(some_points(), st.integers(1, 8))
def test_keeping_more_never_deletes_more(points, last):
    fewer = plan_retention(points, KeepRules(last=last), START)
    more = plan_retention(points, KeepRules(last=last + 1), START)
    kept_more = {item.point_id for item in more if item.keep}
    assert {item.point_id for item in fewer if item.keep} <= kept_more
