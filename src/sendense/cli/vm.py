"""``sendense vm``: the machines of this host, and what a backup of them would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sendense import clock
from sendense.capture.host import Host
from sendense.cli import text
from sendense.cli.machine_view import (
    bitmaps_sheet,
    disks_sheet,
    machine_document,
    machine_pairs,
    survey_document,
)
from sendense.cli.options import command
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.cli.plan_view import plan_document, plan_sheet
from sendense.cli.point_view import point_document
from sendense.cli.run import Run
from sendense.errors import SendenseError
from sendense.model.machine import Machine
from sendense.model.plan import CapturePlan
from sendense.model.point import RecoveryPoint
from sendense.model.survey import Survey
from sendense.units import format_size
from sendense.workflows.planning import BackupRequest, plan_backup
from sendense.workflows.points import newest_points

app = typer.Typer(name="vm", help="The machines of this host.", no_args_is_help=True)


@dataclass(frozen=True)
class _Seen:
    """One machine of the list, with its disks as far as they could be looked at."""

    machine: Machine
    survey: Survey | None
    trouble: str | None
    last: RecoveryPoint | None

    @property
    def size(self) -> int | None:
        return sum(item.size for item in self.survey.disks) if self.survey else None


@app.command("list")
@command
def list_machines(run: Run) -> None:
    """List the machines that libvirt knows, with their last point."""
    last, trouble = _last_points(run)
    with run.host() as host:
        seen = [_look(host, machine, last.get(machine.uuid)) for machine in host.machines()]
    if trouble:
        run.output.alert(f"warning: the last points are not known: {trouble}")
    document: dict[str, Any] = {"machines": [_document(item) for item in seen]}
    if trouble:
        document["repository_error"] = trouble
    run.show(Report(document, [_sheet(seen)] if seen else ["libvirt knows no machine"]))


def _last_points(run: Run) -> tuple[dict[str, RecoveryPoint], str | None]:
    """Give the newest points; machines can be listed while a repository is away."""
    if not run.settings.repository:
        return {}, None
    try:
        return newest_points(run.repository().points()), None
    except SendenseError as error:
        return {}, error.message


def _look(host: Host, machine: Machine, last: RecoveryPoint | None) -> _Seen:
    """Look at one machine; that one cannot be read does not hide the others."""
    try:
        return _Seen(machine, host.survey(machine), None, last)
    except SendenseError as error:
        return _Seen(machine, None, error.message, last)


def _document(seen: _Seen) -> dict[str, Any]:
    return {
        **machine_document(seen.machine),
        "size": seen.size,
        "trouble": seen.trouble,
        "last_point": point_document(seen.last) if seen.last else None,
    }


def _sheet(seen: list[_Seen]) -> Sheet:
    columns = (
        Column("name"),
        Column("uuid", minor=1),
        Column("state"),
        Column("disks", minor=2),
        Column("size", right=True),
        Column("agent channel", minor=3),
        Column("last point"),
        Column("trouble", fold=True),
    )
    rows = [
        (
            item.machine.name,
            item.machine.uuid,
            item.machine.power.value,
            ", ".join(disk.target for disk in item.machine.disks) or text.NONE,
            text.bytes_or_none(item.size),
            text.yes(item.machine.agent_channel),
            _last(item.last),
            item.trouble or "",
        )
        for item in seen
    ]
    return Sheet(columns, rows)


def _last(point: RecoveryPoint | None) -> str:
    if point is None:
        return text.NONE
    age = max(0.0, (clock.now() - point.taken_at).total_seconds())
    return f"{text.when(point.taken_at)} ({_age(age)} ago)"


def _age(seconds: float) -> str:
    for span, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * span:
            return f"{int(seconds // span)} {unit}"
    return f"{int(seconds)} seconds"


@app.command("show")
@command
def show_machine(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or UUID.", show_default=False)],
) -> None:
    """Show a machine's disks and bitmaps, and what its next backup would do."""
    with run.host() as host:
        survey = host.survey(host.find(name))
    plan = _next(run, survey)
    document = {
        "machine": {
            **machine_document(survey.machine),
            "disks": [survey_document(item) for item in survey.disks],
        },
        "incremental": survey.incremental,
        "checkpoints": list(survey.checkpoints),
        "next": plan_document(plan) if plan else None,
    }
    parts: list[Sheet | Cell] = [machine_pairs(survey), "", disks_sheet(survey.disks)]
    bitmaps = bitmaps_sheet(survey.disks)
    parts += ["", bitmaps] if bitmaps else []
    if plan:
        about = f"the next backup reads about {format_size(plan.estimated_bytes)}:"
        parts += ["", about, plan_sheet(plan)]
    run.show(Report(document, parts))


def _next(run: Run, survey: Survey) -> CapturePlan | None:
    if not run.settings.repository:
        return None
    request = BackupRequest(
        mode=run.settings.mode,
        consistency=run.settings.consistency,
        full_every=run.settings.full_every,
        granularity=run.settings.granularity,
    )
    return plan_backup(survey, run.repository().points(survey.machine.uuid), request)
