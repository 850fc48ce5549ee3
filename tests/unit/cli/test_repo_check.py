"""``repo check``, on a repository that was released, and on a chain."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sendense.repository.dedup.checking.findings import What
from sendense.repository.opening import create_repository
from tests.house.tree import ROOT
from tests.support.dedup import PASSPHRASE
from tests.support.points import BLOCK, Write, data, disk, noise, store
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
        code: int = real_stage.run(
            "repo", "check", *arguments, "-r", place, "--passphrase-file", secret
        )
        return code

    return command


def largest_pack(place):
    """Give the largest that holds data: its header says so."""
    packs = [path for path in (place / "packs").rglob("*") if path.is_file()]
    packs = [path for path in packs if path.read_bytes()[5] == 1]
    return max(packs, key=lambda path: path.stat().st_size)


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("level", ["structure", "sample", "data"])
def test_a_sound_repository(run, level, capsys):
    assert run("--level", level) == 0
    assert "sound" in capsys.readouterr().out
    assert run("--level", level, "--json") == 0
    told = document(capsys.readouterr())["check"]
    assert (told["level"], told["sound"], told["findings"]) == (level, True, [])


def test_damage_is_shown_named_and_an_exit_code(run, place, capsys):
    bad = largest_pack(place)
    flip(bad, 100)
    assert run() == 0
    capsys.readouterr()
    assert run("--level", "data", "--json") == 6
    told = document(capsys.readouterr())["check"]
    (finding,) = told["findings"]
    assert finding["object"] == str(bad.relative_to(place))
    assert (finding["what"], finding["weight"]) == ("pack-records", "damage")
    assert finding["points"] == told["touched"] != []
    assert finding["meaning"]
    assert finding["remedy"]
    assert run() == 6
    out = capsys.readouterr().out
    assert "NOT SOUND" in out
    assert "pack-records" in out


def test_a_repair_says_first_what_it_will_do(run, place, capsys):
    for path in (place / "index").iterdir():
        path.unlink()
    before = sorted(path for path in place.rglob("*") if path.is_file())
    assert run("--repair", "--dry-run", "--json") == 6
    told = document(capsys.readouterr())
    assert any("name" in step for step in told["plan"])
    assert sorted(path for path in place.rglob("*") if path.is_file()) == before
    assert run("--repair", "--dry-run") == 6
    assert "would" in capsys.readouterr().out


def test_a_repair_mends_what_the_check_before_it_found(run, place, capsys):
    flip(largest_pack(place), 3)
    assert run("--level", "data", "--repair", "--json") == 0
    told = document(capsys.readouterr())
    assert not told["before"]["sound"]
    assert told["repair"]["copied_records"] > 0
    assert told["check"]["sound"]
    assert run("--level", "data", "--repair") == 0
    assert "nothing to repair" in capsys.readouterr().out


def test_a_dry_run_of_nothing(run, capsys):
    assert run("--dry-run") == 2
    assert "--repair" in capsys.readouterr().err


def test_a_share_that_is_none(run):
    assert run("--level", "sample", "--percent", "0") == 2


@pytest.fixture
def chain(tmp_path):
    place = tmp_path / "chain"
    repository = create_repository(f"qcow2:{place}")
    store(repository, "p1", Write(disk("vda"), 4 * BLOCK, (data(0, noise(BLOCK)),)))
    return place


def test_a_chain_is_verified(real_stage, chain, capsys):
    for level in ("structure", "data"):
        assert real_stage.run("repo", "check", "--level", level, "-r", chain) == 0
    assert "1 points checked, 0 damaged" in capsys.readouterr().out
    flip(next(chain.rglob("*.qcow2")), BLOCK + 50)
    assert real_stage.run("repo", "check", "--level", "data", "-r", chain, "--json") == 6
    told = document(capsys.readouterr())["check"]
    assert told["touched"] == ["p1"]
    assert real_stage.run("repo", "check", "--repair", "-r", chain) == 2


def test_every_finding_is_documented():
    text = (ROOT / "docs/check-and-repair.md").read_text(encoding="utf-8")
    assert [what.value for what in What if f"| `{what.value}` |" not in text] == []
