"""``doctor``, ``release`` and ``version``: this host, and what we left on it."""

from __future__ import annotations

import json

import pytest

from sendense import __version__
from sendense.errors import Unavailable
from tests.unit.cli.stage import document


def test_version(stage, capsys):
    assert stage.run("version") == 0
    assert capsys.readouterr().out == "sendense x, libvirt 9.0.0, QEMU 7.2.0\n"


def test_version_without_a_host(stage, capsys):
    stage.host_error = Unavailable("libvirt is not there")
    assert stage.run("version", "--json") == 0
    shown = document(capsys.readouterr())
    assert shown["sendense"] == __version__
    assert shown["host_error"] == "libvirt is not there"


def test_version_option(stage, capsys):
    assert stage.run("-V") == 0
    assert capsys.readouterr().out == f"sendense {__version__}\n"


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """Give a host whose folders are ours, and a libvirt that runs inside this process."""
    monkeypatch.setenv("SENDENSE_URI", "test:///default")
    monkeypatch.setenv("SENDENSE_SOCKET_DIR", str(tmp_path / "jobs"))
    monkeypatch.setenv("SENDENSE_SCRATCH_DIR", str(tmp_path / "jobs"))
    (tmp_path / "state/journal").mkdir(parents=True)
    return tmp_path


def test_doctor_tells_what_it_looked_at(stage, capsys, folders):
    code = stage.run("doctor", "--json")
    findings = document(capsys.readouterr())["findings"]
    assert all(set(item) == {"check", "level", "message", "fix"} for item in findings)
    assert code == (6 if any(item["level"] == "problem" for item in findings) else 0)


def test_doctor_finds_a_dead_run_and_takes_it_back(stage, capsys, folders):
    journal = folders / "state/journal/2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01.json"
    journal.write_text("torn")
    assert stage.run("doctor", "--json") == 6
    checks = [item["check"] for item in document(capsys.readouterr())["findings"]]
    assert "dead-run" in checks
    stage.run("doctor", "--repair", "--json")
    shown = document(capsys.readouterr())
    assert any("journal entry" in line for line in shown["repaired"])
    assert "dead-run" not in [item["check"] for item in shown["findings"]]
    assert not journal.exists()


def facts_of(**more):
    machine = "2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01"
    facts = {"kind": "online", "uri": "test:///default", "machine": machine, "name": "web1"}
    return json.dumps(facts | {"point": "p7", "checkpoint": "sendense-p7"} | more)


@pytest.mark.parametrize(
    ("more", "check"),
    [
        ({"work": "w1", "parked": True, "begun": False}, "parked-capture"),
        ({"work": "w1", "parked": True, "begun": True}, "dead-run"),
        ({"work": "w1", "parked": True, "may_be_frozen": True}, "dead-run"),
        ({"work": "w1", "begun": True}, "dead-run"),
        ({"repository": "/srv/main", "parked": True}, "dead-run"),
    ],
)
def test_doctor_tells_a_parked_capture_from_a_dead_run(stage, capsys, folders, more, check):
    journal = folders / "state/journal/2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01.json"
    journal.write_text(facts_of(**more))
    stage.run("doctor", "--json")
    left = {"parked-capture", "dead-run"}
    findings = document(capsys.readouterr())["findings"]
    (found,) = [item for item in findings if item["check"] in left]
    assert found["check"] == check
    assert "web1" in found["message"]
    assert found["level"] == ("warning" if check == "parked-capture" else "problem")
    if check == "parked-capture":
        assert "whether the point p7 is stored" in found["message"]
        assert "the next backup of the machine" in found["fix"]
    assert journal.exists()


def test_doctor_for_people(stage, capsys, folders):
    stage.run("doctor")
    assert "level" in capsys.readouterr().out


def test_release_of_nobody(stage):
    assert stage.run("release", "nobody") == 3
