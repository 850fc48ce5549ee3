"""``sendense login``, ``logout`` and ``whoami``: who this user is for which server."""

from __future__ import annotations

import getpass
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.output import pairs
from sendense.cli.passphrase import read_secret_file
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import Remote, asks
from sendense.cli.remote.sign_in import (
    TOKEN_FILE,
    Server,
    SignIn,
    as_token,
    forget,
    given_token,
    keep,
    kept_sign_in,
    server_at,
)
from sendense.cli.remote.words import when
from sendense.errors import Cancelled, NotSignedIn, Rejected
from sendense.model.secret import Secret

_LONGEST = 4096


def register(app: typer.Typer) -> None:
    """Put the commands into the program."""
    app.command("login")(login)
    app.command("logout")(logout)
    app.command("whoami")(whoami)


@asks
def login(
    remote: Remote,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="https://HOST[:PORT]", show_default=False)
    ],
    *,
    cloud: Annotated[
        str | None,
        typer.Option("--cloud", metavar="NAME", help="Sign in with your own keys of this cloud."),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", metavar="KEY", help="Your API key of that cloud.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", metavar="FILE", help="File with its secret; else typed."),
    ] = None,
) -> None:
    """Sign in to a server: its token is checked, and kept for you alone."""
    server = server_at(url, remote.asked)
    if cloud is not None or api_key is not None or secret_file is not None:
        token = _token_for_keys(remote, server, cloud, api_key, secret_file)
    else:
        token = given_token(remote.asked.token_file, remote.run.warn) or _read_token(server.url)
    sign_in = SignIn(server, token)
    with remote.connect(sign_in) as client:
        who = client.get("/whoami")
    path = keep(sign_in)
    document = {"server": server.url, "stored": str(path), **who}
    remote.show(document, f"signed in to {server.url} as {_called(who)} ({who['role']})")


def _called(who: Doc) -> str:
    """Give what people call a user; an older server has only its name."""
    return str(who.get("called") or who["user"])


def _token_for_keys(
    remote: Remote, server: Server, cloud: str | None, api_key: str | None, file: Path | None
) -> Secret:
    """Have the server ask a cloud whose keys these are; gives the token that follows."""
    if cloud is None or api_key is None:
        raise Rejected(
            "keys of a cloud are the cloud's name, an API key and its secret",
            hint="give --cloud and --api-key",
        )
    if remote.asked.token_file is not None:
        raise Rejected("a token and keys of a cloud are two ways", hint="name one of them")
    secret = (
        read_secret_file(file, remote.run.warn).reveal()
        if file is not None
        else _typed(f"Secret of the key {api_key[:8]}...", "secret", "--secret-file")
    )
    body = {"cloud": cloud, "api_key": api_key, "secret_key": _line(secret)}
    with remote.connect(SignIn(server, Secret(b""))) as client:
        made = client.post_once("/login/cloudstack", body)
    remote.note(f"it counts until {when(made.moment('expires_at'))}")
    return as_token(str(made["token"]).encode(), server.url)


def _line(secret: bytes) -> str:
    """Read the secret of a key: one word, in the first line."""
    line = secret.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].strip()
    if not line or not all(33 <= byte < 127 for byte in line):
        raise Rejected("this is not the secret of a key", hint="it is one word, in one line")
    return line.decode()


def _read_token(url: str) -> Secret:
    """Read the token from standard input, or have it typed without being shown."""
    where = "what was typed" if sys.stdin.isatty() else "standard input"
    option = f"--token-file or {TOKEN_FILE}"
    return as_token(_typed(f"Token for {url}", "token", option), where)


def _typed(question: str, what: str, option: str) -> bytes:
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


@asks
def logout(
    remote: Remote,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Withdraw the token at the server, too.")
    ] = False,
) -> None:
    """Forget the server and the token that login kept."""
    if revoke:
        if remote.asked.server or remote.asked.token_file:
            raise Rejected(
                "logout --revoke withdraws the token that login kept, and no other",
                hint="leave --server and --token-file out, or see 'sendense token revoke'",
            )
        kept = kept_sign_in(remote.run.warn)
        if kept is None:
            raise NotSignedIn("nobody is signed in", hint="there is no token to withdraw")
        with remote.connect(kept) as client:
            client.delete(f"/tokens/{client.get('/whoami')['token_id']}")
    was = forget()
    said = "signed out" if was else "nobody was signed in"
    remote.show(
        {"signed_out": was, "revoked": revoke}, f"{said}; the token is void" if revoke else said
    )


@asks
def whoami(remote: Remote) -> None:
    """Show the server that is asked, and as whom."""
    who = remote.client.get("/whoami")
    server = remote.client.server.url
    remote.show(
        {"server": server, **who},
        pairs(
            [
                ("server", server),
                ("user", str(who["user"])),
                *([("called", _called(who))] if _called(who) != who["user"] else []),
                ("role", str(who["role"])),
                ("scopes", ", ".join(who["scopes"]) or "all that the role may"),
            ]
        ),
    )
