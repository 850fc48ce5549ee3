"""``vm list``, ``vm show`` and ``backup --dry-run``: what is there, and what would be done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import Unavailable
from tests.support.builders import (
    GIB,
    a_bitmap,
    a_disk,
    a_machine,
    a_machine_survey,
    a_point,
    a_survey,
    an_image,
)
from tests.unit.cli.stage import document

OTHER = a_machine_survey(
    machine=a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")
)


def test_list(stage, capsys):
    stage.surveys = [a_machine_survey(), OTHER]
    stage.add(a_point("p1", 1), a_point("p2", 2))
    assert stage.run("vm", "list", "-r", "mem", "--json") == 0
    machines = document(capsys.readouterr())["machines"]
    assert [item["name"] for item in machines] == ["i-2-10-VM", "other"]
    assert machines[0]["last_point"]["id"] == "p2"
    assert machines[0]["size"] == GIB
    assert machines[0]["power"] == "running"
    assert machines[0]["disks"][0]["target"] == "vda"
    assert machines[0]["agent_channel"] is False
    assert machines[1]["last_point"] is None


def test_list_for_people(stage, capsys):
    stage.surveys = [a_machine_survey()]
    stage.add(a_point("p1", 1))
    assert stage.run("vm", "list", "-r", "mem") == 0
    captured = capsys.readouterr()
    assert "i-2-10-VM" in captured.out
    assert "2026-01-01 12:00:00 UTC" in captured.out
    assert captured.err == ""


def test_list_without_a_repository(stage, capsys):
    stage.surveys = [a_machine_survey()]
    assert stage.run("vm", "list", "--json") == 0
    assert document(capsys.readouterr())["machines"][0]["last_point"] is None


def test_list_while_the_repository_is_away(stage, capsys):
    stage.surveys = [a_machine_survey()]
    assert stage.run("vm", "list", "-r", "away", "--json") == 0
    captured = capsys.readouterr()
    assert "there is no repository at away" in document(captured)["repository_error"]
    assert "warning" in captured.err


def test_one_machine_that_cannot_be_read_does_not_hide_the_others(stage, capsys):
    stage.surveys = [a_machine_survey(), OTHER]
    stage.troubles["i-2-10-VM"] = Unavailable("its storage does not answer")
    assert stage.run("vm", "list", "--json") == 0
    first, second = document(capsys.readouterr())["machines"]
    assert first["trouble"] == "its storage does not answer"
    assert first["size"] is None
    assert second["size"] == GIB


def test_no_machine(stage, capsys):
    assert stage.run("vm", "list") == 0
    assert "no machine" in capsys.readouterr().out


def test_show(stage, capsys):
    stage.surveys = [a_machine_survey()]
    stage.add(a_point("p1", 1))
    assert stage.run("vm", "show", "i-2-10-VM", "-r", "mem", "--json") == 0
    shown = document(capsys.readouterr())
    disk = shown["machine"]["disks"][0]
    assert disk["bitmaps"][0]["name"] == "sendense-p1"
    assert disk["bitmaps"][0]["own"] is True
    assert disk["bitmaps"][0]["dirty_bytes"] == 131072
    assert shown["next"]["mode"] == "incremental"
    assert shown["next"]["disks"][0]["reason"] == "usable"
    assert shown["incremental"] is True


def test_show_for_people(stage, capsys):
    broken = a_survey(bitmaps=(a_bitmap(inconsistent=True), a_bitmap("veeam-1")))
    stage.surveys = [a_machine_survey(broken)]
    stage.add(a_point("p1", 1))
    assert stage.run("vm", "show", "i-2-10-VM", "-r", "mem") == 0
    out = capsys.readouterr().out
    assert "bitmap-inconsistent" in out
    assert "not ours" in out


def test_show_what_is_not_there(stage, capsys):
    assert stage.run("vm", "show", "nobody") == 3


def test_dry_run(stage, capsys):
    vdb = a_survey(a_disk("vdb"), bitmaps=())
    stage.surveys = [a_machine_survey(a_survey(), vdb)]
    stage.add(a_point("p1", 1))
    assert stage.run("backup", "i-2-10-VM", "-r", "mem", "--dry-run", "--json") == 0
    shown = document(capsys.readouterr())
    (result,) = shown["results"]
    assert result["outcome"] == "planned"
    decisions = {item["target"]: item for item in result["plan"]["disks"]}
    assert decisions["vda"]["reason"] == "usable"
    assert decisions["vda"]["estimated_bytes"] == 131072
    assert decisions["vdb"]["reason"] == "new-disk"
    assert decisions["vdb"]["estimated_bytes"] == GIB // 4
    assert shown["estimated_bytes"] == GIB // 4 + 131072


@pytest.mark.parametrize(
    ("options", "reason"), [(["--mode", "full"], "requested"), (["--full-every", "1"], "full-due")]
)
def test_dry_run_takes_the_same_options(stage, capsys, options, reason):
    stage.surveys = [a_machine_survey()]
    stage.add(a_point("p1", 1))
    assert stage.run("backup", "i-2-10-VM", "-r", "mem", "--dry-run", *options) == 0
    assert reason in capsys.readouterr().out


def test_dry_run_says_what_is_left_out(stage, capsys):
    stage.surveys = [a_machine_survey(a_survey(), a_survey(a_disk("vdb")))]
    stage.add()
    arguments = ["backup", "i-2-10-VM", "-r", "mem", "--dry-run", "--exclude", "vdb"]
    assert stage.run(*arguments) == 0
    assert "left out: vdb" in capsys.readouterr().out


def test_the_failure_of_one_does_not_stop_the_others(stage, capsys):
    stage.surveys = [a_machine_survey(), OTHER]
    stage.add()
    stage.troubles["i-2-10-VM"] = Unavailable("its storage does not answer")
    assert stage.run("backup", "--all", "-r", "mem", "--dry-run", "--json") == 5
    shown = document(capsys.readouterr())
    assert [item["outcome"] for item in shown["results"]] == ["failed", "planned"]
    assert shown["results"][0]["error"]["code"] == "unavailable"
    assert shown["error"]["code"] == "unavailable"


def test_the_exit_code_is_the_worst(stage, capsys):
    stage.surveys = [a_machine_survey()]
    stage.add()
    stage.troubles["i-2-10-VM"] = Unavailable("its storage does not answer")
    arguments = ["backup", "i-2-10-VM", "nobody", "-r", "mem", "--dry-run"]
    assert stage.run(*arguments) == 3
    captured = capsys.readouterr()
    assert "error: i-2-10-VM: its storage does not answer" in captured.err
    assert "error: nobody: no machine 'nobody' on this host" in captured.err


def test_a_cancel_ends_the_row(stage, capsys):
    stage.surveys = [a_machine_survey(), OTHER]
    stage.add()
    stage.troubles["i-2-10-VM"] = KeyboardInterrupt()
    assert stage.run("backup", "--all", "-r", "mem", "--dry-run", "--json") == 130
    shown = document(capsys.readouterr())
    assert [item["outcome"] for item in shown["results"]] == ["cancelled", "cancelled"]
    assert [item["error"]["code"] for item in shown["results"]] == ["cancelled", "cancelled"]
    assert "before its turn" in shown["results"][1]["error"]["message"]


def test_a_machine_from_a_file(stage, capsys, tmp_path):
    stage.surveys = [a_machine_survey()]
    stage.add()
    xml = tmp_path / "vm.xml"
    assert stage.run("backup", "--xml", xml, "-r", "mem", "--dry-run") == 3
    xml.write_text("<domain/>")
    assert stage.run("backup", "--xml", xml, "-r", "mem", "--dry-run") == 0
    assert stage.run("backup", "i-2-10-VM", "--xml", xml, "-r", "mem", "--dry-run") == 0
    assert stage.run("backup", "else", "--xml", xml, "-r", "mem", "--dry-run") == 2
    assert "describes i-2-10-VM" in capsys.readouterr().err


def test_columns_that_are_too_long_are_not_cut(stage, capsys):
    path = "/var/lib/libvirt/images/" + "x" * 150
    disk = replace(a_disk(), path=path)
    stage.surveys = [a_machine_survey(a_survey(disk))]
    stage.add(a_point("p1", 1, disks=(an_image(disk),)))
    assert stage.run("vm", "show", "i-2-10-VM") == 0
    assert path in capsys.readouterr().out
