"""``sendense points``: what is in a repository, and taking points out of it."""

from __future__ import annotations

import base64
import sys
from typing import Annotated

import typer

from sendense import clock
from sendense.cli.options import command
from sendense.cli.output import Report
from sendense.cli.point_view import (
    point_document,
    point_parts,
    points_sheet,
    whole_point_document,
)
from sendense.cli.run import Run
from sendense.errors import Cancelled, NotFound, Rejected
from sendense.model.hold import holds_in_force, refuse_held
from sendense.model.periods import find_zone
from sendense.model.point import RecoveryPoint
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import Repository
from sendense.workflows.holds import holds_of
from sendense.workflows.points import find_machine, find_point

app = typer.Typer(name="points", help="Recovery points.", no_args_is_help=True)

POINT_HELP = "Id, beginning of an id, or latest:MACHINE."


@app.command("list")
@command
def list_points(
    run: Run,
    machine: Annotated[
        str | None,
        typer.Argument(
            metavar="MACHINE", help="Only this machine: name or UUID.", show_default=False
        ),
    ] = None,
) -> None:
    """List points, oldest first."""
    repository = run.repository()
    uuid = find_machine(repository, machine).uuid if machine else None
    points = repository.points(uuid)
    lost = repository.lost(uuid)
    holds = holds_in_force(repository.holds(uuid), clock.now())
    document = {
        "points": [point_document(point, holds.get(point.id, ())) for point in points],
        "lost": [
            {"id": item.id, "machine": item.machine, "message": item.message} for item in lost
        ],
    }
    empty = "the repository holds no point"
    sheet = points_sheet(points, lost, holds, find_zone(run.settings.timezone))
    run.show(Report(document, [sheet] if points or lost else [empty]))


@app.command("show")
@command
def show_point(
    run: Run,
    point: Annotated[str, typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False)],
    attachment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write this attachment instead, for example domain.xml."),
    ] = None,
) -> None:
    """Show all that is known of one point, with the reason for each disk's mode."""
    repository = run.repository()
    found = find_point(repository, point)
    if attachment is not None:
        _write_attachment(run, repository, found, attachment)
        return
    holds = holds_of(repository, found.id, clock.now())
    parts = point_parts(found, holds, find_zone(run.settings.timezone))
    run.show(Report({"point": whole_point_document(found, holds)}, parts))


def _write_attachment(run: Run, repository: Repository, point: RecoveryPoint, name: str) -> None:
    known = [item.name for item in point.attachments]
    if name not in known:
        raise NotFound(
            f"point {point.id} has no attachment {name!r}",
            hint=f"it has: {', '.join(known)}" if known else "it has none",
        )
    with repository.open(point.id) as reader:
        content = reader.attachment(name)
    if run.options.as_json:
        encoded = base64.b64encode(content).decode()
        run.show(Report({"name": name, "size": len(content), "content_base64": encoded}))
    else:
        run.output.show_raw(content)


@app.command("delete")
@command
def delete_points(
    run: Run,
    points: Annotated[
        list[str], typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete points; all others stay whole, whatever they share with them."""
    repository = run.repository()
    lost = {item.id: item for item in repository.lost() if item.id in points}
    named = [find_point(repository, name) for name in points if name not in lost]
    chosen = {found.id: found for found in named}
    refuse_held(repository.holds(), [*chosen, *lost], clock.now())
    for line in _consequences(repository, list(chosen.values())):
        run.note(line)
    for item in lost.values():
        run.note(f"{item.id}: a lost point: {item.message}")
    if not yes:
        confirm(f"Delete {len(chosen) + len(lost)} point(s)?", run)
    with run.progress("deleting") as listener:
        deleted = repository.delete([*chosen, *lost], progress=listener)
    run.show(Report({"deleted": list(deleted)}, [f"deleted {point_id}" for point_id in deleted]))


def confirm(question: str, run: Run) -> None:
    """Ask on a terminal; anywhere else nobody could answer."""
    if run.options.as_json or not sys.stdin.isatty():
        raise Rejected(
            "this needs a yes, and there is no terminal to ask on",
            hint="add --yes if that is what you want",
        )
    if not typer.confirm(question, err=True):
        raise Cancelled("nothing was done")


def _consequences(repository: Repository, chosen: list[RecoveryPoint]) -> list[str]:
    """Say what is lost and what is merged where."""
    gone = {point.id for point in chosen}
    lines = []
    for point in chosen:
        lines.append(
            f"{point.id}: {point.machine.name}, number {point.sequence}, "
            f"{point.taken_at:%Y-%m-%d %H:%M:%S} UTC"
        )
    for uuid in sorted({point.machine.uuid for point in chosen}):
        points = repository.points(uuid)
        if all(point.id in gone for point in points):
            name = points[0].machine.name
            lines.append(f"no point of {name} is left after that; its next backup is a full")
        elif points[-1].id in gone:
            name = points[0].machine.name
            lines.append(f"the newest point of {name} goes, so its next backup is a full")
        lines += _merges(repository, points, gone)
    if isinstance(repository, DedupRepository):
        lines.append("what only these points use stays until 'sendense repo gc' collects it")
    return lines


def _merges(repository: Repository, points: tuple[RecoveryPoint, ...], gone: set[str]) -> list[str]:
    """Say which points that stay take over data of those that go; points of trees share it."""
    if isinstance(repository, DedupRepository):
        return []
    return [
        f"{image.disk.target} of {image.parent} is merged into {point.id}"
        for point in points
        if point.id not in gone
        for image in point.disks
        if image.parent in gone
    ]
