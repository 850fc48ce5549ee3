"""The secrets of a cloud's keys: from files, or typed, and never from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.passphrase import read_secret_file
from sendense.cli.remote.frame import Remote
from sendense.errors import Cancelled, Rejected

ApiKeyOption = Annotated[
    str | None, typer.Option("--api-key", metavar="KEY", help="Of a user who may read.")
]
SecretFileOption = Annotated[
    Path | None,
    typer.Option("--secret-file", metavar="FILE", help="File with its secret; else it is typed."),
]
RestoreKeyOption = Annotated[
    str | None,
    typer.Option("--restore-api-key", metavar="KEY", help="Of another user, for restores only."),
]
RestoreSecretOption = Annotated[
    Path | None,
    typer.Option(
        "--restore-secret-file", metavar="FILE", help="File with its secret; else it is typed."
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option("--cloud-ca-file", metavar="FILE", help="Certificates to check the cloud with."),
]


def read_secret(remote: Remote, file: Path | None, api_key: str, option: str) -> str:
    """Read the secret of a key."""
    if file is not None:
        data = read_secret_file(file, remote.run.warn).reveal()
    else:
        data = _typed(f"Secret of the key {api_key[:8]}...", option).encode()
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)
    try:
        secret = lines[0].strip().decode("ascii")
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        where = file or "what was typed"
        raise Rejected(f"there is no secret in {where}", hint="the first line has to be the secret")
    return secret


def read_certificates(file: Path) -> str:
    """Read certificates."""
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"{file} cannot be read: {error}", hint="it has to be PEM") from None


def keys_body(
    remote: Remote,
    api_key: str | None,
    secret_file: Path | None,
    restore_key: str | None,
    restore_file: Path | None,
) -> dict[str, str]:
    """Give the keys that were named, with their secrets, as the server takes them."""
    body: dict[str, str] = {}
    for key, file, names, option in (
        (api_key, secret_file, ("api_key", "secret_key"), "--secret-file"),
        (
            restore_key, restore_file, ("restore_api_key", "restore_secret_key"),
            "--restore-secret-file",
        ),
    ):  # fmt: skip
        if key is not None:
            body |= dict(zip(names, (key, read_secret(remote, file, key, option)), strict=True))
        elif file is not None:
            raise Rejected(
                f"{option} is the secret of a key that was not named",
                hint=f"give --{names[0].replace('_', '-')} too",
            )
    return body


def _typed(question: str, option: str) -> str:
    """Ask on the terminal, without showing what is typed."""
    import getpass
    import warnings

    with warnings.catch_warnings():
        # Without a terminal, getpass would read standard input and show it.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{question}: ")
        except EOFError:
            raise Cancelled("no secret was typed") from None
        except (getpass.GetPassWarning, OSError):
            raise Rejected(
                "there is no terminal to ask for the secret", hint=f"give {option}"
            ) from None
