"""``points pin``, ``unpin`` and ``lock``, and where holds are shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sendense import clock
from sendense.model.hold import Hold, HoldKind
from sendense.repository.protocol import LostPoint
from tests.support.builders import a_machine, a_point
from tests.unit.cli.stage import document

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def repository(stage):
    return stage.add(a_point("aa11", 1), a_point("aa22", 2))


@pytest.fixture
def points(stage, capsys, repository):
    """Run a command of ``points``; gives its document."""

    def call(*arguments, code=0):
        assert stage.run("points", *arguments, "-r", "mem", "--json") == code
        return document(capsys.readouterr())

    return call


def test_pin_and_unpin(points, repository):
    shown = points("pin", "aa1", "--note", "before the upgrade")
    assert shown == {
        "point": "aa11",
        "holds": [
            {
                "kind": "pin",
                "until": None,
                "note": "before the upgrade",
                "made_at": "2026-01-20T12:00:00.000000Z",
            }
        ],
    }
    assert points("pin", "aa11")["holds"][0]["note"] == ""
    assert points("unpin", "aa11") == {"point": "aa11", "holds": []}
    assert repository.holds() == ()
    assert points("unpin", "aa11", code=3)["error"]["message"] == "point aa11 is not pinned"


@pytest.mark.parametrize(
    ("how", "zone", "until"),
    [
        (["--until", "2027-01-31"], "UTC", "2027-01-31T00:00:00"),
        (["--until", "2027-01-31"], "Europe/Berlin", "2027-01-30T23:00:00"),
        (["--until", "2026-07-01T12:00"], "Europe/Berlin", "2026-07-01T10:00:00"),
        (["--until", "2026-07-01T12:00Z"], "Europe/Berlin", "2026-07-01T12:00:00"),
        (["--for", "30d"], "Europe/Berlin", "2026-02-19T12:00:00"),
        (["--for", "36h"], "UTC", "2026-01-22T00:00:00"),
    ],
)
def test_lock(points, monkeypatch, how, zone, until):
    monkeypatch.setenv("SENDENSE_TIMEZONE", zone)
    (hold,) = points("lock", "latest:i-2-10-VM", *how, "--note", "the law")["holds"]
    assert (hold["kind"], hold["note"]) == ("lock", "the law")
    assert hold["until"] == f"{until}.000000Z"


@pytest.mark.parametrize(
    "how",
    [
        [],
        ["--until", "2027-01-31", "--for", "30d"],
        ["--until", "2026-01-20"],
        ["--until", "soon"],
        ["--for", "0d"],
        ["--for", "30"],
        ["--for", "999999w"],
        ["--for", "1d", "--note", "two\nlines"],
    ],
    ids=" ".join,
)
def test_a_lock_that_makes_no_sense(points, repository, how):
    assert points("lock", "aa11", *how, code=2)["error"]["code"] == "rejected"
    assert repository.holds() == ()


def test_a_lock_only_gets_longer(points):
    points("lock", "aa11", "--for", "10d")
    points("lock", "aa11", "--for", "20d")
    error = points("lock", "aa11", "--for", "10d", code=10)["error"]
    assert error["code"] == "held"
    assert "locked until 2026-02-09" in error["message"]
    assert points("unpin", "aa11", code=3)


def test_a_held_point_is_not_deleted(stage, capsys, points, repository):
    points("pin", "aa11", "--note", "why")
    assert stage.run("points", "delete", "aa11", "aa22", "-r", "mem") == 10
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "error: point aa11 is pinned: why",
        "  hint: 'sendense points unpin aa11' takes the pin off",
        "  code: held (exit code 10)",
    ]
    assert len(repository.points()) == 2


def test_holds_are_shown(stage, capsys, points, repository, monkeypatch):
    monkeypatch.setenv("SENDENSE_TIMEZONE", "Europe/Berlin")
    points("pin", "aa11", "--note", "before the upgrade")
    points("lock", "aa11", "--until", "2027-01-31")
    repository.hold(Hold("aa22", HoldKind.LOCK, NOW, "over", NOW))
    listed = points("list")["points"]
    assert [hold["kind"] for hold in listed[0]["holds"]] == ["pin", "lock"]
    assert listed[1]["holds"] == []
    assert points("show", "aa11")["point"]["holds"] == listed[0]["holds"]
    assert stage.run("points", "list", "-r", "mem") == 0
    rows = capsys.readouterr().out.splitlines()
    assert "held" in rows[0]
    assert "pinned, locked until 2027-01-31" in rows[1]
    assert "locked" not in rows[2]
    assert stage.run("points", "show", "aa11", "-r", "mem") == 0
    out = capsys.readouterr().out
    assert "pinned: before the upgrade\n" in out
    assert "locked until 2027-01-31\n" in out


def test_a_lost_point_shows_what_holds_it_and_is_freed(stage, capsys, repository):
    repository.lost_points = (LostPoint(a_machine().uuid, "cc44", "cut off", 3),)
    repository.kept["cc44"] = (Hold("cc44", HoldKind.PIN, None, "", NOW),)
    assert stage.run("points", "list", "-r", "mem") == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split()[-2:] == ["LOST", "pinned"]
    assert stage.run("points", "delete", "cc44", "--yes", "-r", "mem") == 10
    assert stage.run("points", "unpin", "cc44", "-r", "mem") == 0
    assert stage.run("points", "delete", "cc44", "--yes", "-r", "mem") == 0


def test_for_people(stage, capsys, repository):
    assert stage.run("points", "pin", "aa11", "-r", "mem") == 0
    assert capsys.readouterr().out == "aa11: pinned\n"
    assert stage.run("points", "lock", "aa11", "--for", "30d", "-r", "mem") == 0
    assert capsys.readouterr().out == "aa11: pinned, locked until 2026-02-19 12:00:00 UTC\n"
    assert stage.run("points", "unpin", "aa11", "-r", "mem") == 0
    assert capsys.readouterr().out == "aa11: locked until 2026-02-19 12:00:00 UTC\n"
