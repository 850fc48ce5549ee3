"""A plan is a value: what each disk will do, from a survey and the points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import NotFound, Rejected
from sendense.model.decision import Mode, Reason
from sendense.model.point import PointState
from sendense.workflows.planning import BackupRequest, base_of, plan_backup, superseded
from tests.support.builders import a_disk, a_machine_survey, a_point, a_survey, an_image


def test_first_backup_is_full_of_all_disks() -> None:
    survey = a_machine_survey(a_survey(), a_survey(a_disk("vdb")))
    plan = plan_backup(survey, (), BackupRequest())
    assert plan.mode is Mode.FULL
    assert [item.decision.reason for item in plan.disks] == [Reason.NO_BASE, Reason.NO_BASE]


def test_new_disk_gets_its_full_inside_an_incremental_point() -> None:
    survey = a_machine_survey(a_survey(), a_survey(a_disk("vdb")))
    plan = plan_backup(survey, (a_point(),), BackupRequest())
    assert plan.mode is Mode.INCREMENTAL
    assert [item.decision.reason for item in plan.disks] == [Reason.USABLE, Reason.NEW_DISK]


def test_base_is_the_last_point_that_holds_the_disk() -> None:
    other = a_disk("vdb")
    points = (a_point("p1", 1), a_point("p2", 2, disks=(an_image(other),)))
    base = base_of(points, a_disk().identity)
    assert base is not None
    assert base.point == "p1"


def test_order_comes_from_the_sequence_not_the_clock() -> None:
    older = a_point("p1", 1)
    newer = a_point("p2", 2, taken_at=older.taken_at.replace(year=2001))
    base = base_of((newer, older), a_disk().identity)
    assert base is not None
    assert base.point == "p2"


def test_damaged_base_is_told() -> None:
    base = base_of((a_point(state=PointState.DAMAGED),), a_disk().identity)
    assert base is not None
    assert base.damaged


def test_chain_length_counts_back_to_the_full() -> None:
    points = (
        a_point("p1", 1),
        a_point("p2", 2, disks=(an_image(parent="p1"),)),
        a_point("p3", 3, disks=(an_image(parent="p2"),)),
    )
    base = base_of(points, a_disk().identity)
    assert base is not None
    assert base.length == 3


def test_checkpoint_of_an_older_point_stays_while_it_is_the_base_of_a_disk() -> None:
    vda, vdb = an_image(), an_image(a_disk("vdb"))
    points = (
        a_point("p1", 1, disks=(vda, vdb)),
        a_point("p2", 2, disks=(vda,)),
        a_point("p3", 3, disks=(vda,)),
    )
    assert superseded(points) == ("sendense-p2",)
    both = (*points, a_point("p4", 4, disks=(vda, vdb)))
    assert superseded(both) == ("sendense-p1", "sendense-p2", "sendense-p3")


def test_unknown_disk_name_is_refused() -> None:
    with pytest.raises(NotFound, match="vdz"):
        plan_backup(a_machine_survey(), (), BackupRequest(exclude=("vdz",)))


def test_leaving_out_every_disk_is_refused() -> None:
    with pytest.raises(Rejected):
        plan_backup(a_machine_survey(), (), BackupRequest(exclude=("vda",)))


@pytest.mark.parametrize("name", ["vdb", "serialvdb", "/mnt/pool/vdb"])
def test_disks_are_chosen_by_target_serial_or_path(name: str) -> None:
    survey = a_machine_survey(a_survey(), a_survey(a_disk("vdb")))
    plan = plan_backup(survey, (), BackupRequest(include=(name,)))
    assert [item.target for item in plan.disks] == ["vdb"]


def test_estimate_is_the_bitmaps_count_or_what_is_allocated() -> None:
    survey = a_machine_survey(a_survey())
    assert plan_backup(survey, (a_point(),), BackupRequest()).estimated_bytes == 131072
    assert plan_backup(survey, (), BackupRequest()).estimated_bytes == (1 << 30) // 4


def test_disks_of_one_identity_are_refused_unless_one_is_left_out() -> None:
    twin = replace(a_disk("vdb"), serial=a_disk().serial, path=a_disk().path)
    survey = a_machine_survey(a_survey(), a_survey(twin))
    with pytest.raises(Rejected, match="vda and vdb have the same"):
        plan_backup(survey, (), BackupRequest())
    plan = plan_backup(survey, (), BackupRequest(exclude=("vdb",)))
    assert [item.target for item in plan.disks] == ["vda"]
