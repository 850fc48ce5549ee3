"""Restores, planned and done, as JSON and as tables."""

from __future__ import annotations

from typing import Any

from sendense.cli import text
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.cli.point_view import point_document
from sendense.model.restoring import DiskRestore, RestorePlan
from sendense.units import format_seconds, format_size
from sendense.workflows.restore import RestoreResult


def planned_report(plan: RestorePlan) -> Report:
    """Tell of a restore that would be done."""
    parts = [*plan_parts(plan), "nothing was changed"]
    return Report({"plan": _plan_document(plan)}, parts)


def restored_report(result: RestoreResult) -> Report:
    """Tell of a restore that was done."""
    parts: list[Sheet | Cell] = [_done_sheet(result)]
    parts += [f"wrote {name}" for name in result.files]
    if result.domain is not None:
        parts += [f"note: {note}" for note in result.domain.notes]
    if result.started and result.domain is not None:
        parts.append(f"started {result.domain.name}")
    return Report(_result_document(result), parts)


def plan_parts(plan: RestorePlan) -> list[Sheet | Cell]:
    """Describe where each disk goes, and why."""
    point = plan.point
    head = f"{point.machine.name} as of {text.when(point.taken_at)}, point {point.id}:"
    columns = (
        Column("disk"),
        Column("size", right=True),
        Column("to"),
        Column("format"),
        Column("because", minor=1),
        Column("path"),
    )
    rows = [
        (
            item.image.disk.target,
            format_size(item.image.size),
            item.destination.kind.value,
            item.destination.format,
            item.reason,
            item.destination.path,
        )
        for item in plan.disks
    ]
    left = [f"left out: {item.image.disk.target}: {item.reason}" for item in plan.left_out]
    return [head, Sheet(columns, rows), *left]


def _plan_document(plan: RestorePlan) -> dict[str, Any]:
    return {
        "point": point_document(plan.point),
        "size": plan.size,
        "folder": plan.folder,
        "overwrite": plan.overwrite,
        "disks": [_disk_document(item) for item in plan.disks],
        "left_out": [
            {"target": item.image.disk.target, "reason": item.reason} for item in plan.left_out
        ],
    }


def _disk_document(item: DiskRestore) -> dict[str, Any]:
    return {
        "target": item.image.disk.target,
        "identity": item.image.disk.identity,
        "size": item.image.size,
        "kind": item.destination.kind.value,
        "path": item.destination.path,
        "format": item.destination.format,
        "capacity": item.destination.capacity,
        "reason": item.reason,
    }


def _result_document(result: RestoreResult) -> dict[str, Any]:
    domain = result.domain
    return {
        "plan": _plan_document(result.plan),
        "disks": [
            {
                "target": item.target,
                "path": item.path,
                "data_bytes": item.data_bytes,
                "zero_bytes": item.zero_bytes,
                "seconds": item.seconds,
                "read_back": item.read_back,
            }
            for item in result.disks
        ],
        "machine": (
            {"name": domain.name, "uuid": domain.uuid, "notes": list(domain.notes)}
            if domain is not None
            else None
        ),
        "files": list(result.files),
        "started": result.started,
        "seconds": result.seconds,
    }


def _done_sheet(result: RestoreResult) -> Sheet:
    columns = (
        Column("disk"),
        Column("data", right=True),
        Column("zeroes", right=True),
        Column("took", right=True),
        Column("rate", right=True),
        Column("read back"),
        Column("path"),
    )
    rows = [
        (
            item.target,
            format_size(item.data_bytes),
            format_size(item.zero_bytes),
            format_seconds(item.seconds),
            text.rate(item.data_bytes, item.seconds),
            text.yes(item.read_back),
            item.path,
        )
        for item in result.disks
    ]
    return Sheet(columns, rows)
