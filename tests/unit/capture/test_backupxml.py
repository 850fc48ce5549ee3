"""The documents that begin a capture."""

from __future__ import annotations

from pathlib import Path

from sendense.capture.backupxml import (
    backup_xml,
    checkpoint_xml,
    mentions_path,
    redefinition_xml,
    scratch_indexes,
)
from sendense.capture.checkpoints import surplus
from sendense.capture.domainxml import parse_document
from sendense.model.plan import CapturePlan
from sendense.workflows.planning import BackupRequest, plan_backup
from tests.support.builders import a_disk, a_machine_survey, a_point, a_survey

SCRATCH = {"vda": Path("/s/a"), "vdb": Path("/s/b"), "vdc": Path("/s/c")}


def a_plan(*, exclude: tuple[str, ...] = ()) -> CapturePlan:
    survey = a_machine_survey(
        a_survey(), a_survey(a_disk("vdb")), a_survey(a_disk("vdc", format="raw"), bitmaps=())
    )
    return plan_backup(survey, (a_point(),), BackupRequest(exclude=exclude))


def disks(xml: str) -> dict[str, dict[str, str]]:
    return {disk.attrib["name"]: disk.attrib for disk in parse_document(xml).iter("disk")}


def test_every_disk_is_listed_and_has_its_own_mode() -> None:
    listed = disks(backup_xml(a_plan(), socket=Path("/s/x.sock"), scratch=SCRATCH))
    assert listed["vda"]["backupmode"] == "incremental"
    assert listed["vda"]["incremental"] == "sendense-p1"
    assert listed["vdb"]["backupmode"] == "full"
    assert "incremental" not in listed["vdb"]


def test_disk_left_out_is_listed_as_no() -> None:
    listed = disks(backup_xml(a_plan(exclude=("vdb",)), socket=Path("/s/x.sock"), scratch=SCRATCH))
    assert listed["vdb"] == {"name": "vdb", "backup": "no"}


def test_every_exported_disk_has_a_scratch_file() -> None:
    root = parse_document(backup_xml(a_plan(), socket=Path("/s/x.sock"), scratch=SCRATCH))
    assert [item.get("file") for item in root.iter("scratch")] == ["/s/a", "/s/b", "/s/c"]


def test_raw_disk_gets_no_bitmap() -> None:
    xml = checkpoint_xml(a_plan())
    assert xml is not None
    listed = disks(xml)
    assert listed["vdc"] == {"name": "vdc", "checkpoint": "no"}
    assert listed["vda"]["bitmap"].startswith("sendense-")


def test_no_checkpoint_where_nothing_can_be_tracked() -> None:
    survey = a_machine_survey(a_survey(a_disk(format="raw"), bitmaps=()))
    assert checkpoint_xml(plan_backup(survey, (), BackupRequest())) is None


def test_redefinition_names_the_bitmap_like_the_checkpoint() -> None:
    listed = disks(redefinition_xml("sendense-1", ["vda"], created=1))
    assert listed == {"vda": {"name": "vda", "checkpoint": "bitmap", "bitmap": "sendense-1"}}


def test_own_job_is_told_by_its_socket() -> None:
    job = backup_xml(a_plan(), socket=Path("/s/x.sock"), scratch=SCRATCH)
    assert mentions_path(job, "/s/x.sock")
    assert not mentions_path(job, "/s/y.sock")


def test_scratch_indexes_are_read_from_a_running_job() -> None:
    job = (
        "<domainbackup><disks><disk name='vda' index='7'/><disk name='vdb'/></disks></domainbackup>"
    )
    assert scratch_indexes(job) == {"vda": "7"}


def test_superseded_go_and_others_stay_up_to_the_bound() -> None:
    names = ["sendense-a", "sendense-b", "sendense-c", "sendense-new"]
    assert surplus(names, new="sendense-new", dropped=["sendense-b"], most=3) == ("sendense-b",)
    assert surplus(names, new="sendense-new", dropped=["sendense-b"], most=2) == (
        "sendense-b",
        "sendense-a",
    )
    assert surplus(names, new="sendense-new", dropped=[], most=1) == (
        "sendense-a",
        "sendense-b",
        "sendense-c",
    )
