"""``sendense repo check``: whether all that is stored can be had, and mending what cannot."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense.cli import failures
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.options import command
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.model.point import RecoveryPoint
from sendense.repository.dedup.checking.facade import (
    SAMPLE_PERCENT,
    check,
    plan_repair,
    repair,
)
from sendense.repository.dedup.checking.findings import CheckFinding, CheckLevel, CheckResult
from sendense.repository.dedup.checking.repair_plan import RepairPlan
from sendense.repository.dedup.checking.repairing import RepairResult
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import LostPoint, Repository, VerifyLevel
from sendense.units import format_seconds, format_size
from sendense.workflows.verify import Checked, verify_points

_POINTS_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Put the command into the group."""
    app.command("check")(check_repository)


@command
def check_repository(
    run: Run,
    *,
    level: Annotated[
        CheckLevel,
        typer.Option(
            help="structure: all but data; sample: also some packs; data: every byte.",
        ),
    ] = CheckLevel.STRUCTURE,
    percent: Annotated[
        float,
        typer.Option(help="Of the packs at level sample; least recently read first."),
    ] = SAMPLE_PERCENT,
    mend: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, then look again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --repair: only say what would be done.")
    ] = False,
) -> ExitCode:
    """Check a repository as a whole; damage is shown, remembered, and exit code 6."""
    if dry_run and not mend:
        raise Rejected("--dry-run goes with --repair only", hint="a check removes nothing")
    repository = run.repository()
    if not isinstance(repository, DedupRepository):
        return _check_points(run, repository, level, mend=mend)
    with run.progress("check") as listener:
        result = check(repository, level, percent, listener)
    if not mend:
        run.show(Report({"check": _document(result)}, _parts(result)))
    elif dry_run:
        with run.progress("repair") as listener:
            plan = plan_repair(repository, listener)
        document = {"dry_run": True, "check": _document(result), "plan": list(plan.steps())}
        run.show(Report(document, [*_parts(result), "", *_plan_lines(plan)]))
    else:
        result = _repair(run, repository, result)
    return ExitCode.OK if result.sound else ExitCode.DAMAGED


def _repair(run: Run, repository: DedupRepository, before: CheckResult) -> CheckResult:
    """Mend what the check before has found, and give the state after it."""
    with run.progress("repair") as listener:
        done = repair(repository, listener)
        after = check(repository, CheckLevel.STRUCTURE, progress=listener)
    document = {
        "dry_run": False,
        "before": _document(before),
        "repair": _repair_document(done),
        "check": _document(after),
    }
    parts = [*_parts(before), "", *_repair_lines(done), *_parts(after)]
    run.show(Report(document, parts))
    return after


def _check_points(run: Run, repository: Repository, level: CheckLevel, *, mend: bool) -> ExitCode:
    """Check a chain: its points are all there is."""
    if mend:
        raise Rejected(
            "a repository of QCOW2 files has nothing to mend but by its next full backups",
            hint="leave --repair out",
        )
    depth = VerifyLevel.STRUCTURE if level is CheckLevel.STRUCTURE else VerifyLevel.DATA
    chosen: list[RecoveryPoint | LostPoint] = [*repository.points(), *repository.lost()]
    with run.progress("check") as listener:
        checked = verify_points(repository, chosen, depth, listener=listener)
    bad = [item for item in checked if not item.sound]
    document = {
        "level": depth.value,
        "sound": not bad,
        "points": len(checked),
        "touched": [item.point.id for item in bad],
        "findings": [_point_document(item) for item in bad],
    }
    lines = [f"{item.point.id}: {_why(item)}" for item in bad]
    lines.append(f"{len(checked)} points checked, {len(bad)} damaged")
    run.show(Report({"check": document}, lines))
    return worst(_code(item) for item in checked)


def _code(item: Checked) -> ExitCode:
    if item.error is not None:
        return failures.code_of(item.error)
    return ExitCode.OK if item.sound else ExitCode.DAMAGED


def _point_document(item: Checked) -> dict[str, Any]:
    return {"object": item.point.id, "message": _why(item), "points": [item.point.id]}


def _why(item: Checked) -> str:
    if item.error is not None:
        return item.error.message
    found = item.verification.findings if item.verification else ()
    return "; ".join(one.message for one in found[:3]) or "damaged"


# --- what a check says ---


def _document(result: CheckResult) -> dict[str, Any]:
    return {
        "level": result.level.value,
        "sound": result.sound,
        "points": result.points,
        "touched": list(result.touched),
        "healed": list(result.healed),
        "packs": result.packs,
        "packs_total": result.packs_total,
        "checked_bytes": result.checked_bytes,
        "seconds": result.seconds,
        "findings": [_finding_document(item) for item in result.findings],
    }


def _finding_document(item: CheckFinding) -> dict[str, Any]:
    return {
        "what": item.what.value,
        "weight": item.weight.value,
        "object": item.object,
        "message": item.message,
        "meaning": item.meaning,
        "remedy": item.remedy,
        "points": list(item.points),
    }


def _parts(result: CheckResult) -> list[Sheet | Cell]:
    parts: list[Sheet | Cell] = []
    if result.findings:
        parts += [_findings_sheet(result), ""]
        told = {item.what: item for item in result.findings}
        parts += [f"{what.value}: {item.meaning}; {item.remedy}" for what, item in told.items()]
        parts.append("")
    if result.healed:
        parts.append(f"whole again: {', '.join(result.healed)}")
    read = f"{result.packs} of {result.packs_total} packs read through"
    size = f"{format_size(result.checked_bytes)}, {format_seconds(result.seconds)}"
    verdict = "sound" if result.sound else "NOT SOUND"
    if result.touched:
        verdict += f": {len(result.touched)} of {result.points} points damaged"
    parts.append(f"{result.points} points, {read} ({size}): {verdict}")
    return parts


def _findings_sheet(result: CheckResult) -> Sheet:
    columns = (
        Column("weight"),
        Column("what"),
        Column("object"),
        Column("finding", fold=True),
        Column("points", fold=True),
    )
    rows = [
        (item.weight.value, item.what.value, item.object, item.message, _points_of(item))
        for item in result.findings
    ]
    return Sheet(columns, rows)


def _points_of(item: CheckFinding) -> str:
    shown = ", ".join(item.points[:_POINTS_SHOWN])
    more = len(item.points) - _POINTS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


# --- what a repair says ---


def _plan_lines(plan: RepairPlan) -> list[Sheet | Cell]:
    return [f"would {step}" for step in plan.steps()] or ["nothing to repair"]


def _repair_document(done: RepairResult | None) -> dict[str, Any] | None:
    if done is None:
        return None
    return {
        "steps": list(done.plan.steps()),
        "copied_records": done.copied_records,
        "copied_bytes": done.copied_bytes,
        "kept": list(done.kept),
        "seconds": done.seconds,
    }


def _repair_lines(done: RepairResult | None) -> list[Sheet | Cell]:
    if done is None:
        return []
    lines = [f"done: {step}" for step in done.plan.steps()] or ["nothing to repair"]
    lines += [f"kept, because it is locked: {name}" for name in done.kept]
    return [*lines, ""]
