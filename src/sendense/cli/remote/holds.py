"""``sendense point``: keeping single points of the server's repositories, whatever the rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, Any

import typer

from sendense import clock
from sendense.cli.holds import Length, Note, Until, end_of_lock
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import Remote, asks
from sendense.errors import Rejected
from sendense.model import periods

app = typer.Typer(name="point", help="Points in the server's repositories.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


Point = Annotated[
    str, typer.Argument(metavar="POINT", help="Id, or latest:INSTANCE.", show_default=False)
]
In = Annotated[
    str | None,
    typer.Option(
        "--in", metavar="REPOSITORY", help="The repository, where several have the point."
    ),
]


@app.command("pin")
@asks
def pin_point(remote: Remote, point: Point, *, in_: In = None, note: Note = "") -> None:
    """Keep a point until it is unpinned, whatever the rules of retention say."""
    _change(remote, point, in_, "pin", {"note": note})


@app.command("unpin")
@asks
def unpin_point(remote: Remote, point: Point, *, in_: In = None) -> None:
    """Take the pin off a point; the next prune judges it by the rules again."""
    _change(remote, point, in_, "unpin")


@app.command("lock")
@asks
def lock_point(
    remote: Remote,
    point: Point,
    *,
    in_: In = None,
    until: Until = None,
    length: Length = None,
    note: Note = "",
) -> None:
    """Keep a point until a date; nobody can take a lock off before, or shorten it."""
    end = end_of_lock(until, length, clock.now(), periods.UTC)
    _change(remote, point, in_, "lock", {"until": clock.format_utc(end), "note": note})


def _change(
    remote: Remote, point: str, in_: str | None, what: str, body: dict[str, Any] | None = None
) -> None:
    found = remote.names.point(point, remote.names.repository_id(in_))
    if in_ is None:
        _require_one(remote, found)
    place = f"/repositories/{found['repository_id']}/points/{found['id']}"
    held = remote.client.post(f"{place}/{what}", body)
    name = remote.names.repository_name(held["repository_id"])
    document = {"point": held["id"], "repository": held["repository_id"], "holds": held["holds"]}
    remote.show(document, f"{held['id']} in {name}: {_words(held.parts('holds'))}")


def _require_one(remote: Remote, found: Doc) -> None:
    """Refuse a point that several repositories have: each keeps its own copy."""
    having = remote.client.get(f"/points/{found['id']}")["repositories"]
    if len(having) > 1:
        names = ", ".join(map(remote.names.repository_name, having))
        raise Rejected(
            f"{len(having)} repositories have the point {found['id']}",
            hint=f"name one of them with --in: {names}",
        )


def _words(holds: Sequence[Doc]) -> str:
    words = []
    for hold in holds:
        until = hold.moment("until")
        said = "pinned" if until is None else f"locked until {periods.written(until, UTC)}"
        words.append(f"{said}: {hold['note']}" if hold["note"] else said)
    return ", ".join(words) or "nothing but the rules keeps it"
