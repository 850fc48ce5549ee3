"""``restore``: which point, where to, what is asked; nothing is written without a clear order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sendense.model.machine import PowerState
from sendense.model.point import PointState
from tests.support.builders import a_disk, a_machine, a_machine_survey, a_point, an_image
from tests.unit.cli.stage import document

TWO = (an_image(a_disk("vda")), an_image(a_disk("vdb")))


@pytest.fixture
def repository(stage):
    return stage.add(a_point("aa11", 1, disks=TWO), a_point("aa22", 2, disks=TWO))


def planned(stage, capsys, *arguments: object) -> dict[str, Any]:
    assert stage.run("restore", *arguments, "-r", "mem", "--dry-run", "--json") == 0
    plan: dict[str, Any] = document(capsys.readouterr())["plan"]
    return plan


def test_dry_run_to_files(stage, capsys, repository, tmp_path):
    plan = planned(stage, capsys, "aa11", "--output", tmp_path / "new")
    assert plan["point"]["id"] == "aa11"
    assert [disk["path"] for disk in plan["disks"]] == [
        str(tmp_path / "new/vda.qcow2"),
        str(tmp_path / "new/vdb.qcow2"),
    ]
    assert not (tmp_path / "new").exists()


def test_format_and_disks(stage, capsys, repository, tmp_path):
    options = ["--format", "raw", "--disk", "vdb"]
    plan = planned(stage, capsys, "latest:i-2-10-VM", "--output", tmp_path, *options)
    assert plan["point"]["id"] == "aa22"
    assert [disk["path"] for disk in plan["disks"]] == [str(tmp_path / "vdb.raw")]
    assert [item["target"] for item in plan["left_out"]] == ["vda"]


@pytest.mark.parametrize(
    ("at", "point"),
    [
        ("2026-01-02", "aa11"),
        ("2026-01-02T12:00", "aa22"),
        ("2026-01-02T12:59+01:00", "aa11"),
        ("2026-01-02T13:00+01:00", "aa22"),
    ],
)
def test_the_newest_at_a_time(stage, capsys, repository, tmp_path, at, point):
    plan = planned(stage, capsys, "latest:i-2-10-VM", "--at", at, "--output", tmp_path)
    assert plan["point"]["id"] == point


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["latest:i-2-10-VM", "--at", "2025-01-01"], 3),
        (["latest:i-2-10-VM", "--at", "yesterday"], 2),
        (["aa11", "--at", "2026-01-02"], 2),
        (["aa11", "--disk", "vdz"], 3),
        (["aa11", "--to", "vda=/dev/null"], 2),
        (["aa11", "--in-place"], 2),
        (["aa11", "--xml", "x"], 2),
    ],
    ids=lambda value: str(value),
)
def test_what_is_not_clear(stage, repository, tmp_path, arguments, code):
    assert stage.run("restore", *arguments, "--output", tmp_path / "new", "-r", "mem") == code
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--in-place", "--format", "raw"],
        ["--in-place", "--name", "copy"],
        ["--in-place", "--overwrite"],
        ["--to", "vda=/dev/null", "--new-macs"],
        ["--to", "vda"],
        ["--to", "=/dev/null"],
        ["--to", "vda=/dev/x", "--to", "vda=/dev/y"],
    ],
    ids=" ".join,
)
def test_where_to_is_said_once(stage, repository, options):
    assert stage.run("restore", "aa11", *options, "-r", "mem") == 2


def test_a_file_in_the_way(stage, capsys, repository, tmp_path):
    (tmp_path / "vda.qcow2").write_text("precious")
    arguments = ["restore", "aa11", "--output", tmp_path, "-r", "mem"]
    assert stage.run(*arguments) == 2
    assert stage.run(*arguments, "--overwrite", "--dry-run") == 0
    assert (tmp_path / "vda.qcow2").read_text() == "precious"


def test_latest_does_not_fall_back_in_silence(stage, capsys, tmp_path):
    stage.add(a_point("aa11", 1), a_point("aa22", 2, state=PointState.DAMAGED))
    arguments = ["--output", tmp_path, "-r", "mem", "--dry-run"]
    assert stage.run("restore", "latest:i-2-10-VM", *arguments) == 6
    assert "newest good point before it is aa11" in capsys.readouterr().err
    assert stage.run("restore", "aa22", *arguments) == 0
    assert "warning: point aa22 is damaged" in capsys.readouterr().err


def test_in_place_of_a_running_machine(stage, capsys, repository):
    stage.surveys = [a_machine_survey()]
    assert stage.run("restore", "aa11", "--in-place", "--yes", "-r", "mem") == 2
    assert "is running" in capsys.readouterr().err


def test_in_place_of_a_machine_that_libvirt_forgot(stage, capsys, repository):
    assert stage.run("restore", "aa11", "--in-place", "--yes", "-r", "mem") == 3
    assert "--xml" in capsys.readouterr().err


def test_a_file_does_not_hide_that_the_machine_runs(stage, capsys, repository, tmp_path):
    stage.surveys = [a_machine_survey()]
    xml = tmp_path / "vm.xml"
    xml.write_text("<domain/>")
    arguments = ["restore", "aa11", "--in-place", "--xml", xml, "--yes", "-r", "mem"]
    assert stage.run(*arguments) == 2
    assert "is running" in capsys.readouterr().err


def test_overwriting_wants_a_yes(stage, capsys, tmp_path, make_image):
    disk = a_disk(path=str(make_image("vda.qcow2")))
    machine = a_machine(disk, power=PowerState.STOPPED)
    stage.surveys = [replace(a_machine_survey(), machine=machine)]
    stage.add(a_point("p1", 1, machine=machine, disks=(an_image(disk, size=1 << 20),)))
    assert stage.run("restore", "p1", "--in-place", "-r", "mem", "--dry-run") == 0
    assert stage.run("restore", "p1", "--in-place", "-r", "mem") == 2
    captured = capsys.readouterr()
    assert "--yes" in captured.err
    assert str(tmp_path / "vda.qcow2") in captured.err


def test_times_are_told_in_utc(stage, capsys, tmp_path):
    stage.add(a_point("p1", 1, taken_at=datetime(2026, 1, 1, 12, tzinfo=UTC)))
    assert stage.run("restore", "p1", "--output", tmp_path, "-r", "mem", "--dry-run") == 0
    assert "as of 2026-01-01 12:00:00 UTC" in capsys.readouterr().out


@pytest.mark.parametrize("power", [PowerState.STOPPED, PowerState.RUNNING])
def test_a_machine_that_is_here_is_not_defined_anew(stage, capsys, repository, tmp_path, power):
    stage.surveys = [a_machine_survey(machine=a_machine(power=power))]
    order = ("restore", "aa11", "--output", tmp_path / "new", "--start", "-r", "mem", "--dry-run")
    assert stage.run(*order) == 2
    assert "would lose its definition" in capsys.readouterr().err
    assert stage.run(*order, "--name", a_machine().name) == 2
    assert stage.run(*order, "--name", "copy") == 0


def test_a_copy_has_a_name_of_its_own(stage, capsys, repository, tmp_path):
    other = a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")
    stage.surveys = [a_machine_survey(machine=other)]
    order = ("restore", "aa11", "--output", tmp_path / "new", "-r", "mem", "--dry-run")
    assert stage.run(*order, "--start", "--name", "other") == 2
    assert "other on this host already" in capsys.readouterr().err
    assert stage.run(*order, "--start") == 0


@pytest.mark.parametrize("name", ["a/b", " ", "a\nb"])
def test_a_name_that_libvirt_refuses(stage, capsys, repository, tmp_path, name):
    order = ("restore", "aa11", "--output", tmp_path / "new", "-r", "mem", "--dry-run")
    assert stage.run(*order, "--name", name) == 2
    assert "no name for a machine" in capsys.readouterr().err
