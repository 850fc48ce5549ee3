"""What a copy did, or would do, as JSON and as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sendense import clock
from sendense.cli import failures, text
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.model.point_copy import CopyVerdict, DiskCopy, PointCopy
from sendense.units import format_seconds, format_size
from sendense.workflows.copy_planning import PlannedCopy
from sendense.workflows.point_copier import DiskCopied, PointCopied

_QUIET = (CopyVerdict.PRESENT, CopyVerdict.OLDER)
"""What needs no line of its own: after a year of copies it is nearly all."""


@dataclass(frozen=True)
class Places:
    """From where to where."""

    source: str
    target: str


def planned_report(places: Places, planned: PlannedCopy) -> Report:
    """Tell what a copy would do."""
    items = planned.plan.points
    document = {
        **_frame(places, planned, dry_run=True),
        "points": [_planned_document(item) for item in items],
        "estimated_bytes": planned.plan.estimated_bytes,
    }
    columns = (
        Column("point"),
        Column("machine"),
        Column("taken", minor=1),
        Column("disk"),
        Column("to read", right=True),
        Column("because", fold=True),
    )
    rows = [row for item in items if item.verdict not in _QUIET for row in _planned_rows(item)]
    total = format_size(planned.plan.estimated_bytes)
    count = _points(len(planned.plan.copied))
    said = f"{count} would be copied, about {total} to read; nothing was changed"
    return Report(document, [*_sheet(columns, rows), *_quiet_line(items), said])


def copied_report(places: Places, planned: PlannedCopy, results: Sequence[PointCopied]) -> Report:
    """Tell what a copy did."""
    document = {
        **_frame(places, planned, dry_run=False),
        "points": [_copied_document(item) for item in results],
        "read_bytes": sum(item.read_bytes for item in results),
        "stored_bytes": sum(item.point.stored_bytes for item in results if item.point),
    }
    failed = {
        failures.code_of(item.error): item.error for item in results if item.error and item.tried
    }
    if failed:
        document["error"] = failures.describe(failed[worst(failed)])
    columns = (
        Column("point"),
        Column("machine"),
        Column("taken", minor=1),
        Column("result"),
        Column("read", right=True),
        Column("stored", right=True),
        Column("took", right=True, minor=2),
        Column("verified", minor=3),
        Column("because", fold=True),
    )
    rows = [_copied_row(item) for item in results if item.item.verdict not in _QUIET]
    done = [item for item in results if item.point]
    stored = format_size(sum(item.point.stored_bytes for item in done if item.point))
    said = f"{_points(len(done))} copied, {stored} stored in {places.target}"
    items = [item.item for item in results]
    return Report(document, [*_sheet(columns, rows), *_quiet_line(items), said])


def word(result: PointCopied) -> str:
    """Say in a word what became of a point."""
    if result.error is not None:
        cancelled = failures.code_of(result.error) is ExitCode.CANCELLED
        return "cancelled" if cancelled else "failed"
    return "copied" if result.point else result.item.verdict.value


def _frame(places: Places, planned: PlannedCopy, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "source": places.source,
        "target": places.target,
        "lost": [
            {"id": item.id, "machine": item.machine, "message": item.message}
            for item in planned.lost
        ],
    }


# --- as JSON ---


def _point_document(item: PointCopy) -> dict[str, Any]:
    return {
        "point": item.point.id,
        "machine": item.point.machine.name,
        "machine_uuid": item.point.machine.uuid,
        "taken_at": clock.format_utc(item.point.taken_at),
        "reason": item.reason.value,
        "explanation": item.words,
    }


def _planned_document(item: PointCopy) -> dict[str, Any]:
    return {
        **_point_document(item),
        "outcome": item.verdict.value,
        "disks": [_disk_document(disk) for disk in item.disks],
        "estimated_bytes": item.estimated_bytes,
    }


def _copied_document(result: PointCopied) -> dict[str, Any]:
    found = result.verification
    return {
        **_point_document(result.item),
        "outcome": word(result),
        "disks": [_copied_disk_document(disk) for disk in result.disks],
        "read_bytes": result.read_bytes,
        "stored_bytes": result.point.stored_bytes if result.point else 0,
        "sequence": result.point.sequence if result.point else None,
        "verified": found.level.value if found and found.sound else None,
        "seconds": result.seconds,
        "error": failures.describe(result.error) if result.error else None,
    }


def _disk_document(disk: DiskCopy) -> dict[str, Any]:
    return {
        "disk": disk.image.disk.target,
        "size": disk.image.size,
        "method": disk.method.value,
        "base": disk.over,
        "reason": disk.reason.value,
        "explanation": disk.words,
        "estimated_bytes": disk.estimated_bytes,
    }


def _copied_disk_document(disk: DiskCopied) -> dict[str, Any]:
    return {
        **_disk_document(disk.item),
        "read_bytes": disk.read_bytes,
        "zero_bytes": disk.zero_bytes,
        "stored_bytes": disk.image.stored_bytes,
        "seconds": disk.seconds,
    }


# --- as tables ---


def _sheet(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[Sheet | Cell]:
    return [Sheet(columns, rows)] if rows else []


def _planned_rows(item: PointCopy) -> list[Sequence[Cell]]:
    head = (item.point.id, item.point.machine.name, text.when(item.point.taken_at))
    if item.verdict is not CopyVerdict.COPY:
        return [(*head, text.NONE, text.NONE, f"not copied: {item.words}")]
    return [
        (*head, disk.image.disk.target, format_size(disk.estimated_bytes), disk.words)
        for disk in item.disks
    ] or [(*head, text.NONE, text.NONE, item.words)]


def _copied_row(result: PointCopied) -> Sequence[Cell]:
    item, point = result.item, result.point
    found = result.verification
    return (
        item.point.id,
        item.point.machine.name,
        text.when(item.point.taken_at),
        word(result),
        format_size(result.read_bytes) if point else text.NONE,
        format_size(point.stored_bytes) if point else text.NONE,
        format_seconds(result.seconds) if point else text.NONE,
        found.level.value if found and found.sound else text.NONE,
        _because(result),
    )


def _because(result: PointCopied) -> str:
    if result.error is not None:
        return str(failures.describe(result.error)["message"])
    if not result.disks:
        return result.item.words
    return "; ".join(f"{disk.item.image.disk.target}: {disk.item.words}" for disk in result.disks)


def _quiet_line(items: Iterable[PointCopy]) -> list[Cell]:
    counts = Counter(item.verdict for item in items)
    said = []
    if counts[CopyVerdict.PRESENT]:
        said.append(f"{counts[CopyVerdict.PRESENT]} are in the target already")
    if counts[CopyVerdict.OLDER]:
        said.append(f"{counts[CopyVerdict.OLDER]} are older than what is there")
    return [f"points that are left out: {', '.join(said)}"] if said else []


def _points(count: int) -> str:
    return f"{count} point{'' if count == 1 else 's'}"
