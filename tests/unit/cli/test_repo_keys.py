"""``repo key``: who can open a repository, and that nobody is locked out."""

from __future__ import annotations

import re

import pytest

from tests.unit.cli.stage import OTHER_PASSPHRASE, a_secret_file, document
from tests.unit.cli.terminal import Terminal


@pytest.fixture
def other_file(tmp_path):
    return a_secret_file(tmp_path / "other", OTHER_PASSPHRASE)


@pytest.fixture
def key(real_stage, dedup, passphrase_file):
    """Run ``repo key ...`` as a holder of the first passphrase; gives the exit code."""

    def run(command: str, *arguments: object, opened_by=("--passphrase-file", passphrase_file)):
        return real_stage.run("repo", "key", command, *arguments, "-r", dedup, *opened_by)

    return run


@pytest.fixture
def listed(key, capsys):
    def look(**options):
        capsys.readouterr()
        assert key("list", "--json", **options) == 0
        return document(capsys.readouterr())["keys"]

    return look


@pytest.fixture
def opens(real_stage, dedup):
    def look(option: str, file) -> bool:
        code: int = real_stage.run("repo", "info", "-r", dedup, option, file, "-q")
        assert code in (0, 10)
        return code == 0

    return look


def test_list(key, listed, capsys):
    (slot,) = listed()
    assert (slot["kind"], slot["epoch"], slot["trouble"]) == ("passphrase", 1, None)
    assert key("list") == 0
    assert slot["slot"] in capsys.readouterr().out


def test_add_a_passphrase(key, listed, opens, other_file):
    assert key("add-passphrase", "--new-passphrase-file", other_file, "--label", "Ada") == 0
    assert {slot["label"] for slot in listed()} == {"", "Ada"}
    assert opens("--passphrase-file", other_file)


def test_a_short_one_is_refused(key, listed, tmp_path):
    short = a_secret_file(tmp_path / "short", "1234567")
    assert key("add-passphrase", "--new-passphrase-file", short) == 2
    assert len(listed()) == 1


def test_change_the_passphrase(key, listed, opens, capsys, passphrase_file, other_file):
    assert key("change-passphrase", "--new-passphrase-file", other_file) == 0
    assert str(passphrase_file) in capsys.readouterr().err
    assert opens("--passphrase-file", other_file)
    assert not opens("--passphrase-file", passphrase_file)
    assert len(listed(opened_by=("--passphrase-file", other_file))) == 1


def test_remove(key, listed, opens, passphrase_file, other_file):
    assert key("add-passphrase", "--new-passphrase-file", other_file, "--label", "Ada") == 0
    (ada,) = [slot["slot"] for slot in listed() if slot["label"] == "Ada"]
    assert key("remove", ada[:8]) == 2, "it asks first, and there is nobody to ask"
    assert opens("--passphrase-file", other_file)
    assert key("remove", ada[:8], "--yes") == 0
    assert not opens("--passphrase-file", other_file)
    assert opens("--passphrase-file", passphrase_file)


def test_nobody_is_locked_out(key, listed, capsys):
    (last,) = listed()
    assert key("remove", last["slot"], "--yes") == 10
    assert "would open the repository" in capsys.readouterr().err
    assert key("remove", "", "--yes") == 3
    assert key("remove", "xyz", "--yes") == 3


def test_a_recovery_key(key, listed, opens, tmp_path):
    sheet = tmp_path / "sheet"
    assert key("add-recovery", "--sheet", sheet, "--label", "safe") == 0
    assert opens("--recovery-key-file", sheet)
    public = re.search(r"Public key +([0-9a-f]{64})", sheet.read_text())
    assert public is not None
    (slot,) = [item for item in listed() if item["kind"] == "recovery"]
    assert (slot["public_key"], slot["label"]) == (public[1], "safe")


def test_a_recovery_key_of_another_repository(key, opens, real_stage, tmp_path, passphrase_file):
    sheet = tmp_path / "sheet"
    options = ["--passphrase-file", passphrase_file, "--recovery-sheet", sheet, "-q"]
    assert real_stage.run("repo", "init", tmp_path / "second", *options) == 0
    assert not opens("--recovery-key-file", sheet)
    public = re.search(r"[0-9a-f]{64}", sheet.read_text())
    assert public is not None
    assert key("add-recovery", "--public-key", public[0]) == 0
    assert opens("--recovery-key-file", sheet)
    assert key("add-recovery", "--public-key", public[0]) == 2
    assert key("add-recovery", "--public-key", "xyz") == 2


