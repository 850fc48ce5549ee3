"""What a copy decides about points and disks, from what both repositories hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.point import PointState
from sendense.model.point_copy import (
    CopyVerdict,
    DiskReason,
    PointReason,
    TargetPoints,
    plan_points,
)
from tests.support.builders import GIB, a_disk, a_machine, a_point, an_image

VDB = a_disk("vdb")
OTHER = a_machine(uuid="ffffffff-0000-4000-8000-000000000001")


def points(*numbers, **changes):
    """Give points by their numbers, with 1 MiB of changes each."""
    disks = changes.pop("disks", (an_image(data_bytes=1 << 20),))
    return {f"p{n}": a_point(f"p{n}", n, disks=disks, **changes) for n in numbers}


def plan(source, target=(), chosen=None, *, older=False, lost=()):
    there = target.values() if isinstance(target, dict) else target
    wanted = source.values() if chosen is None else [source[name] for name in chosen]
    return plan_points(wanted, source, TargetPoints(there, lost), older=older)


def verdicts(planned):
    return {item.point.id: item.verdict.value for item in planned}


def reasons(planned):
    return {item.point.id: item.reason.value for item in planned}


# --- points ---


def test_into_an_empty_target_all_in_order():
    planned = plan(dict(reversed(points(1, 2, 3).items())))
    assert [item.point.id for item in planned] == ["p1", "p2", "p3"]
    assert set(verdicts(planned).values()) == {"copy"}


def test_what_is_there_is_not_copied_again():
    planned = plan(points(1, 2, 3), points(1, 2))
    assert reasons(planned) == {"p1": "present", "p2": "present", "p3": "missing"}


def test_order_is_the_sources_and_not_the_clocks():
    source = points(1, 2)
    late = source["p1"].taken_at.replace(year=2030)
    source["p1"] = replace(source["p1"], taken_at=late)
    assert [item.point.id for item in plan(source)] == ["p1", "p2"]


def test_what_the_target_pruned_does_not_come_back():
    planned = plan(points(1, 2, 3, 4), points(3))
    assert reasons(planned) == {
        "p1": "older",
        "p2": "older",
        "p3": "present",
        "p4": "missing",
    }
    assert verdicts(planned)["p1"] == "older"


def test_unless_it_is_asked_for():
    planned = plan(points(1, 2, 3, 4), points(3), older=True)
    assert reasons(planned) == {
        "p1": "missing",
        "p2": "missing",
        "p3": "present",
        "p4": "missing",
    }


def test_points_of_the_targets_own_do_not_count_as_newer():
    own = a_point("q9", 9)
    assert reasons(plan(points(1, 2), [own])) == {"p1": "missing", "p2": "missing"}


def test_sequences_of_the_target_are_its_own():
    """The source's first was pruned, and the copy of its third is the target's first."""
    there = replace(a_point("p3", 3), sequence=1)
    assert reasons(plan(points(2, 3, 4), [there])) == {
        "p2": "older",
        "p3": "present",
        "p4": "missing",
    }


def test_damaged_points():
    source = points(1, 2, 3)
    source["p2"] = replace(source["p2"], state=PointState.DAMAGED)
    planned = plan(source)
    assert reasons(planned) == {"p1": "missing", "p2": "damaged", "p3": "missing"}
    assert planned[1].verdict is CopyVerdict.REFUSED
    assert planned[2].disks[0].base == "p1"
    later = plan(source, points(1, 3))
    assert reasons(later)["p2"] == "older"


def test_a_copy_that_is_damaged_in_the_target_is_told():
    there = replace(points(1)["p1"], state=PointState.DAMAGED)
    (item,) = plan(points(1), [there])
    assert (item.verdict, item.reason) == (CopyVerdict.PRESENT, PointReason.PRESENT_DAMAGED)


def test_an_id_that_means_another_point_in_the_target():
    there = replace(points(1)["p1"], taken_at=a_point("p2", 2).taken_at)
    assert reasons(plan(points(1), [there])) == {"p1": "another"}
    there = replace(points(1)["p1"], machine=OTHER)
    assert reasons(plan(points(1), [there])) == {"p1": "another"}


def test_a_lost_point_of_this_id_in_the_target():
    planned = plan(points(1, 2), lost=["p1"])
    assert reasons(planned) == {"p1": "present-lost", "p2": "missing"}


@pytest.mark.parametrize("reason", PointReason)
def test_each_reason_for_a_point_has_words(reason):
    item = replace(plan(points(1))[0], reason=reason)
    assert item.words


# --- disks ---


def one_disk(source, target=(), chosen=None, **options):
    """Give the plan of the only disk of the last point."""
    planned = plan(source, target, chosen, **options)
    (disk,) = planned[-1].disks
    return disk


def test_a_new_disk_is_copied_whole():
    disk = one_disk(points(1))
    assert (disk.method, disk.reason, disk.base) == (Method.EVERYTHING, DiskReason.NEW_DISK, None)
    assert disk.estimated_bytes == GIB


def test_what_differs_from_the_last_that_both_have():
    disk = one_disk(points(1, 2), points(1))
    assert (disk.method, disk.reason, disk.base) == (Method.BITMAP, DiskReason.SHARED, "p1")
    assert disk.estimated_bytes == 1 << 20


def test_points_of_one_copy_build_on_each_other():
    planned = plan(points(1, 2, 3))
    assert [item.disks[0].base for item in planned] == [None, "p1", "p2"]


def test_points_between_that_are_not_chosen():
    disk = one_disk(points(1, 2, 3, 4), points(1), ["p4"])
    assert (disk.base, disk.estimated_bytes) == ("p1", 3 << 20)


def test_an_older_point_over_a_newer_one():
    disk = one_disk(points(1, 2), points(2), ["p1"], older=True)
    assert (disk.method, disk.base, disk.estimated_bytes) == (Method.BITMAP, "p2", GIB)


def test_each_disk_has_a_base_of_its_own():
    both = (an_image(), an_image(VDB))
    source = {
        "p1": a_point("p1", 1, disks=both),
        "p2": a_point("p2", 2),
        "p3": a_point("p3", 3, disks=both),
    }
    planned = plan(source, [source["p1"], source["p2"]])
    assert [(item.image.disk.target, item.base) for item in planned[-1].disks] == [
        ("vda", "p2"),
        ("vdb", "p1"),
    ]


def test_the_last_image_in_the_target_counts_and_no_other():
    """An own point of the target, say: what is stored has to lie over it."""
    own = a_point("q9", 9)
    disk = one_disk(points(1, 2), [*points(1).values(), own])
    assert (disk.method, disk.reason) == (Method.COMPARE, DiskReason.SOURCE_LACKS)
    assert (disk.base, disk.estimated_bytes) == ("q9", GIB)


def test_a_base_that_was_deleted_in_the_source():
    disk = one_disk(points(2), points(1))
    assert (disk.method, disk.reason) == (Method.COMPARE, DiskReason.SOURCE_LACKS)


def test_a_base_that_is_another_point_in_the_source():
    there = replace(points(1)["p1"], taken_at=a_point("p9", 9).taken_at)
    disk = one_disk(points(1, 2), [there])
    assert (disk.method, disk.reason) == (Method.COMPARE, DiskReason.SOURCE_LACKS)


def test_a_base_whose_disk_has_another_size_in_the_source():
    there = replace(points(1)["p1"], disks=(an_image(size=GIB // 2),))
    disk = one_disk(points(1, 2), [there])
    assert (disk.method, disk.reason) == (Method.COMPARE, DiskReason.SOURCE_LACKS)


def test_a_base_that_is_damaged_in_the_source():
    source = points(1, 2)
    source["p1"] = replace(source["p1"], state=PointState.DAMAGED)
    disk = one_disk(source, points(1))
    assert (disk.method, disk.reason) == (Method.COMPARE, DiskReason.SOURCE_DAMAGED)


def test_nothing_is_built_on_damage_in_the_target():
    there = replace(points(1)["p1"], state=PointState.DAMAGED)
    disk = one_disk(points(1, 2), [there])
    assert (disk.method, disk.reason) == (Method.EVERYTHING, DiskReason.TARGET_DAMAGED)
    assert (disk.over, disk.base) == (None, "p1")


def test_a_disk_that_became_smaller_is_a_full():
    source = points(1, 2)
    source["p2"] = replace(source["p2"], disks=(an_image(size=GIB // 2),))
    disk = one_disk(source, points(1))
    assert (disk.method, disk.reason) == (Method.EVERYTHING, DiskReason.SHRUNK)
    source["p3"] = replace(points(3)["p3"], disks=(an_image(size=GIB // 2),))
    assert one_disk(source, points(1)).base == "p2"


@pytest.mark.parametrize("reason", DiskReason)
def test_each_reason_for_a_disk_has_words(reason):
    disk = replace(one_disk(points(1, 2), points(1)), reason=reason)
    assert "{" not in disk.words


# --- what the target's writer is told ---


def original(**changes):
    decision = DiskDecision(
        "vda", Mode.INCREMENTAL, Method.BITMAP, Reason.USABLE, base="p0", bitmap="sendense-p0"
    )
    return an_image(decision=replace(decision, **changes), parent="p0")


def test_why_a_disk_was_captured_so_is_kept():
    source = {"p1": a_point("p1", 1, disks=(original(tracked=False),))}
    decision = one_disk(source).decision()
    assert decision == DiskDecision(
        "vda", Mode.FULL, Method.EVERYTHING, Reason.USABLE, tracked=False
    )


def test_a_full_becomes_what_differs():
    source = points(1, 2)
    decision = one_disk(source, points(1)).decision()
    assert (decision.mode, decision.method) == (Mode.INCREMENTAL, Method.BITMAP)
    assert (decision.reason, decision.base, decision.bitmap) == (Reason.NO_BASE, "p1", None)


def test_a_comparison_has_no_bitmap():
    source = {"p2": a_point("p2", 2, disks=(original(),))}
    decision = one_disk(source, points(1)).decision()
    assert (decision.method, decision.base, decision.bitmap) == (Method.COMPARE, "p1", None)
