"""``sendense token``: what proves to the server who asks.

A new token is shown this once, or written to a file that only its owner can read.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.dates import span
from sendense.cli.output import Column, Sheet
from sendense.cli.points import confirm
from sendense.cli.remote.frame import SOME, Limit, Remote, Taken, Yes, asks
from sendense.cli.remote.names import as_id
from sendense.cli.remote.words import ago, some, when
from sendense.errors import AlreadyExists, NotAllowed, NotFound
from sendense.model.access import Role

app = typer.Typer(name="token", help="Tokens for the server.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


@app.command("add")
@asks
def add_token(
    remote: Remote,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is for.", show_default=False)
    ],
    *,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Of another user; for administrators.")
    ] = None,
    role: Annotated[Role | None, typer.Option(help="What it may do at most.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", metavar="SCOPE",
            help="It may do only this, jobs:write; may be given several times.",
        ),
    ] = None,
    expires: Annotated[
        timedelta | None,
        typer.Option("--expires", metavar="SPAN", parser=span, help="After 12h, 90d, 52w."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, and do not show it."),
    ] = None,
) -> None:  # fmt: skip
    """Make a token. It is shown this once."""
    body = {
        "name": name,
        "user": user,
        "role": role.value if role else None,
        "scopes": scope or [],
        "expires_in_s": int(expires.total_seconds()) if expires else None,
    }
    if output is None:
        made = remote.client.post_once("/tokens", body)
        text = str(made.pop("token"))
        remote.note(f"token {made['id']} of {made['user']}; it is shown this once")
        remote.show({"token": made, "secret": text}, text)
        return
    # The place is made first: a token that could not be kept would be lost, and count.
    handle = _open_new(output)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            made = remote.client.post_once("/tokens", body)
            file.write(f"{made.pop('token')}\n")
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    remote.show(
        {"token": made, "file": str(output)},
        f"token {made['id']} of {made['user']} is in {output}",
    )


@app.command("list")
@asks
def list_tokens(
    remote: Remote,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only those of this user.")
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List tokens, newest first: your own, or for administrators all."""
    taken = Taken(remote.client.every("/tokens", user=user), limit)
    columns = (
        Column("id"),
        Column("user"),
        Column("name"),
        Column("role", minor=3),
        Column("scopes", fold=True, minor=4),
        Column("expires", minor=1),
        Column("last used", minor=2),
    )
    rows = [
        (
            str(each["id"]),
            str(each["user"]),
            str(each["name"]),
            some(each["role"]),
            ", ".join(each["scopes"]) or "all",
            when(each.moment("expires_at")) if each["expires_at"] else "never",
            ago(each.moment("last_used_at")),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else "there is no such token"
    remote.show(taken.document("tokens"), part)
    taken.tell(remote)


@app.command("revoke")
@asks
def revoke_token(
    remote: Remote,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id.", show_default=False)],
    *,
    yes: Yes = False,
) -> None:
    """Withdraw a token: it counts no longer."""
    path = f"/tokens/{as_id(token, 'token')}"
    if not yes:
        confirm(f"Withdraw the token {token}?", remote.run)
    remote.client.delete(path)
    remote.show({"revoked": token}, f"the token {token} counts no longer")


def _open_new(path: Path) -> int:
    """Make a file that only we can read; never over one that is there."""
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"{path} is there already", hint="name another file") from None
    except FileNotFoundError:
        raise NotFound(f"there is no folder {path.parent}", hint="check the path") from None
    except OSError as error:
        raise NotAllowed(f"{path} cannot be written: {error.strerror}") from error
