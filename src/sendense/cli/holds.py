"""``sendense points pin``, ``unpin`` and ``lock``: keeping single points, whatever the rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from sendense import clock
from sendense.cli import text
from sendense.cli.dates import date, moment_after, moment_of, span
from sendense.cli.options import command
from sendense.cli.output import Report
from sendense.cli.point_view import hold_document
from sendense.cli.points import POINT_HELP
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.model.hold import Hold
from sendense.model.periods import find_zone
from sendense.workflows.holds import find_point_id, lock_point, pin_point, unpin_point

Point = Annotated[str, typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False)]
Until = Annotated[
    datetime | None,
    typer.Option(metavar="DATE", parser=date, help="Its end: 2027-01-31, 2027-01-31T12:00."),
]
Length = Annotated[
    timedelta | None,
    typer.Option("--for", metavar="SPAN", parser=span, help="Its length: 36h, 30d, 8w."),
]
Note = Annotated[str, typer.Option(metavar="TEXT", help="Why, shown wherever the point is.")]


def register(app: typer.Typer) -> None:
    """Put the commands into the group of points."""
    app.command("pin")(pin)
    app.command("unpin")(unpin)
    app.command("lock")(lock)


@command
def pin(run: Run, point: Point, *, note: Note = "") -> None:
    """Keep a point until it is unpinned, whatever the rules of retention say."""
    repository = run.repository()
    found = find_point_id(repository, point)
    _tell(run, found, pin_point(repository, found, note=note, now=clock.now()))


@command
def unpin(run: Run, point: Point) -> None:
    """Take the pin off a point; the next prune judges it by the rules again."""
    repository = run.repository()
    found = find_point_id(repository, point)
    _tell(run, found, unpin_point(repository, found, now=clock.now()))


@command
def lock(
    run: Run, point: Point, *, until: Until = None, length: Length = None, note: Note = ""
) -> None:
    """Keep a point until a date; nobody can take a lock off before, or shorten it."""
    now = clock.now()
    end = end_of_lock(until, length, now, run.settings.timezone)
    repository = run.repository()
    found = find_point_id(repository, point)
    _tell(run, found, lock_point(repository, found, until=end, note=note, now=now))


def end_of_lock(
    until: datetime | None, length: timedelta | None, now: datetime, zone: str
) -> datetime:
    """Give the end that was typed in one of two ways."""
    if until is not None and length is None:
        return moment_of(until, zone)
    if length is not None and until is None:
        return moment_after(now, length)
    raise Rejected("say how long: --until DATE or --for SPAN")


def _tell(run: Run, point_id: str, holds: tuple[Hold, ...]) -> None:
    words = text.held(holds, find_zone(run.settings.timezone)) or "nothing but the rules keeps it"
    document = {"point": point_id, "holds": [hold_document(hold) for hold in holds]}
    run.show(Report(document, [f"{point_id}: {words}"]))
