"""``points``, ``prune``, ``verify`` and ``repo`` on a repository."""

from __future__ import annotations

import pytest

from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.point import SAFETY, Attachment
from sendense.repository.protocol import LostPoint
from tests.support.builders import a_disk, a_machine, a_point, an_image
from tests.unit.cli.stage import document

OTHER = a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")


@pytest.fixture
def repository(stage):
    decision = DiskDecision(
        "vda", Mode.INCREMENTAL, Method.BITMAP, Reason.USABLE, base="aa11", bitmap="sendense-aa11"
    )
    child = an_image(decision=decision, parent="aa11", stored_bytes=65536, read_bytes=131072)
    return stage.add(
        a_point("aa11", 1),
        a_point("aa22", 2, mode=Mode.INCREMENTAL, disks=(child,), warnings=("no freeze",)),
        a_point("bb33", 1, machine=OTHER),
    )


def test_list(stage, capsys, repository):
    assert stage.run("points", "list", "-r", "mem", "--json") == 0
    points = document(capsys.readouterr())["points"]
    assert [point["id"] for point in points] == ["aa11", "aa22", "bb33"]
    assert points[1]["disks"][0]["decision"]["reason"] == "usable"
    assert points[1]["stored_bytes"] == 65536
    assert points[1]["saved_percent"] == 100.0
    assert points[1]["taken_at"] == "2026-01-02T12:00:00.000000Z"


@pytest.mark.parametrize("name", ["other", OTHER.uuid])
def test_list_of_one_machine(stage, capsys, repository, name):
    assert stage.run("points", "list", name, "-r", "mem", "--json") == 0
    assert [point["id"] for point in document(capsys.readouterr())["points"]] == ["bb33"]


def test_list_of_nobody(stage, capsys, repository):
    assert stage.run("points", "list", "nobody", "-r", "mem") == 3
    assert "it holds points of: i-2-10-VM, other" in capsys.readouterr().err


def test_empty_list(stage, capsys):
    stage.add()
    assert stage.run("points", "list", "-r", "mem") == 0
    assert "no point" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["aa22", "aa2", "latest:i-2-10-VM", "latest:" + a_machine().uuid])
def test_show(stage, capsys, repository, name):
    assert stage.run("points", "show", name, "-r", "mem", "--json") == 0
    point = document(capsys.readouterr())["point"]
    assert point["id"] == "aa22"
    assert point["machine"]["disks"][0]["target"] == "vda"


def test_show_for_people(stage, capsys, repository):
    assert stage.run("points", "show", "aa22", "-r", "mem") == 0
    out = capsys.readouterr().out
    assert "the bitmap of the last point is sound" in out
    assert "warning: no freeze" in out


def test_show_says_what_is_not_in_it(stage, capsys):
    machine = a_machine(a_disk("vda"), a_disk("vdb"))
    stage.add(a_point("p1", 1, machine=machine))
    assert stage.run("points", "show", "p1", "-r", "mem") == 0
    assert "not in this point: vdb" in capsys.readouterr().out


def test_attachment(stage, capsysbinary):
    xml = b"<domain>\xc3\xa9</domain>\n"
    repository = stage.add(a_point("p1", 1, attachments=(Attachment("domain.xml", 20, ""),)))
    repository.attachments["p1", "domain.xml"] = xml
    arguments = ["points", "show", "p1", "-r", "mem", "--attachment"]
    assert stage.run(*arguments, "domain.xml") == 0
    assert capsysbinary.readouterr().out == xml
    assert stage.run(*arguments, "nvram.fd") == 3
    assert b"it has: domain.xml" in capsysbinary.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("aa", 2), ("zz", 3), ("latest:nobody", 3)])
def test_show_what_is_not_clear(stage, capsys, repository, name, code):
    assert stage.run("points", "show", name, "-r", "mem") == code


def test_a_name_of_two_machines(stage, capsys):
    twin = a_machine(uuid="ffffffff-0000-4000-8000-000000000002")
    stage.add(a_point("p1", 1), a_point("p2", 1, machine=twin))
    assert stage.run("points", "show", "latest:i-2-10-VM", "-r", "mem") == 2
    assert twin.uuid in capsys.readouterr().err


def test_delete(stage, capsys, repository):
    assert stage.run("points", "delete", "aa11", "--yes", "-r", "mem", "--json") == 0
    captured = capsys.readouterr()
    assert document(captured) == {"deleted": ["aa11"]}
    assert "vda of aa11 is merged into aa22" in captured.err
    assert [point.id for point in repository.points()] == ["aa22", "bb33"]


def test_delete_of_the_last_says_so(stage, capsys, repository):
    assert stage.run("points", "delete", "bb33", "-y", "-r", "mem") == 0
    assert "no point of other is left" in capsys.readouterr().err


def test_delete_of_the_newest_says_so(stage, capsys, repository):
    assert stage.run("points", "delete", "aa22", "-y", "-r", "mem") == 0
    assert "the newest point of i-2-10-VM goes" in capsys.readouterr().err


def test_delete_wants_a_yes(stage, capsys, repository):
    assert stage.run("points", "delete", "aa11", "-r", "mem") == 2
    assert "--yes" in capsys.readouterr().err
    assert len(repository.points()) == 3


