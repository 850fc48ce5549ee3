"""``sendense audit``: who did what, or was kept from it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from sendense.cli.dates import date, moment_of
from sendense.cli.output import Column, Sheet
from sendense.cli.remote.frame import SOME, Limit, Remote, Taken, asks
from sendense.cli.remote.words import some, when
from sendense.model.access import Outcome

app = typer.Typer(name="audit", help="The server's audit log.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


@app.callback()
def _group() -> None:
    # A group of one command would otherwise be that command.
    pass


@app.command("list")
@asks
def list_audit(
    remote: Remote,
    *,
    who: Annotated[str | None, typer.Option(metavar="USER", help="Only of this user.")] = None,
    action: Annotated[
        str | None, typer.Option(metavar="ACTION", help="Only this, for example create_policy.")
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="ID", help="Only about this.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only what ended so.")] = None,
    after: Annotated[
        datetime | None,
        typer.Option(metavar="DATE", parser=date, help="Only then or later: 2027-01-31 (UTC)."),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(metavar="DATE", parser=date, help="Only earlier than 2027-02-01 (UTC)."),
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List who did what, newest first."""
    found = remote.client.every(
        "/audit", who=who, action=action, subject=subject,
        outcome=outcome.value if outcome else None, after=_moment(after), before=_moment(before),
    )  # fmt: skip
    taken = Taken(found, limit)
    columns = (
        Column("at"),
        Column("who"),
        Column("action"),
        Column("outcome"),
        Column("subject", minor=1),
        Column("from", minor=2),
        Column("detail", fold=True, minor=3),
    )
    rows = [
        (
            when(each.moment("at")),
            some(each["who"]),
            str(each["action"]),
            str(each["outcome"]),
            str(each["subject"]),
            str(each["origin"]),
            ", ".join(f"{name} {value}" for name, value in each.part("detail").items()),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else "nothing of that kind was written down"
    remote.show(taken.document("entries"), part)
    taken.tell(remote)


def _moment(typed: datetime | None) -> str | None:
    return moment_of(typed, "UTC").isoformat() if typed else None
