"""``sendense login``, ``logout`` and ``whoami``: who this user is for which server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.output import pairs
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.cloud_login import CloudOptions, token_of_cloud, typed
from sendense.cli.remote.frame import Remote, asks
from sendense.cli.remote.sign_in import (
    TOKEN_FILE,
    SignIn,
    as_token,
    forget,
    given_token,
    keep,
    kept_sign_in,
    server_at,
)
from sendense.errors import NotSignedIn, Rejected
from sendense.model.secret import Secret


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
        typer.Option("--cloud", metavar="NAME", help="Sign in with what this cloud knows you by."),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", metavar="KEY", help="Your API key of that cloud.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", metavar="FILE", help="File with its secret; else typed."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Your user name of that cloud.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option("--domain", metavar="PATH", help="The user's domain; else the root domain."),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help="File with the password; else typed."),
    ] = None,
) -> None:
    """Sign in to a server: its token is checked, and kept for you alone."""
    server = server_at(url, remote.asked)
    given = CloudOptions(cloud, api_key, secret_file, user, domain, password_file)
    if given.given:
        token = token_of_cloud(remote, server, given)
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


def _read_token(url: str) -> Secret:
    """Read the token from standard input, or have it typed without being shown."""
    where = "what was typed" if sys.stdin.isatty() else "standard input"
    option = f"--token-file or {TOKEN_FILE}"
    return as_token(typed(f"Token for {url}", "token", option), where)


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
