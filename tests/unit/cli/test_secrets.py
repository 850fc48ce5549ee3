"""Where the secret of a repository comes from, and that it goes nowhere else."""

from __future__ import annotations

import base64
import re

import pytest

from sendense.cli.access import Named, NoSecret, named_secret
from sendense.cli.places import Place, find_place
from sendense.cli.run import GlobalOptions, Run, Services
from sendense.errors import Rejected
from sendense.model.secret import Secret
from sendense.repository.opening import Access, open_repository
from sendense.settings import load_settings
from sendense.workflows.repository_facts import require_dedup
from tests.unit.cli.stage import OTHER_PASSPHRASE, PASSPHRASE, a_secret_file, document
from tests.unit.cli.terminal import Terminal

NOTHING = Named()


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write the settings file."""
    path = tmp_path / "sendense.yaml"

    def write(text: str):
        monkeypatch.setenv("SENDENSE_CONFIG", str(path))
        path.write_text(text)
        return load_settings()

    return write


# --- which one counts ---


def test_the_first_place_that_names_one_counts(config, monkeypatch, tmp_path):
    settings = config(
        "passphrase_file: /of-the-file\n"
        "repositories: {nas: {url: /nas, recovery_key_file: /of-nas}, plain: /plain}\n"
    )
    nas, plain = find_place(settings, "nas"), find_place(settings, "plain")
    option = Named(passphrase_file=tmp_path)
    assert named_secret(settings, nas, option) == option
    assert str(named_secret(settings, nas, NOTHING).recovery_key_file) == "/of-nas"
    assert str(named_secret(settings, plain, NOTHING).passphrase_file) == "/of-the-file"
    monkeypatch.setenv("SENDENSE_PASSPHRASE_COMMAND", "pass show backup")
    settings = load_settings()
    assert named_secret(settings, plain, NOTHING).passphrase_command == "pass show backup"
    assert str(named_secret(settings, nas, NOTHING).recovery_key_file) == "/of-nas"
    monkeypatch.delenv("SENDENSE_PASSPHRASE_COMMAND")
    monkeypatch.setenv("SENDENSE_PASSPHRASE", PASSPHRASE)
    assert named_secret(load_settings(), plain, NOTHING) == Named(variable=True)


def test_nothing_is_named(config):
    assert named_secret(config("{}"), Place("/r"), NOTHING) == NOTHING
    assert not NOTHING


@pytest.mark.parametrize(
    ("text", "environment", "options", "words"),
    [
        ("{passphrase_file: /a, recovery_key_file: /b}", {}, NOTHING, "the settings file"),
        ("{}", {"PASSPHRASE": "x", "PASSPHRASE_FILE": "/a"}, NOTHING, "the environment"),
        ("{}", {}, Named(passphrase_file="/a", recovery_key_file="/b"), "the command line"),  # type: ignore[arg-type]
    ],
)
def test_two_in_one_place(config, monkeypatch, text, environment, options, words):
    for name, value in environment.items():
        monkeypatch.setenv(f"SENDENSE_{name}", value)
    with pytest.raises(Rejected, match=words):
        named_secret(config(text), Place("/r"), options)


def test_two_in_an_entry(config):
    with pytest.raises(Rejected, match="name one of"):
        config("repositories: {nas: {url: /nas, passphrase_file: /a, passphrase_command: b}}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("repositories: {nas: {passphrase_file: /a}}", "repositories.nas.url"),
        ("repositories: {nas: {url: /a, passphrase: secret}}", "there is no such setting"),
        ("repositories: {a/b: /a}", "'a/b' is no name"),
        ("repositories: {nas: 3}", "repositories.nas"),
        ("repositories: [a, b]", "repositories"),
    ],
)
def test_a_mistake_in_the_names(config, text, words):
    with pytest.raises(Rejected, match=words):
        config(text)


def test_names_are_not_of_the_environment(stage, capsys, monkeypatch):
    monkeypatch.setenv("SENDENSE_REPOSITORIES", '{"nas": "/nas"}')
    assert stage.run("repo", "list") == 2
    assert "SENDENSE_REPOSITORIES is no setting" in capsys.readouterr().err


def test_options_are_about_the_chosen_repository(config, tmp_path):
    """A second repository of the same command has a passphrase of its own."""
    config("{}")
    run = Run(GlobalOptions(repository="/one", passphrase_file=tmp_path), Services())
    assert run.secret(run.place()).where == str(tmp_path)
    assert run.secret(Place("/two")).where is None
    other = Run(GlobalOptions(repository="/one", passphrase_file=tmp_path), Services())
    assert other.secret(other.place("/new")).where == str(tmp_path)
    assert other.secret(Place("/one")).where is None


def test_the_repository_of_a_dead_run(real_stage, dedup, config, passphrase_file):
    """It is opened as the settings say, and nobody is asked for its passphrase."""
    config(f"repositories: {{nas: {{url: 'dedup:{dedup}', passphrase_file: {passphrase_file}}}}}\n")
    run = Run(GlobalOptions(), Services())
    opened = run.open_location(str(dedup))
    assert run.open_location(str(dedup)) is opened
    run.close()
    config("{}")
    with pytest.raises(NoSecret):
        Run(GlobalOptions(), Services()).open_location(str(dedup))


# --- opening ---


@pytest.mark.parametrize("how", ["option", "file", "command", "variable", "setting", "entry"])
def test_every_way_opens_it(real_stage, dedup, passphrase_file, config, monkeypatch, how):
    options: list[object] = ["-r", dedup]
    if how == "option":
        options += ["--passphrase-file", passphrase_file]
    elif how == "file":
        monkeypatch.setenv("SENDENSE_PASSPHRASE_FILE", str(passphrase_file))
    elif how == "command":
        monkeypatch.setenv("SENDENSE_PASSPHRASE_COMMAND", f"cat {passphrase_file}")
    elif how == "variable":
        monkeypatch.setenv("SENDENSE_PASSPHRASE", PASSPHRASE)
    elif how == "setting":
        config(f"passphrase_file: {passphrase_file}\n")
    else:
        config(f"repositories: {{nas: {{url: {dedup}, passphrase_file: {passphrase_file}}}}}\n")
        options = ["-r", "nas"]
    assert real_stage.run("points", "list", *options) == 0


@pytest.mark.parametrize("place", ["before", "behind"])
def test_the_wrong_passphrase(real_stage, dedup, tmp_path, capsys, place):
    wrong = a_secret_file(tmp_path / "wrong", OTHER_PASSPHRASE)
    options = ["-r", dedup, "--passphrase-file", wrong, "--json"]
    command = ["points", "list"]
    arguments = [*options, *command] if place == "before" else [*command, *options]
    assert real_stage.run(*arguments) == 10
    error = document(capsys.readouterr())["error"]
    assert error["code"] == "not-allowed"
    assert error["message"] == "the passphrase slot does not open with this passphrase"
    assert "--recovery-key-file" in error["hint"]


def test_a_recovery_key_with_a_mistake_is_told_where(real_stage, dedup, tmp_path, capsys):
    """And is not tried as a passphrase."""
    wrong = a_secret_file(tmp_path / "key", "058DJ-0QEMR-XK301")
    assert real_stage.run("points", "list", "-r", dedup, "--recovery-key-file", wrong) == 2
    told = capsys.readouterr().err
    assert "15 groups of 5 characters" in told
    assert "058DJ" not in told


def test_a_new_repository_takes_no_recovery_key(real_stage, tmp_path, capsys, passphrase_file):
    options = ["--recovery-key-file", passphrase_file]
    assert real_stage.run("repo", "init", tmp_path / "r", *options) == 2
    assert "begins with a passphrase" in capsys.readouterr().err


def test_a_chain_needs_none(real_stage, tmp_path):
    assert real_stage.run("repo", "init", f"qcow2:{tmp_path / 'c'}") == 0
    options = ["-r", tmp_path / "c", "--passphrase-file", tmp_path / "none"]
    assert real_stage.run("points", "list", *options) == 0


# --- at a terminal ---


def test_it_is_asked_for_once(dedup):
    with Terminal("repo", "info", "-r", dedup) as terminal:
        terminal.wait_for(f"Passphrase of {dedup}: ")
        terminal.type(PASSPHRASE)
        assert terminal.end() == 0
    assert PASSPHRASE.encode() not in terminal.shown
    assert b"fingerprint" in terminal.shown


def test_a_new_one_is_asked_for_twice(tmp_path):
    with Terminal("repo", "init", tmp_path / "r") as terminal:
        terminal.wait_for(f"New passphrase of {tmp_path / 'r'}: ")
        terminal.type(PASSPHRASE)
        terminal.wait_for(", again: ")
        terminal.type(OTHER_PASSPHRASE)
        assert terminal.end() == 2
    assert b"not the same" in terminal.shown
    assert not (tmp_path / "r").exists()


def test_a_terminal_that_is_interrupted(dedup):
    with Terminal("repo", "info", "-r", dedup) as terminal:
        terminal.wait_for("Passphrase of")
        terminal.type("\x03")
        assert terminal.end() == 130


# --- nowhere else ---


def told_of(secret: bytes) -> set[str]:
    """Give the forms in which a secret could be told."""
    return {secret.decode("latin-1"), secret.hex(), base64.b64encode(secret).decode()}


def test_no_secret_is_ever_shown(real_stage, dedup, tmp_path, monkeypatch, capfd, passphrase_file):
    other = a_secret_file(tmp_path / "other", OTHER_PASSPHRASE)
    wrong = a_secret_file(tmp_path / "wrong", "wrong horse, wrong battery")
    sheet = tmp_path / "sheet"
    monkeypatch.setenv("SENDENSE_REPOSITORY", str(dedup))
    given = ["--passphrase-file", passphrase_file, "-vv"]
    new = ["--new-passphrase-file", other]
    repository = open_repository(str(dedup), Access(secret=lambda _new: Secret(PASSPHRASE)))
    ring = require_dedup(repository, "keys").parts.ring
    repository.close()
    capfd.readouterr()
    shown = ""
    for arguments in (
        ["repo", "init", tmp_path / "more", "--recovery-sheet", tmp_path / "s2", *given],
        ["repo", "init", tmp_path / "more", *given],
        ["repo", "info", *given],
        ["repo", "info", "--passphrase-file", wrong, "-vv"],
        ["repo", "info", "--json", *given],
        ["repo", "list", *given],
        ["repo", "stats", *given],
        ["repo", "leases", *given],
        ["repo", "key", "add-passphrase", *new, *given],
        ["repo", "key", "add-recovery", "--sheet", sheet, *given],
        ["repo", "key", "list", "--json", *given],
        ["repo", "key", "rotate", "--drop-others", "--yes", *given],
        ["points", "list", "--recovery-key-file", sheet, "-vv"],
        ["points", "list", "--recovery-key-file", passphrase_file, "-vv"],
        ["points", "list", "--passphrase-file", passphrase_file, "--recovery-key-file", sheet],
        ["repo", "key", "change-passphrase", *new, *given],
    ):
        real_stage.run(*arguments)
        captured = capfd.readouterr()
        shown += captured.out + captured.err
    assert "SENDENSE RECOVERY" not in shown
    assert "made dedup" in shown
    assert "epoch 2" in shown
    secrets = ["horse", "battery", "staple"]
    secrets += re.findall(r"\b[0-9A-Z]{5}-[0-9A-Z]{5}", sheet.read_text())
    for secret in (ring.identity, *ring.epochs.values()):
        secrets += told_of(secret.reveal())
    assert [secret for secret in secrets if secret in shown] == []


def test_credentials_that_cannot_be_read_are_not_quoted(stage, capsys, tmp_path, config):
    stage.add(location="s3://bucket/r")
    for number, content in enumerate(["hunter2", "a: [hunter2", "a: {b: hunter2}", "key: 2\n"]):
        file = a_secret_file(tmp_path / f"credentials{number}", content)
        config(f"credentials_file: {file}\n")
        assert stage.run("repo", "info", "-r", "s3://bucket/r", "-vv") == 2
        captured = capsys.readouterr()
        assert "does not hold credentials" in captured.err
        assert "hunter2" not in captured.err + captured.out
