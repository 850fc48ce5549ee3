"""What backups did, or would do, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sendense.cli import failures, text
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.cli.plan_view import left_out, plan_document, plan_sheet
from sendense.cli.point_view import images_sheet, point_document, read_bytes
from sendense.model.plan import CapturePlan
from sendense.model.point import RecoveryPoint
from sendense.units import format_seconds, format_size


@dataclass(frozen=True)
class Outcome:
    """How it went with one machine."""

    label: str
    plan: CapturePlan | None = None
    point: RecoveryPoint | None = None
    skipped: str | None = None
    warnings: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    error: BaseException | None = None

    @property
    def name(self) -> str:
        """Give the machine's name; what the person typed where it was not found."""
        if self.point:
            return self.point.machine.name
        return self.plan.survey.machine.name if self.plan else self.label

    @property
    def word(self) -> str:
        """Say in a word how it went."""
        if self.error is not None:
            cancelled = failures.code_of(self.error) is ExitCode.CANCELLED
            return "cancelled" if cancelled else "failed"
        if self.skipped is not None:
            return "skipped"
        return "done" if self.point else "planned"

    @property
    def allocated_bytes(self) -> int | None:
        """Give what the captured disks take on the host."""
        return sum(item.survey.allocated_bytes for item in self.plan.disks) if self.plan else None


def results_report(outcomes: Sequence[Outcome]) -> Report:
    """Tell of backups that were made."""
    parts: list[Sheet | Cell] = [_sheet(outcomes)]
    for outcome in outcomes:
        parts += _details(outcome)
    return Report(_document(outcomes), parts)


def planned_report(outcomes: Sequence[Outcome]) -> Report:
    """Tell of backups that would be made."""
    parts: list[Sheet | Cell] = []
    for outcome in outcomes:
        parts += _planned_details(outcome)
    total = sum(item.plan.estimated_bytes for item in outcomes if item.plan)
    parts.append(f"in all about {format_size(total)} to read; nothing was changed")
    return Report({**_document(outcomes), "estimated_bytes": total}, parts)


def _document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    document: dict[str, Any] = {"results": [_outcome_document(item) for item in outcomes]}
    failed = {failures.code_of(item.error): item.error for item in outcomes if item.error}
    if failed:
        document["error"] = failures.describe(failed[worst(failed)])
    return document


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    point = outcome.point
    allocated = outcome.allocated_bytes
    stored = point.stored_bytes if point else None
    return {
        "machine": outcome.name,
        "outcome": outcome.word,
        "point": point_document(point) if point else None,
        "plan": plan_document(outcome.plan) if outcome.plan else None,
        "skipped": outcome.skipped,
        "allocated_bytes": allocated,
        "saved_percent_of_allocated": (
            text.saved_percent(stored, allocated)
            if stored is not None and allocated is not None
            else None
        ),
        "bytes_per_s": round(read_bytes(point) / point.seconds)
        if point and point.seconds
        else None,
        "warnings": list(outcome.warnings),
        "repaired": list(outcome.repaired),
        "pruned": list(outcome.pruned),
        "error": failures.describe(outcome.error) if outcome.error else None,
    }


def _sheet(outcomes: Sequence[Outcome]) -> Sheet:
    columns = (
        Column("machine"),
        Column("result"),
        Column("point"),
        Column("mode"),
        Column("disks", right=True, minor=4),
        Column("read", right=True),
        Column("stored", right=True),
        Column("saved", right=True, minor=2),
        Column("took", right=True, minor=1),
        Column("rate", right=True, minor=5),
        Column("frozen", right=True, minor=3),
        Column("consistency", minor=3),
    )
    return Sheet(columns, [_row(outcome) for outcome in outcomes])


def _row(outcome: Outcome) -> Sequence[Cell]:
    point = outcome.point
    if point is None:
        return (outcome.name, outcome.word, *[text.NONE] * 10)
    of_size = text.percent(text.saved_percent(point.stored_bytes, point.size))
    allocated = outcome.allocated_bytes
    of_allocated = text.percent(
        None if allocated is None else text.saved_percent(point.stored_bytes, allocated)
    )
    return (
        outcome.name,
        outcome.word,
        point.id,
        point.mode.value,
        str(len(point.disks)),
        format_size(read_bytes(point)),
        format_size(point.stored_bytes),
        f"{of_size} / {of_allocated}",
        format_seconds(point.seconds),
        text.rate(read_bytes(point), point.seconds),
        text.frozen(point.frozen_s),
        text.consistency(point.consistency),
    )


def _details(outcome: Outcome) -> list[Sheet | Cell]:
    """Say what the table has no room for: reasons, warnings, and what else was done."""
    parts: list[Sheet | Cell] = []
    if outcome.point:
        parts += ["", f"{outcome.name}:", images_sheet(outcome.point.disks)]
    if outcome.skipped:
        parts.append(f"{outcome.name}: skipped: {outcome.skipped}")
    parts += [f"{outcome.name}: after a dead run: {line}" for line in outcome.repaired]
    parts += [f"{outcome.name}: warning: {line}" for line in outcome.warnings]
    if outcome.pruned:
        parts.append(f"{outcome.name}: pruned {', '.join(outcome.pruned)}")
    return parts


def _planned_details(outcome: Outcome) -> list[Sheet | Cell]:
    plan = outcome.plan
    if plan is None:
        return (
            [f"{outcome.name}: failed: {failures.describe(outcome.error)['message']}"]
            if (outcome.error)
            else []
        )
    head = (
        f"{outcome.name}: {plan.mode.value}, {plan.consistency.value}, "
        f"about {format_size(plan.estimated_bytes)} to read"
    )
    missing = left_out(plan)
    return [head, plan_sheet(plan), *([f"left out: {', '.join(missing)}"] if missing else []), ""]
