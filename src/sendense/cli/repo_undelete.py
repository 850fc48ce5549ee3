"""``sendense repo undelete``: after an attack, bring back what was removed from a locked bucket."""

from __future__ import annotations

from typing import Annotated

import typer

from sendense.cli.options import command
from sendense.cli.output import Report
from sendense.cli.points import confirm
from sendense.cli.run import Run
from sendense.workflows.undelete import undelete

_EXPLAINED = (
    "objects that were removed or overwritten, and that the bucket still keeps, come back: also "
    "points that were deleted on purpose, until they are deleted again"
)


def register(app: typer.Typer) -> None:
    """Put the command into the group."""
    app.command("undelete")(undelete_objects)


@command
def undelete_objects(
    run: Run, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Bring back what was removed from a bucket with object lock."""
    place = run.place()
    run.note(_EXPLAINED)
    if not yes:
        confirm(f"Bring back the objects of {place}?", run)
    done = undelete(place.url, run.access(place))
    lines = [
        f"{done.removed} removed and {done.overwritten} overwritten objects came back",
        "next: sendense repo check --level data",
    ]
    document = {"removed": done.removed, "overwritten": done.overwritten}
    run.show(Report(document, lines))
