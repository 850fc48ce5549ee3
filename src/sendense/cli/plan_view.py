"""Plans of captures, as JSON and as tables: the answer to "what would a backup do, and why?"."""

from __future__ import annotations

from typing import Any

from sendense.cli.output import Column, Sheet
from sendense.model.decision import DiskDecision
from sendense.model.plan import CapturePlan, DiskPlan
from sendense.units import format_size


def decision_document(decision: DiskDecision) -> dict[str, Any]:
    """Give a decision as JSON."""
    return {
        "target": decision.target,
        "mode": decision.mode.value,
        "method": decision.method.value,
        "reason": decision.reason.value,
        "explanation": decision.explanation,
        "base": decision.base,
        "bitmap": decision.bitmap,
        "tracked": decision.tracked,
    }


def plan_document(plan: CapturePlan) -> dict[str, Any]:
    """Give a plan as JSON."""
    return {
        "mode": plan.mode.value,
        "consistency": plan.consistency.value,
        "estimated_bytes": plan.estimated_bytes,
        "size": sum(item.survey.size for item in plan.disks),
        "disks": [_disk_document(item) for item in plan.disks],
        "left_out": left_out(plan),
    }


def left_out(plan: CapturePlan) -> list[str]:
    """List the disks of the machine that the plan does not take."""
    taken = {item.target for item in plan.disks}
    return [disk.target for disk in plan.survey.machine.disks if disk.target not in taken]


def _disk_document(item: DiskPlan) -> dict[str, Any]:
    return {
        **decision_document(item.decision),
        "path": item.survey.disk.path,
        "size": item.survey.size,
        "allocated_bytes": item.survey.allocated_bytes,
        "estimated_bytes": item.estimated_bytes,
    }


def plan_sheet(plan: CapturePlan, *, title: str | None = None) -> Sheet:
    """Give a table with the decision for each disk."""
    columns = (
        Column("disk"),
        Column("next"),
        Column("about to read", right=True),
        Column("of", right=True),
        Column("reason", minor=1),
        Column("because", fold=True),
    )
    rows = [
        (
            item.target,
            item.decision.mode.value,
            format_size(item.estimated_bytes),
            format_size(item.survey.size),
            item.decision.reason.value,
            item.decision.explanation,
        )
        for item in plan.disks
    ]
    return Sheet(columns, rows, title=title)
