"""``prune``: rules from options and settings, reasons, and what a day to come will have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendense import clock
from sendense.model.hold import Hold, HoldKind
from sendense.model.retention import KeepRules
from tests.support.builders import a_machine, a_point
from tests.unit.cli.stage import document

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
OTHER = a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def repository(stage):
    """One point an evening from the 1st to the 10th, at 23:30 in Berlin; one of another."""
    points = [
        a_point(f"p{day:02d}", day, taken_at=datetime(2026, 1, day, 22, 30, tzinfo=UTC))
        for day in range(1, 11)
    ]
    return stage.add(*points, a_point("o1", 1, machine=OTHER))


@pytest.fixture
def prune(stage, capsys, repository):
    """Run ``prune`` for one machine; gives its document."""

    def call(*arguments, machine="i-2-10-VM", code=0):
        assert stage.run("prune", machine, *arguments, "-r", "mem", "--json") == code
        return document(capsys.readouterr())

    return call


def kept(shown):
    return [item["point"] for item in shown["verdicts"] if item["keep"]]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--keep-last", "2"], ["p09", "p10"]),
        (["--keep-hourly", "3"], ["p08", "p09", "p10"]),
        (["--keep-daily", "2"], ["p09", "p10"]),
        (["--keep-weekly", "3"], ["p04", "p10"]),
        (["--keep-monthly", "3"], ["p10"]),
        (["--keep-yearly", "3"], ["p10"]),
        (["--keep-within", "12d"], ["p08", "p09", "p10"]),
        (["--keep-last", "1", "--keep-weekly", "2", "--keep-within", "12d"],
         ["p04", "p08", "p09", "p10"]),
        # 22:30 in UTC is the first hour of the next day in Riga.
        (["--keep-weekly", "3", "--timezone", "Europe/Riga"], ["p03", "p10"]),
        (["--keep-weekly", "3", "--timezone", "Europe/Berlin"], ["p04", "p10"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") else "",
)  # fmt: skip
def test_rules(prune, repository, options, left):
    shown = prune(*options, "--dry-run")
    assert kept(shown) == left
    assert shown["deleted"] == []
    assert len(repository.points()) == 11
    shown = prune(*options)
    assert len(shown["deleted"]) == 10 - len(left)
    assert [point.id for point in repository.points()] == [*left, "o1"]


def test_all_reasons_are_told(prune):
    shown = prune("--keep-last", "7", "--keep-daily", "7", "--keep-weekly", "2", "--dry-run")
    (verdict,) = [item for item in shown["verdicts"] if item["point"] == "p04"]
    assert verdict["reasons"] == [
        "number 7 of the last 7",
        "daily 2026-01-04",
        "weekly 2026-W01",
    ]
    assert verdict["reason"] == "; ".join(verdict["reasons"])
    assert shown["rules"] == {
        "last": 7,
        "hourly": 0,
        "daily": 7,
        "weekly": 2,
        "monthly": 0,
        "yearly": 0,
        "within_s": None,
        "safety_s": 14 * 86400.0,
        "timezone": "UTC",
    }


def test_rules_come_from_the_settings_and_options_win(prune, monkeypatch):
    monkeypatch.setenv("SENDENSE_KEEP_LAST", "3")
    monkeypatch.setenv("SENDENSE_KEEP_WEEKLY", "2")
    monkeypatch.setenv("SENDENSE_KEEP_WITHIN", "11d")
    monkeypatch.setenv("SENDENSE_TIMEZONE", "Europe/Berlin")
    shown = prune("--dry-run")
    assert kept(shown) == ["p04", "p08", "p09", "p10"]
    assert shown["rules"]["timezone"] == "Europe/Berlin"
    assert shown["rules"]["within_s"] == timedelta(days=11).total_seconds()
    assert kept(prune("--dry-run", "--keep-weekly", "0")) == ["p08", "p09", "p10"]
    assert kept(prune("--dry-run", "--keep-last", "0", "--keep-within", "0h")) == ["p04", "p10"]


def test_without_any_rule_nothing_is_done(prune, repository):
    error = prune(code=2)["error"]
    assert "no retention rule" in error["message"]
    assert len(repository.points()) == 11


@pytest.mark.parametrize(
    "options",
    [
        ["--keep-last", "1", "--timezone", "Berlin"],
        ["--keep-last", "-1"],
        ["--keep-within", "3"],
        ["--keep-last", "1", "--as-of", "tomorrow"],
        ["--keep-last", "1", "--as-of", "2026-01-20"],
        ["--keep-last", "1", "--as-of", "0001-01-01", "--timezone", "Europe/Berlin"],
        ["--keep-last", "1", "--every", "1d"],
        ["--keep-last", "1", "--as-of", "2026-02-01", "--every", "0d"],
        ["--keep-last", "1", "--as-of", "9999-01-01", "--every", "1h"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(prune, repository, options):
    error = prune(*options, code=2)["error"]
    assert error["code"] == "rejected"
    assert len(repository.points()) == 11


def test_held_points_stay(prune, repository):
    repository.hold(Hold("p01", HoldKind.PIN, None, "before the upgrade", NOW))
    until = datetime(2026, 3, 1, tzinfo=UTC)
    repository.hold(Hold("p02", HoldKind.LOCK, until, "", NOW))
    shown = prune("--keep-last", "1")
    assert kept(shown) == ["p01", "p02", "p10"]
    assert shown["verdicts"][0]["reason"] == "pinned: before the upgrade"
    assert shown["verdicts"][1]["reason"] == "locked until 2026-03-01"
    assert [point.id for point in repository.points()] == ["p01", "p02", "p10", "o1"]


def test_a_day_to_come(prune, repository):
    repository.hold(Hold("p02", HoldKind.LOCK, datetime(2026, 3, 1, tzinfo=UTC), "", NOW))
    rules = ["--keep-last", "1", "--keep-within", "30d", "--as-of"]
    assert kept(prune(*rules, "2026-02-08")) == ["p02", "p09", "p10"]
    shown = prune(*rules, "2026-03-01T00:00")
    assert kept(shown) == ["p10"]
    assert (shown["dry_run"], shown["deleted"]) == (True, [])
    assert shown["as_of"] == "2026-03-01T00:00:00.000000Z"
    assert len(repository.points()) == 11


def test_a_day_to_come_is_of_the_zone(prune):
    rules = ["--keep-last", "1", "--as-of"]
    shown = prune(*rules, "2026-07-01", "--timezone", "Europe/Berlin")
    assert shown["as_of"] == "2026-06-30T22:00:00.000000Z"
    shown = prune(*rules, "2026-07-01T00:00+05:00", "--timezone", "Europe/Berlin")
    assert shown["as_of"] == "2026-06-30T19:00:00.000000Z"


def test_what_points_to_come_will_leave(prune, repository):
    options = ["--keep-last", "2", "--keep-monthly", "3", "--as-of", "2026-03-10T12:00"]
    shown = prune(*options, "--every", "1d")
    assert kept(shown) == []
    assert [item["taken_at"][:10] for item in shown["simulated"]] == [
        "2026-01-31",
        "2026-02-28",
        "2026-03-09",
        "2026-03-10",
    ]
    assert shown["simulated"][0]["reasons"] == ["monthly 2026-01"]
    assert shown["every_s"] == 86400
    assert len(repository.points()) == 11


def test_for_people(stage, capsys, repository):
    rules = ["prune", "i-2-10-VM", "--keep-last", "2", "-r", "mem"]
    assert stage.run(*rules, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "number 2 of the last 2" in out
    assert "rules: last 2 (UTC)" in out
    assert out.endswith("8 of 10 points would be deleted; nothing was changed\n")
    assert stage.run(*rules, "--as-of", "2026-03-01") == 0
    assert "would be deleted on 2026-03-01; nothing was changed" in capsys.readouterr().out
    assert stage.run(*rules, "--as-of", "2026-01-23T12:00", "--every", "1d") == 0
    out = capsys.readouterr().out
    assert "to come" in out
    assert "p10" not in out
    assert (
        "with a point every 1 day, 2026-01-23 12:00:00 UTC has 2 points: 0 of the 10 that are "
        "there, and 2 of the 3 to come; nothing was changed"
    ) in out
    assert stage.run(*rules) == 0
    assert "8 of 10 points deleted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ([], None),
        (["--keep-last", "0"], None),
        (["--keep-last", "2"], KeepRules(last=2, monthly=6)),
    ],
    ids=str,
)
def test_a_backup_prunes_where_it_is_told_to_and_then_by_all_rules(
    stage, monkeypatch, options, rules
):
    orders = []
    monkeypatch.setattr("sendense.cli.backup.back_up_all", lambda _, order: orders.append(order))
    monkeypatch.setenv("SENDENSE_KEEP_LAST", "9")
    monkeypatch.setenv("SENDENSE_KEEP_MONTHLY", "6")
    assert stage.run("backup", "i-2-10-VM", *options, "-r", "mem") == 0
    assert orders[0].keep == rules