def test_delete_of_one_that_is_not_there_deletes_nothing(stage, capsys, repository):
    assert stage.run("points", "delete", "aa11", "zz", "--yes", "-r", "mem") == 3
    assert len(repository.points()) == 3


def test_prune(stage, capsys, repository):
    arguments = ["prune", "i-2-10-VM", "--keep-last", "1", "-r", "mem", "--json"]
    assert stage.run(*arguments, "--dry-run") == 0
    shown = document(capsys.readouterr())
    assert shown["deleted"] == []
    assert [item["keep"] for item in shown["verdicts"]] == [False, True]
    assert len(repository.points()) == 3
    assert stage.run(*arguments) == 0
    assert document(capsys.readouterr())["deleted"] == ["aa11"]
    assert [point.id for point in repository.points()] == ["aa22", "bb33"]


def test_prune_of_all(stage, capsys, repository):
    assert stage.run("prune", "--all", "--keep-within", "1h", "-r", "mem") == 0
    assert "1 of 3 points deleted" in capsys.readouterr().out


def test_verify(stage, capsys, repository):
    assert stage.run("verify", "--all", "-r", "mem", "--json", "--level", "structure") == 0
    shown = document(capsys.readouterr())
    assert shown["sound"] is True
    assert shown["level"] == "structure"
    assert [point["point"] for point in shown["points"]] == ["aa11", "aa22", "bb33"]


def test_verify_finds_damage(stage, capsys, repository):
    repository.damaged.add("aa22")
    assert stage.run("verify", "--machine", "i-2-10-VM", "-r", "mem", "--json") == 6
    shown = document(capsys.readouterr())
    assert shown["sound"] is False
    assert shown["points"][1]["findings"] == [
        {"disk": "vda", "offset": 65536, "message": "the block differs from its hash"}
    ]
    assert stage.run("verify", "aa22", "-r", "mem") == 6
    assert "DAMAGED" in capsys.readouterr().out
    assert stage.run("points", "list", "-r", "mem") == 0
    assert "DAMAGED" in capsys.readouterr().out


def lose(repository, newest=3):
    repository.lost_points = (LostPoint(a_machine().uuid, "cc44", "cut off", newest),)


def test_a_lost_point_is_listed(stage, capsys, repository):
    lose(repository)
    assert stage.run("points", "list", "-r", "mem") == 0
    assert any("cc44" in line and "LOST" in line for line in capsys.readouterr().out.splitlines())
    assert stage.run("points", "list", "-r", "mem", "--json") == 0
    (lost,) = document(capsys.readouterr())["lost"]
    assert (lost["id"], lost["message"]) == ("cc44", "cut off")


def test_latest_never_falls_back_behind_a_lost_point(stage, capsys, repository):
    lose(repository)
    assert stage.run("points", "show", "latest:i-2-10-VM", "-r", "mem") == 6
    assert "aa22" in capsys.readouterr().err
    assert stage.run("points", "show", "latest:other", "-r", "mem") == 0
    lose(repository, newest=2)
    assert stage.run("points", "show", "latest:i-2-10-VM", "-r", "mem") == 0


def test_latest_is_no_safety_point(stage, capsys, repository):
    safety = a_point("aa33", 3, attachments=(Attachment(SAFETY, 2, ""),))
    stage.add(*repository.points(), safety)
    assert stage.run("points", "show", "latest:i-2-10-VM", "-r", "mem", "--json") == 0
    assert document(capsys.readouterr())["point"]["id"] == "aa22"
    stage.add(safety)
    assert stage.run("points", "show", "latest:i-2-10-VM", "-r", "mem") == 0


def test_a_lost_point_is_named_and_deleted(stage, capsys, repository):
    lose(repository)
    assert stage.run("points", "show", "cc44", "-r", "mem") == 6
    assert "is lost: cut off" in capsys.readouterr().err
    assert stage.run("points", "delete", "cc44", "aa11", "--yes", "-r", "mem", "--json") == 0
    assert document(capsys.readouterr())["deleted"] == ["aa11", "cc44"]


@pytest.mark.parametrize("chosen", [("--all",), ("--machine", "i-2-10-VM")])
def test_a_lost_point_is_no_sound_one(stage, capsys, repository, chosen):
    lose(repository)
    assert stage.run("verify", *chosen, "-r", "mem", "--json") == 6
    last = document(capsys.readouterr())["points"][-1]
    assert (last["point"], last["machine"], last["sound"]) == ("cc44", a_machine().uuid, False)
    assert stage.run("verify", "--machine", "other", "-r", "mem") == 0


def test_init_info_rebuild(stage, capsys):
    assert stage.run("repo", "init", "mem", "--json") == 0
    assert document(capsys.readouterr())["repository"]["kind"] == "memory"
    assert stage.run("repo", "init", "mem") == 2
    assert stage.run("repo", "info", "-r", "mem") == 0
    assert "memory" in capsys.readouterr().out
    assert stage.run("repo", "rebuild", "-r", "mem", "--json") == 0
    assert document(capsys.readouterr()) == {"points": 0}
