"""``sendense verify``: reading points back, against their hashes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sendense.cli import failures, text
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.options import command
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.cli.points import POINT_HELP
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.model.point import RecoveryPoint
from sendense.repository.protocol import LostPoint, Repository, VerifyLevel
from sendense.units import format_seconds, format_size
from sendense.workflows.points import find_machine, find_point
from sendense.workflows.verify import Checked, verify_points


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("verify")(verify)


@command
def verify(
    run: Run,
    points: Annotated[
        list[str] | None,
        typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All points.")] = False,
    machine: Annotated[
        str | None, typer.Option(help="All points of this machine: name or UUID.")
    ] = None,
    level: Annotated[
        VerifyLevel, typer.Option(help="structure: all but data; data: every byte.")
    ] = VerifyLevel.DATA,
) -> ExitCode:
    """Check points; damage is shown, remembered, and exit code 6."""
    if sum((bool(points), everything, machine is not None)) != 1:
        raise Rejected("name points, or a --machine, or --all")
    repository = run.repository()
    chosen = _chosen(repository, points or [], machine)
    with run.progress("verify") as listener:
        checked = verify_points(repository, chosen, level, listener=listener)
    run.show(Report(_document(checked, level), _parts(checked)))
    return worst(_code(item) for item in checked)


def _chosen(
    repository: Repository, names: list[str], machine: str | None
) -> tuple[RecoveryPoint | LostPoint, ...]:
    if names:
        found = [find_point(repository, name) for name in names]
        return tuple({point.id: point for point in found}.values())
    uuid = find_machine(repository, machine).uuid if machine else None
    return (*repository.points(uuid), *repository.lost(uuid))


def _code(item: Checked) -> ExitCode:
    if item.error is not None:
        return failures.code_of(item.error)
    return ExitCode.OK if item.sound else ExitCode.DAMAGED


def _document(checked: Sequence[Checked], level: VerifyLevel) -> dict[str, Any]:
    return {
        "level": level.value,
        "sound": all(item.sound for item in checked),
        "points": [_point_document(item) for item in checked],
    }


def _point_document(item: Checked) -> dict[str, Any]:
    found = item.verification
    return {
        "point": item.point.id,
        "machine": _machine(item),
        "sound": item.sound,
        "checked_bytes": found.checked_bytes if found else 0,
        "seconds": found.seconds if found else 0.0,
        "findings": [
            {"disk": one.disk, "offset": one.offset, "message": one.message}
            for one in (found.findings if found else ())
        ],
        "error": failures.describe(item.error) if item.error else None,
    }


def _parts(checked: Sequence[Checked]) -> list[Sheet | Cell]:
    if not checked:
        return ["there is no point to verify"]
    parts: list[Sheet | Cell] = [_points_sheet(checked)]
    findings = _findings_sheet(checked)
    return [*parts, "", findings] if findings.rows else parts


def _points_sheet(checked: Sequence[Checked]) -> Sheet:
    columns = (
        Column("point"),
        Column("machine"),
        Column("taken"),
        Column("result"),
        Column("checked", right=True),
        Column("took", right=True),
    )
    rows = [
        (
            item.point.id,
            _machine(item),
            text.when(item.point.taken_at) if isinstance(item.point, RecoveryPoint) else text.NONE,
            _word(item),
            format_size(item.verification.checked_bytes) if item.verification else text.NONE,
            format_seconds(item.verification.seconds) if item.verification else text.NONE,
        )
        for item in checked
    ]
    return Sheet(columns, rows)


def _machine(item: Checked) -> str:
    """Name the machine; of a point without a manifest only the UUID is known."""
    point = item.point
    return point.machine.name if isinstance(point, RecoveryPoint) else point.machine


def _word(item: Checked) -> str:
    if item.error is not None:
        return "not verified"
    return "sound" if item.sound else "DAMAGED"


def _findings_sheet(checked: Sequence[Checked]) -> Sheet:
    columns = (
        Column("point"),
        Column("disk"),
        Column("offset", right=True),
        Column("finding", fold=True),
    )
    rows: dict[tuple[str, ...], None] = {}
    for item in checked:
        if item.error is not None:
            rows[item.point.id, text.NONE, text.NONE, item.error.message] = None
        for one in item.verification.findings if item.verification else ():
            offset = text.NONE if one.offset is None else str(one.offset)
            # Many points may stand on one damaged layer.
            rows[one.point, one.disk or text.NONE, offset, one.message] = None
    return Sheet(columns, list(rows))
