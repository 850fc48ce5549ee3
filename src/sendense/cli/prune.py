"""``sendense prune``: keeping what the rules keep, and saying why of each point."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

import typer

from sendense import clock
from sendense.cli import text
from sendense.cli.exitcodes import ExitCode
from sendense.cli.options import command
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.model.retention import KeepRules
from sendense.units import format_size
from sendense.workflows.points import find_machine
from sendense.workflows.prune import Judged, PrunePlan, plan_prune, run_prune

_SPAN = re.compile(r"^(\d+)([hdw])$")
_HOURS = {"h": 1, "d": 24, "w": 168}


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("prune")(prune)


def span(value: str) -> timedelta:
    """Read ``36h``, ``14d`` or ``8w``."""
    match = _SPAN.match(value)
    if match is None:
        raise typer.BadParameter(f"{value!r} is not a time span: write 36h, 14d or 8w")
    return timedelta(hours=int(match.group(1)) * _HOURS[match.group(2)])


@command
def prune(
    run: Run,
    machine: Annotated[
        str | None,
        typer.Argument(metavar="MACHINE", help="Name or UUID.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every machine, each by the same rules.")
    ] = False,
    keep_last: Annotated[
        int, typer.Option(metavar="N", min=0, help="Keep the newest N good points.")
    ] = 0,
    keep_within: Annotated[
        timedelta | None,
        typer.Option(metavar="SPAN", parser=span, help="Keep points younger than 36h, 14d, 8w."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and why.")
    ] = False,
) -> ExitCode:
    """Delete the points that no rule keeps; never the last good one of a machine."""
    if (machine is None) != everything:
        raise Rejected("name one machine, or use --all")
    rules = KeepRules(last=keep_last, within=keep_within)
    repository = run.repository()
    uuid = find_machine(repository, machine).uuid if machine else None
    plan = plan_prune(repository, rules, machine=uuid, now=clock.now())
    deleted: tuple[str, ...] = ()
    if not dry_run:
        with run.progress("prune") as listener:
            deleted = run_prune(repository, plan, listener=listener)
    run.show(Report(_document(plan, deleted, dry_run=dry_run), _parts(plan, dry_run=dry_run)))
    return ExitCode.OK


def _document(plan: PrunePlan, deleted: tuple[str, ...], *, dry_run: bool) -> dict[str, Any]:
    verdicts = [
        {
            "point": item.point.id,
            "machine": item.point.machine.name,
            "taken_at": clock.format_utc(item.point.taken_at),
            "keep": item.verdict.keep,
            "reason": item.verdict.reason,
        }
        for item in plan.judged
    ]
    return {"dry_run": dry_run, "verdicts": verdicts, "deleted": list(deleted)}


def _parts(plan: PrunePlan, *, dry_run: bool) -> list[Sheet | Cell]:
    columns = (
        Column("point"),
        Column("machine"),
        Column("taken"),
        Column("stored", right=True),
        Column("keep"),
        Column("because", fold=True),
    )
    rows = [_row(item) for item in plan.judged]
    verb = "would be deleted; nothing was changed" if dry_run else "deleted"
    return [Sheet(columns, rows), f"{len(plan.removed)} of {len(rows)} points {verb}"]


def _row(item: Judged) -> tuple[str, ...]:
    return (
        item.point.id,
        item.point.machine.name,
        text.when(item.point.taken_at),
        format_size(item.point.stored_bytes),
        text.yes(item.verdict.keep),
        item.verdict.reason,
    )
