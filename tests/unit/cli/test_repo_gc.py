"""``repo gc`` and ``repo check``, on a repository that was released."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sendense.cli import repo_gc
from sendense.repository.dedup.collecting.running import collect
from sendense.repository.opening import create_repository
from tests.support.dedup import PASSPHRASE
from tests.unit.cli.stage import document

FIXTURE = Path(__file__).parents[2] / "fixtures/dedup-1"


@pytest.fixture
def place(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def run(real_stage, place, tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE.reveal())
    secret.chmod(0o600)

    def command(*arguments: object) -> int:
        code: int = real_stage.run(*arguments, "-r", place, "--passphrase-file", secret)
        return code

    return command


def packs(place):
    return {path for path in (place / "packs").rglob("*") if path.is_file()}


def test_garbage_is_condemned_and_then_removed(run, place, capsys):
    assert run("points", "delete", "p2", "--yes") == 0
    before = packs(place)
    capsys.readouterr()
    assert run("repo", "gc", "--dry-run", "--json") == 0
    told = document(capsys.readouterr())
    actions = [item["action"] for item in told["plan"]["packs"]]
    assert (actions.count("condemn"), actions.count("keep")) == (2, 2)
    assert told["plan"]["freed_later"] > 0
    assert packs(place) == before
    assert run("repo", "gc", "--json") == 0
    told = document(capsys.readouterr())["result"]
    assert (told["removed_packs"], told["waiting_packs"]) == (0, 2)
    assert packs(place) == before
    assert run("repo", "gc") == 0
    assert "may go in" in capsys.readouterr().out
    assert run("repo", "gc", "--grace", "0h", "--json") == 0
    told = document(capsys.readouterr())["result"]
    assert (told["removed_packs"], told["waiting_packs"]) == (2, 0)
    assert len(packs(place)) == 2
    assert run("verify", "--all") == 0


def test_a_dry_run_for_people(run, capsys):
    assert run("points", "delete", "p2", "--yes") == 0
    assert run("repo", "gc", "--dry-run") == 0
    assert "nothing refers to it" in capsys.readouterr().out


def test_what_cannot_be_copied_has_its_exit_code(run, monkeypatch, capsys):
    def collect_badly(repository, options, progress):
        assert options.most_rewrite == 1 << 30
        return replace(collect(repository, options, progress), unreadable={"3f": "it is rotten"})

    monkeypatch.setattr(repo_gc, "collect", collect_badly)
    assert run("repo", "gc", "--most-rewrite", "1G") == 6
    assert "pack 3f could not be copied: it is rotten" in capsys.readouterr().out


@pytest.mark.parametrize("option", [("--live-ratio", "7"), ("--grace", "soon")])
def test_what_means_nothing_is_refused(run, option):
    assert run("repo", "gc", *option) == 2


def test_a_sound_repository(run, capsys):
    for level in ("structure", "sample", "data"):
        assert run("repo", "check", "--level", level, "--json") == 0
        told = document(capsys.readouterr())["check"]
        assert (told["level"], told["sound"], told["points"]) == (level, True, 2)
    assert told["packs"] == told["packs_total"] == 4
    assert run("repo", "check") == 0
    assert "sound" in capsys.readouterr().out


def test_damage_is_named_and_has_its_exit_code(run, place, capsys):
    largest = max(packs(place), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[100] ^= 1
    largest.write_bytes(data)
    assert run("repo", "check", "--level", "data", "--json") == 6
    told = document(capsys.readouterr())["check"]
    assert not told["sound"]
    assert told["touched"]
    (finding,) = [item for item in told["findings"] if item["weight"] == "damage"]
    assert largest.name in finding["object"]
    assert finding["points"]
    assert finding["remedy"]
    assert run("repo", "check") == 6
    assert "NOT SOUND" in capsys.readouterr().out


def test_an_index_that_is_gone_is_made_again(run, place, capsys):
    shutil.rmtree(place / "index")
    assert run("repo", "check") == 6
    capsys.readouterr()
    assert run("repo", "check", "--repair", "--dry-run", "--json") == 6
    assert document(capsys.readouterr())["plan"]
    assert run("repo", "check", "--repair", "--json") == 0
    told = document(capsys.readouterr())
    assert told["repair"]["steps"]
    assert told["check"]["sound"]
    assert run("verify", "--all") == 0


def test_a_dry_run_of_a_check_is_refused(run):
    assert run("repo", "check", "--dry-run") == 2


def test_a_chain_has_no_garbage_and_is_checked_by_its_points(real_stage, tmp_path, capsys):
    create_repository(f"qcow2:{tmp_path / 'chain'}")
    assert real_stage.run("repo", "gc", "-r", tmp_path / "chain") == 0
    assert "no garbage" in capsys.readouterr().out
    assert real_stage.run("repo", "check", "-r", tmp_path / "chain") == 0
    assert real_stage.run("repo", "check", "--repair", "-r", tmp_path / "chain") == 2