def test_a_sheet_again(key, real_stage, tmp_path, dedup):
    sheet, again = tmp_path / "sheet", tmp_path / "again"
    assert key("add-recovery", "--sheet", sheet, "--label", "safe") == 0
    moved = dedup.rename(tmp_path / "moved")
    assert key("recovery-sheet", again, opened_by=("-r", moved)) == 2
    options = ["-r", moved, "--recovery-key-file", sheet]
    assert real_stage.run("repo", "key", "recovery-sheet", again, *options) == 0
    text = again.read_text()
    assert str(moved) in text
    assert "safe" in text
    assert [line for line in text.splitlines() if line.startswith("    ")][:5] == [
        line for line in sheet.read_text().splitlines() if line.startswith("    ")
    ][:5]


@pytest.mark.parametrize("arguments", [[], ["--sheet", "x", "--public-key", "00"]])
def test_one_recovery_key_at_a_time(key, arguments):
    assert key("add-recovery", *arguments) == 2


def test_a_recovery_key_has_no_passphrase_to_change(key, capsys, tmp_path, other_file):
    sheet = tmp_path / "sheet"
    assert key("add-recovery", "--sheet", sheet) == 0
    by_key = ("--recovery-key-file", sheet)
    arguments = ["--new-passphrase-file", other_file]
    assert key("change-passphrase", *arguments, opened_by=by_key) == 2
    assert "add-passphrase" in capsys.readouterr().err


def test_rotate(key, listed, opens, capsys, passphrase_file, tmp_path):
    sheet = tmp_path / "sheet"
    assert key("add-recovery", "--sheet", sheet) == 0
    assert key("rotate", "--yes") == 0
    captured = capsys.readouterr()
    assert "epoch 2" in captured.out
    assert "recovery keys stay valid" in captured.err
    assert {slot["epoch"] for slot in listed()} == {2}
    assert opens("--passphrase-file", passphrase_file)
    assert opens("--recovery-key-file", sheet)


def test_rotate_says_who_loses(key, opens, capsys, other_file):
    assert key("add-passphrase", "--new-passphrase-file", other_file, "--label", "Ada") == 0
    assert key("rotate", "--yes") == 10
    told = capsys.readouterr().err
    assert "Ada" in told
    assert "--drop-others" in told
    assert opens("--passphrase-file", other_file)
    assert key("rotate", "--yes", "--drop-others") == 0
    assert "no longer: Ada" in capsys.readouterr().err
    assert not opens("--passphrase-file", other_file)


def test_rotate_to_a_new_passphrase(key, opens, passphrase_file, other_file):
    arguments = ["--new-passphrase-file", other_file, "--drop-others", "--yes"]
    assert key("rotate", *arguments) == 0
    assert opens("--passphrase-file", other_file)
    assert not opens("--passphrase-file", passphrase_file)


def test_rotate_by_a_recovery_key(key, opens, tmp_path, passphrase_file, other_file):
    """As after a loss of all passphrases."""
    sheet = tmp_path / "sheet"
    assert key("add-recovery", "--sheet", sheet) == 0
    arguments = ["--new-passphrase-file", other_file, "--drop-others", "--yes"]
    assert key("rotate", *arguments, opened_by=("--recovery-key-file", sheet)) == 0
    assert opens("--passphrase-file", other_file)
    assert opens("--recovery-key-file", sheet)
    assert not opens("--passphrase-file", passphrase_file)


def test_one_at_a_time(key, dedup, other_file, capsys, monkeypatch):
    """While another changes keys, this is busy; the lease is given up afterwards."""
    codes = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "sendense.repository.dedup.slots.change_passphrase",
            lambda *_, **__: codes.append(key("rotate", "--yes")),
        )
        key("change-passphrase", "--new-passphrase-file", other_file)
    assert codes == [4]
    assert "keys are changed by one at a time" in capsys.readouterr().err
    assert not list((dedup / "leases").iterdir())


def test_a_chain_has_no_keys(real_stage, tmp_path):
    assert real_stage.run("repo", "init", f"qcow2:{tmp_path / 'c'}") == 0
    assert real_stage.run("repo", "key", "list", "-r", tmp_path / "c") == 9


def test_a_new_passphrase_is_typed_twice(dedup, opens, tmp_path, passphrase_file):
    options = ["-r", dedup, "--passphrase-file", passphrase_file]
    with Terminal("repo", "key", "add-passphrase", *options) as terminal:
        terminal.wait_for("New passphrase: ")
        terminal.type(OTHER_PASSPHRASE)
        terminal.wait_for("New passphrase, again: ")
        terminal.type(OTHER_PASSPHRASE)
        terminal.wait_for("the passphrase opens the repository")
        assert terminal.end() == 0
    assert opens("--passphrase-file", a_secret_file(tmp_path / "typed", OTHER_PASSPHRASE))
