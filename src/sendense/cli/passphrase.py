"""Where a passphrase comes from: a file, a program, the environment, or whoever types it.

What is named first wins: the file or the command of an option or a setting, then
``SENDENSE_PASSPHRASE``, then a question on the terminal.  A passphrase never is an argument
of the command line, where every user of the machine could read it.
"""

from __future__ import annotations

import getpass
import os
import shlex
import stat
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sendense.errors import Cancelled, NotAllowed, NotFound, Rejected, SendenseError, Unavailable
from sendense.model.secret import Secret
from sendense.repository.dedup.recovery import RecoveryKey, parse_recovery_key
from sendense.repository.dedup.slot_wrapping import check_new_passphrase

VARIABLE: Final = "SENDENSE_PASSPHRASE"
COMMAND_TIMEOUT_S: Final = 300
"""A password manager may ask its user, who has to be found first."""

_LONGEST: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

Prompt = Callable[[str], str]
Warn = Callable[[str], None]


def ask_terminal(question: str) -> str:
    """Ask on the terminal, without showing what is typed."""
    with warnings.catch_warnings():
        # Without a terminal, getpass would read standard input and show it.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{question}: ")
        except EOFError:
            raise Cancelled("no passphrase was typed") from None
        except (getpass.GetPassWarning, OSError):
            raise Rejected(
                "the repository needs a passphrase, and there is no terminal to ask for it",
                hint=f"give --passphrase-file, the setting passphrase_command, or {VARIABLE}",
            ) from None


@dataclass(frozen=True)
class PassphraseSource:
    """Where to look for a passphrase, before anybody is asked."""

    file: Path | None = None
    command: str | None = None
    """A program with its arguments; what it writes first is the passphrase."""
    variable: str | None = VARIABLE
    """One in the environment that holds it; none: that is not looked at."""
    prompt: Prompt = ask_terminal

    def existing(self, warn: Warn, *, question: str = "Passphrase of the repository") -> Secret:
        """Give the passphrase of a repository that exists."""
        given = self._given(warn)
        if given is None:
            given = Secret(self.prompt(question))
        if not given:
            raise _empty("what was typed")
        return given

    def new(self, warn: Warn, *, question: str = "New passphrase") -> Secret:
        """Give a new passphrase: long enough, and typed twice where it is typed."""
        given = self._given(warn)
        if given is None:
            given = Secret(self.prompt(question))
            check_new_passphrase(given)
            if Secret(self.prompt(f"{question}, again")) != given:
                raise Rejected("the two passphrases are not the same", hint="try again")
        check_new_passphrase(given)
        return given

    def _given(self, warn: Warn) -> Secret | None:
        """Give what is there without asking, or none."""
        if self.file is not None and self.command is not None:
            raise Rejected(
                "both a file and a command are named for the passphrase", hint="name one of them"
            )
        if self.file is not None:
            return _first_line(read_secret_file(self.file, warn).reveal(), str(self.file))
        if self.command is not None:
            return _first_line(_run(self.command), "the passphrase command")
        if self.variable is None:
            return None
        value = os.environb.get(os.fsencode(self.variable))
        return None if value is None else _first_line(value, self.variable)


def read_recovery_key_file(path: Path, warn: Warn) -> RecoveryKey:
    """Read a recovery key that was typed into a file, or the text of the whole sheet."""
    return parse_recovery_key(read_secret_file(path, warn))


def read_secret_file(path: Path, warn: Warn) -> Secret:
    """Read a small file that holds a secret, and warn if others can read it too."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_LONGEST + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", hint="check the path", file=path) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > _LONGEST:
        raise Rejected(f"{path} is too large to be a secret", hint="check the path", file=path)
    if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS:
        warn(f"other users of this machine can read {path}: chmod 600 {shlex.quote(str(path))}")
    return Secret(data)


def _unreadable(path: Path, error: OSError) -> SendenseError:
    kind = NotAllowed if isinstance(error, PermissionError) else Rejected
    return kind(
        f"{path} cannot be read: {error.strerror or error}",
        hint="run as the user whose file it is, or name another one",
        file=path,
    )


def _run(command: str) -> bytes:
    """Give what a program writes.  Its arguments may be secrets: no message shows them."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Rejected(
            f"the passphrase command cannot be read: {error}", hint="mind its quotes"
        ) from None
    if not words:
        raise Rejected("the passphrase command is empty", hint="name a program")
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=COMMAND_TIMEOUT_S)
    except FileNotFoundError:
        raise NotFound(
            f"the passphrase command {words[0]!r} does not exist", hint="check its path"
        ) from None
    except OSError as error:
        raise NotAllowed(
            f"the passphrase command {words[0]!r} cannot be run: {error.strerror}",
            hint="it has to be a program that this user may run",
        ) from None
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"the passphrase command {words[0]!r} did not end within {COMMAND_TIMEOUT_S} seconds",
            hint="run it by hand: it may be waiting for somebody",
        ) from None
    if done.returncode != 0:
        raise Unavailable(
            f"the passphrase command {words[0]!r} failed (status {done.returncode})",
            hint="run it by hand, as the same user",
        )
    return done.stdout


def _first_line(data: bytes, where: str) -> Secret:
    """Give the first line; only its end and a byte order mark are not part of it."""
    line = data.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].removesuffix(b"\r")
    if not line:
        raise _empty(where)
    return Secret(line)


def _empty(where: str) -> Rejected:
    return Rejected(
        f"the passphrase is empty ({where})", hint="look whether it was set as you think"
    )
