"""``repo init``: which kind, how it stores, and what has to be kept of it."""

from __future__ import annotations

import stat

import pytest

from sendense.cli import repo_init
from sendense.errors import Unavailable
from sendense.repository.dedup.recovery import BEGIN
from tests.unit.cli.stage import document


@pytest.fixture
def init(real_stage, tmp_path, passphrase_file):
    """Make a repository in ``tmp_path``; gives the exit code."""

    def run(place, *options: object) -> int:
        where = f"qcow2:{tmp_path / place}" if "--chain" in options else tmp_path / place
        rest = [option for option in options if option != "--chain"]
        if "--chain" not in options:
            rest += ["--passphrase-file", passphrase_file]
        code: int = real_stage.run("repo", "init", where, *rest)
        return code

    return run


@pytest.fixture
def level(real_stage, capsys, tmp_path, passphrase_file):
    """Give the compression of a dedup repository."""

    def look(place: str):
        capsys.readouterr()
        options = ["-r", tmp_path / place, "--passphrase-file", passphrase_file, "--json"]
        assert real_stage.run("repo", "info", *options) == 0
        return document(capsys.readouterr())["repository"]["dedup"]["compression_level"]

    return look


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], 3),
        (["--compress"], 3),
        (["--no-compress"], None),
        (["--level", "9"], 9),
    ],
    ids=str,
)
def test_a_dedup_repository_compresses_unless_told_otherwise(init, level, options, expected):
    assert init("r", *options) == 0
    assert level("r") == expected


@pytest.mark.parametrize(("setting", "expected"), [("false", None), ("true", 3)])
def test_the_setting(init, level, monkeypatch, setting, expected):
    monkeypatch.setenv("SENDENSE_COMPRESS", setting)
    assert init("r") == 0
    assert level("r") == expected


@pytest.mark.parametrize(
    ("options", "expected"), [([], "null"), (["--compress"], "3"), (["--level", "5"], "5")], ids=str
)
def test_a_chain_compresses_only_if_told_to(init, tmp_path, options, expected):
    assert init("c", "--chain", *options) == 0
    text = (tmp_path / "c/sendense-repository.json").read_text()
    assert f'"compression_level": {expected}' in text


def test_a_level_without_compression(init, tmp_path):
    assert init("r", "--no-compress", "--level", "3") == 2
    assert init("r", "--level", "20") == 2
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("option", ["--recovery-sheet", "--passphrase-file"])
def test_a_chain_has_no_secrets(init, capsys, tmp_path, option):
    assert init("c", "--chain", option, tmp_path / "passphrase") == 2
    assert "not encrypted" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_what_to_do_next(init, capsys, tmp_path):
    assert init("r") == 0
    told = capsys.readouterr().err
    assert f"sendense repo key add-recovery --sheet FILE -r {tmp_path / 'r'}" in told
    assert "another place" in told
    assert init("c", "--chain") == 0
    assert "next:" not in capsys.readouterr().err


def test_a_recovery_sheet(init, real_stage, capsys, tmp_path):
    sheet = tmp_path / "sheet"
    assert init("r", "--recovery-sheet", sheet, "--json") == 0
    made = document(capsys.readouterr())
    assert made["recovery"]["sheet"] == str(sheet)
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    text = sheet.read_text()
    assert made["repository"]["id"] in text
    # The sheet's own words for a test, with what it says to do.
    options = ["-r", tmp_path / "r", "--recovery-key-file", sheet]
    assert real_stage.run("repo", "info", *options) == 0
    fingerprint = next(line for line in text.splitlines() if line.startswith("Fingerprint"))
    assert fingerprint.split()[-1] in capsys.readouterr().out


def test_a_sheet_never_replaces_a_file(init, capsys, tmp_path):
    (tmp_path / "sheet").write_text("mine")
    assert init("r", "--recovery-sheet", tmp_path / "sheet") == 2
    assert (tmp_path / "sheet").read_text() == "mine"
    assert not (tmp_path / "r").exists()


def test_no_sheet_is_left_where_nothing_was_made(init, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/somebody's own").write_text("data")
    assert init("r", "--recovery-sheet", tmp_path / "sheet") == 2
    assert not (tmp_path / "sheet").exists()
    assert init("new", "--recovery-sheet", tmp_path / "nowhere/sheet") != 0
    assert not (tmp_path / "new").exists()


def test_a_key_that_could_not_be_added(init, capsys, tmp_path, monkeypatch):
    def fail(repository, *, label, deliver):
        raise Unavailable("the store went away")

    monkeypatch.setattr(repo_init, "new_recovery_key", fail)
    assert init("r", "--recovery-sheet", tmp_path / "sheet") == 5
    assert "repo key add-recovery" in capsys.readouterr().err
    assert not (tmp_path / "sheet").exists()


def test_a_sheet_for_the_printer_is_alone_on_standard_output(init, capsysbinary):
    assert init("r", "--recovery-sheet", "-") == 0
    captured = capsysbinary.readouterr()
    assert captured.out.startswith(b"SENDENSE RECOVERY SHEET\n")
    assert captured.out.count(b"made") == captured.out.count(b"made by") == 0
    assert b"kept nowhere else" in captured.err
    assert BEGIN.encode() not in captured.err


def test_a_sheet_is_no_part_of_json(init, capsys, tmp_path):
    assert init("r", "--recovery-sheet", "-", "--json") == 2
    assert BEGIN not in capsys.readouterr().out
    assert not (tmp_path / "r").exists()


def test_by_name(real_stage, capsys, tmp_path, passphrase_file):
    config = tmp_path / "sendense.yaml"
    config.write_text(
        f"repositories:\n  nas:\n    url: {tmp_path / 'r'}\n"
        f"    passphrase_file: {passphrase_file}\n"
    )
    assert real_stage.run("repo", "init", "nas", "--config", config) == 0
    assert "-r nas" in capsys.readouterr().err
    assert real_stage.run("repo", "info", "-r", "nas", "--config", config) == 0
