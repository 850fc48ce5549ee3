"""A passphrase comes from where it was said to be, and goes nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from sendense.cli import passphrase
from sendense.cli.passphrase import PassphraseSource, read_recovery_key_file
from sendense.errors import Cancelled, NotAllowed, NotFound, Rejected, Unavailable
from sendense.model.secret import Secret
from sendense.repository.dedup.recovery import RecoveryKey

GOOD = b"correct horse battery"


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)


def nobody(question: str) -> str:
    raise AssertionError(f"nobody is to be asked: {question}")


def silent(message: str) -> None:
    raise AssertionError(f"nothing to warn of: {message}")


def secret_file(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def answers(*given: str):
    waiting = list(given)
    return lambda question: waiting.pop(0)


@pytest.mark.parametrize(
    "data",
    [GOOD, GOOD + b"\n", GOOD + b"\r\n", GOOD + b"\nsecond line\n", b"\xef\xbb\xbf" + GOOD],
)
def test_the_first_line_of_a_file(tmp_path, data):
    source = PassphraseSource(file=secret_file(tmp_path, data), prompt=nobody)
    assert source.existing(silent).reveal() == GOOD
    assert source.new(silent).reveal() == GOOD


def test_spaces_are_part_of_it(tmp_path):
    source = PassphraseSource(file=secret_file(tmp_path, b"  " + GOOD + b" \n"))
    assert source.existing(silent).reveal() == b"  " + GOOD + b" "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read(tmp_path, mode):
    warnings: list[str] = []
    path = secret_file(tmp_path, GOOD, mode)
    assert PassphraseSource(file=path).existing(warnings.append).reveal() == GOOD
    assert len(warnings) == 1
    assert "chmod 600" in warnings[0]


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(NotFound):
        PassphraseSource(file=tmp_path / "none").existing(silent)
    with pytest.raises(Rejected, match="cannot be read"):
        PassphraseSource(file=tmp_path).existing(silent)
    with pytest.raises(Rejected, match="too large"):
        PassphraseSource(file=secret_file(tmp_path, bytes(70_000))).existing(silent)
    assert isinstance(passphrase._unreadable(tmp_path, PermissionError(13, "no")), NotAllowed)


def test_what_a_program_writes(tmp_path):
    source = PassphraseSource(command="printf 'correct %s battery\\n' horse", prompt=nobody)
    assert source.existing(silent).reveal() == GOOD


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        ("false hunter2", Unavailable, "'false' failed"),
        ("/does/not/exist hunter2", NotFound, "does not exist"),
        ("/dev hunter2", NotAllowed, "cannot be run"),
        ("'hunter2", Rejected, "cannot be read"),
        ("", Rejected, "is empty"),
        ("true hunter2", Rejected, "the passphrase is empty"),
    ],
)
def test_a_program_that_gives_none(command, kind, message):
    with pytest.raises(kind, match=message) as caught:
        PassphraseSource(command=command, prompt=nobody).existing(silent)
    assert "hunter2" not in f"{caught.value!r}{caught.value.to_dict()}"
    assert caught.value.hint


def test_a_program_that_does_not_end(monkeypatch):
    monkeypatch.setattr(passphrase, "COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(Unavailable, match="did not end"):
        PassphraseSource(command="sleep 10").existing(silent)


def test_the_environment(monkeypatch):
    monkeypatch.setenv(passphrase.VARIABLE, GOOD.decode())
    assert PassphraseSource(prompt=nobody).existing(silent).reveal() == GOOD
    monkeypatch.setitem(os.environb, passphrase.VARIABLE.encode(), b"\xff not text \xfe")
    assert PassphraseSource(prompt=nobody).existing(silent).reveal() == b"\xff not text \xfe"


def test_what_is_named_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(passphrase.VARIABLE, "another one")
    source = PassphraseSource(file=secret_file(tmp_path, GOOD))
    assert source.existing(silent).reveal() == GOOD
    assert PassphraseSource(command="echo of the program").existing(silent).reveal() == (
        b"of the program"
    )


def test_not_both(tmp_path):
    with pytest.raises(Rejected, match="both"):
        PassphraseSource(file=tmp_path, command="true").existing(silent)


def test_an_empty_one_is_a_mistake(tmp_path, monkeypatch):
    for data in (b"", b"\n", b"\r\n", b"\nsecond"):
        with pytest.raises(Rejected, match="is empty"):
            PassphraseSource(file=secret_file(tmp_path, data), prompt=nobody).existing(silent)
    monkeypatch.setenv(passphrase.VARIABLE, "")
    with pytest.raises(Rejected, match=passphrase.VARIABLE):
        PassphraseSource(prompt=nobody).existing(silent)
    monkeypatch.delenv(passphrase.VARIABLE)
    with pytest.raises(Rejected, match="what was typed"):
        PassphraseSource(prompt=answers("")).existing(silent)


def test_asked_for_once_or_twice():
    assert PassphraseSource(prompt=answers("x")).existing(silent).reveal() == b"x"
    typed = PassphraseSource(prompt=answers(GOOD.decode(), GOOD.decode())).new(silent)
    assert typed.reveal() == GOOD
    with pytest.raises(Rejected, match="not the same"):
        PassphraseSource(prompt=answers(GOOD.decode(), "another")).new(silent)


def test_a_new_one_is_long_enough(tmp_path):
    for source in (
        PassphraseSource(prompt=answers("seven77")),
        PassphraseSource(file=secret_file(tmp_path, b"seven77")),
    ):
        with pytest.raises(Rejected, match="too short"):
            source.new(silent)
    assert PassphraseSource(file=secret_file(tmp_path, b"seven77")).existing(silent)


def test_a_recovery_key_in_a_file(tmp_path):
    key = RecoveryKey.generate()
    path = secret_file(tmp_path, key.to_text().reveal())
    assert read_recovery_key_file(path, silent) == key


def test_what_was_read_is_not_shown(tmp_path):
    source = PassphraseSource(file=secret_file(tmp_path, GOOD))
    assert GOOD.decode() not in f"{source!r} {source.existing(silent)!r}"


# --- the terminal ---

ASK = (
    "from sendense.cli.passphrase import ask_terminal\n"
    "from sendense.errors import SendenseError\n"
    "try:\n"
    "    print('typed', ask_terminal('Passphrase') == 'typed by hand')\n"
    "except SendenseError as error:\n"
    "    print(type(error).__name__, error.hint)\n"
)


def test_without_a_terminal_nobody_is_asked():
    """And standard input is not read: it may be something else's."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=b"typed by hand\n", capture_output=True,
        start_new_session=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(b"Rejected give --passphrase-file")
    assert b"typed by hand" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("typed", "expected"),
    [(b"typed by hand\n", b"typed True"), (b"\x04", Cancelled.__name__.encode())],
)
def test_on_a_terminal_nothing_that_is_typed_is_shown(typed, expected):
    ours, theirs = pty.openpty()
    child = f"import fcntl, os, termios\nfcntl.ioctl({theirs}, termios.TIOCSCTTY, 0)\n" + ASK
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        start_new_session=True, pass_fds=[theirs],
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"Passphrase: " not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, typed)
        output, _ = process.communicate(timeout=30)
    os.close(ours)
    assert output.startswith(expected)
    assert b"by hand" not in shown


def test_a_secret_is_what_comes_back():
    assert isinstance(PassphraseSource(prompt=answers("x")).existing(silent), Secret)
