"""Signing in with what a cloud knows somebody by: own API keys, or user name and password.

The server asks the cloud, and answers with a token; only that is kept.  A secret is read from a
file, from standard input, or typed without being shown: never from the command line.
"""

from __future__ import annotations

import getpass
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sendense.cli.passphrase import read_secret_file
from sendense.cli.remote.frame import Remote
from sendense.cli.remote.sign_in import Server, SignIn, as_token
from sendense.cli.remote.words import when
from sendense.errors import Cancelled, NotSignedIn, Rejected, SecondStep
from sendense.model.secret import Secret

_LONGEST = 4096
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class CloudOptions:
    """What the options of ``login`` say of somebody in a cloud."""

    cloud: str | None = None
    api_key: str | None = None
    secret_file: Path | None = None
    user: str | None = None
    domain: str | None = None
    password_file: Path | None = None

    @property
    def given(self) -> bool:
        """Tell whether a cloud is to be asked at all."""
        return any(value is not None for value in vars(self).values())

    @property
    def by_keys(self) -> bool:
        """Tell whether anything of a key was given."""
        return self.api_key is not None or self.secret_file is not None

    @property
    def by_password(self) -> bool:
        """Tell whether anything of a password was given."""
        return (self.user, self.domain, self.password_file) != (None, None, None)


def token_of_cloud(remote: Remote, server: Server, given: CloudOptions) -> Secret:
    """Have the server ask a cloud who this is; gives the token that follows."""
    if remote.asked.token_file is not None:
        raise Rejected("a token and an account of a cloud are two ways", hint="name one of them")
    if given.by_keys and given.by_password:
        raise Rejected(
            "keys of a cloud, and a user and a password, are two ways",
            hint="give --api-key or --user",
        )
    path, body = _by_password(remote, given) if given.by_password else _by_keys(remote, given)
    with remote.connect(SignIn(server, Secret(b""))) as client:
        try:
            made = client.post_once(path, body)
        except SecondStep:
            raise
        except NotSignedIn as error:
            error.hint = "check the name of the cloud, and what was given with it"
            raise
    remote.note(f"it counts until {when(made.moment('expires_at'))}")
    return as_token(str(made["token"]).encode(), server.url)


def _by_keys(remote: Remote, given: CloudOptions) -> tuple[str, dict[str, Any]]:
    if given.cloud is None or given.api_key is None:
        raise Rejected(
            "keys of a cloud are the cloud's name, an API key and its secret",
            hint="give --cloud and --api-key; or --cloud and --user for a password",
        )
    secret = (
        read_secret_file(given.secret_file, remote.run.warn).reveal()
        if given.secret_file is not None
        else typed(f"Secret of the key {given.api_key[:8]}...", "secret", "--secret-file")
    )
    body = {"cloud": given.cloud, "api_key": given.api_key, "secret_key": _word(secret)}
    return "/login/cloudstack", body


def _by_password(remote: Remote, given: CloudOptions) -> tuple[str, dict[str, Any]]:
    if given.cloud is None or given.user is None:
        raise Rejected(
            "a password of a cloud goes with the cloud's name and that of the user",
            hint="give --cloud and --user",
        )
    password = (
        read_secret_file(given.password_file, remote.run.warn).reveal()
        if given.password_file is not None
        else typed(f"Password of {given.user} in {given.cloud}", "password", "--password-file")
    )
    body = {"cloud": given.cloud, "user": given.user, "password": _line(password)}
    return "/login/cloudstack/password", body | ({"domain": given.domain} if given.domain else {})


def _word(secret: bytes) -> str:
    """Read the secret of a key: one word, in the first line."""
    line = secret.removeprefix(_MARK).split(b"\n", 1)[0].strip()
    if not line or not all(33 <= byte < 127 for byte in line):
        raise Rejected("this is not the secret of a key", hint="it is one word, in one line")
    return line.decode()


def _line(password: bytes) -> str:
    """Read a password: the first line as it is, for blanks may be a part of it."""
    line = password.removeprefix(_MARK).split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        # Not chained: the error would show a piece of it.
        raise Rejected("the password is no UTF-8", hint="write its file as UTF-8") from None
    if not text:
        raise Rejected("the password is empty", hint="it is the first line")
    return text


def typed(question: str, what: str, option: str) -> bytes:
    """Read a secret from standard input, or have it typed without being shown."""
    if not sys.stdin.isatty():
        line = sys.stdin.buffer.readline(_LONGEST)
        if not line.strip():
            raise Rejected(
                f"there is no {what}, and no terminal to ask for it",
                hint=f"give {option}, or write it to standard input",
            )
        return line
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{question}: ").encode()
        except EOFError:
            raise Cancelled(f"no {what} was typed") from None
        except (getpass.GetPassWarning, OSError):
            raise Rejected(
                f"there is no terminal to ask for the {what}", hint=f"give {option}"
            ) from None
