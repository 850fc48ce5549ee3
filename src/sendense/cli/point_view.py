"""Recovery points, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

from rich.text import Text

from sendense import clock
from sendense.cli import text
from sendense.cli.machine_view import machine_document
from sendense.cli.output import Cell, Column, Sheet, pairs
from sendense.cli.plan_view import decision_document
from sendense.model.hold import Hold
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.repository.protocol import LostPoint
from sendense.units import format_seconds, format_size


def point_document(point: RecoveryPoint, holds: Sequence[Hold] = ()) -> dict[str, Any]:
    """Give a point as JSON, without what it holds of the machine's shape."""
    return {
        "id": point.id,
        "sequence": point.sequence,
        "machine": {"uuid": point.machine.uuid, "name": point.machine.name},
        "taken_at": clock.format_utc(point.taken_at),
        "mode": point.mode.value,
        "consistency": point.consistency.value,
        "state": point.state.value,
        "checkpoint": point.checkpoint,
        "frozen_s": point.frozen_s,
        "seconds": point.seconds,
        "size": point.size,
        "read_bytes": read_bytes(point),
        "stored_bytes": point.stored_bytes,
        "saved_percent": text.saved_percent(point.stored_bytes, point.size),
        "disks": [_image_document(image) for image in point.disks],
        "warnings": list(point.warnings),
        "holds": [hold_document(hold) for hold in holds],
        "host": point.host,
        "versions": point.versions,
    }


def hold_document(hold: Hold) -> dict[str, Any]:
    """Give a pin or a lock as JSON."""
    return {
        "kind": hold.kind.value,
        "until": clock.format_utc(hold.until) if hold.until else None,
        "note": hold.note,
        "made_at": clock.format_utc(hold.made_at),
    }


def whole_point_document(point: RecoveryPoint, holds: Sequence[Hold] = ()) -> dict[str, Any]:
    """Give a point as JSON with all that its manifest tells."""
    attachments = [
        {"name": item.name, "size": item.size, "digest": item.digest} for item in point.attachments
    ]
    return {
        **point_document(point, holds),
        "machine": machine_document(point.machine),
        "attachments": attachments,
    }


def read_bytes(point: RecoveryPoint) -> int:
    """Give what was read from the guest's disks for a point."""
    return sum(image.read_bytes for image in point.disks)


def _image_document(image: DiskImage) -> dict[str, Any]:
    return {
        "target": image.disk.target,
        "identity": image.disk.identity,
        "path": image.disk.path,
        "size": image.size,
        "parent": image.parent,
        "decision": decision_document(image.decision),
        "read_bytes": image.read_bytes,
        "data_bytes": image.data_bytes,
        "zero_bytes": image.zero_bytes,
        "stored_bytes": image.stored_bytes,
        "sampled_blocks": image.sampled_blocks,
        "seconds": image.seconds,
        "block_size": image.block_size,
        "digest": image.digest,
    }


def points_sheet(
    points: Sequence[RecoveryPoint],
    lost: Sequence[LostPoint],
    holds: Mapping[str, Sequence[Hold]],
    zone: tzinfo,
) -> Sheet:
    """Give a table of points; those that cannot be read stand at its end."""
    columns = (
        Column("point"),
        Column("machine"),
        Column("no.", right=True, minor=2),
        Column("taken"),
        Column("mode", minor=1),
        Column("consistency", minor=3),
        Column("disks", right=True, minor=5),
        Column("size", right=True, minor=4),
        Column("stored", right=True),
        Column("state"),
        Column("held", minor=1),
        Column("warnings", right=True),
    )
    rows: list[tuple[str, ...]] = [
        (
            point.id,
            point.machine.name,
            str(point.sequence),
            text.when(point.taken_at),
            point.mode.value,
            text.consistency(point.consistency),
            str(len(point.disks)),
            format_size(point.size),
            format_size(point.stored_bytes),
            text.state(point),
            text.held(holds.get(point.id, ()), zone),
            str(len(point.warnings)) if point.warnings else "",
        )
        for point in points
    ]
    dashes = [text.NONE] * (len(columns) - 5)
    rows += [
        (item.id, item.machine, *dashes, "LOST", text.held(holds.get(item.id, ()), zone), "")
        for item in lost
    ]
    return Sheet(columns, rows)


def point_parts(point: RecoveryPoint, holds: Sequence[Hold], zone: tzinfo) -> list[Sheet | Cell]:
    """Describe one point in full."""
    held = "\n".join(hold.reason(zone) for hold in holds)
    parts: list[Sheet | Cell] = [_pairs(point, held), "", images_sheet(point.disks)]
    missing = _missing(point)
    if missing:
        parts.append(f"not in this point: {', '.join(missing)}")
    parts.extend(f"warning: {warning}" for warning in point.warnings)
    return parts


def _missing(point: RecoveryPoint) -> list[str]:
    held = {image.disk.identity for image in point.disks}
    return [disk.target for disk in point.machine.disks if disk.identity not in held]


def _pairs(point: RecoveryPoint, held: str) -> Text:
    saved = text.percent(text.saved_percent(point.stored_bytes, point.size))
    stored = f"{format_size(point.stored_bytes)} of {format_size(point.size)} ({saved} saved)"
    attachments = ", ".join(item.name for item in point.attachments)
    return pairs(
        [
            ("point", point.id),
            ("machine", f"{point.machine.name} ({point.machine.uuid})"),
            ("number", str(point.sequence)),
            ("taken", text.when(point.taken_at)),
            ("state", text.state(point)),
            ("held", held or text.NONE),
            ("mode", point.mode.value),
            ("consistency", text.consistency(point.consistency)),
            ("guest frozen for", text.frozen(point.frozen_s)),
            ("took", format_seconds(point.seconds)),
            ("stored", stored),
            ("checkpoint", point.checkpoint or text.NONE),
            ("attachments", attachments or text.NONE),
            ("made on", point.host),
            ("made by", point.versions),
        ]
    )


def images_sheet(images: Sequence[DiskImage]) -> Sheet:
    """Give a table of the disks of a point, each with the reason for its mode."""
    columns = (
        Column("disk"),
        Column("mode"),
        Column("size", right=True),
        Column("read", right=True, minor=2),
        Column("stored", right=True),
        Column("over", minor=1),
        Column("sampled", right=True, minor=4),
        Column("took", right=True, minor=3),
        Column("reason", minor=5),
        Column("because", fold=True),
    )
    rows = [
        (
            image.disk.target,
            image.decision.mode.value,
            format_size(image.size),
            format_size(image.read_bytes),
            format_size(image.stored_bytes),
            image.parent or text.NONE,
            str(image.sampled_blocks),
            format_seconds(image.seconds),
            image.decision.reason.value,
            image.decision.explanation,
        )
        for image in images
    ]
    return Sheet(columns, rows)
