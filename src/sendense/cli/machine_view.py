"""Machines and their disks, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from sendense.cli import text
from sendense.cli.output import Column, Sheet, pairs
from sendense.model.machine import Disk, Machine
from sendense.model.survey import Bitmap, DiskSurvey, Survey, is_own
from sendense.units import format_size


def disk_document(disk: Disk) -> dict[str, Any]:
    """Give a disk as JSON."""
    return {
        "target": disk.target,
        "path": disk.path,
        "format": disk.format,
        "kind": disk.kind.value,
        "serial": disk.serial,
        "bus": disk.bus,
        "read_only": disk.read_only,
        "shareable": disk.shareable,
        "holds_bitmaps": disk.holds_bitmaps,
    }


def machine_document(machine: Machine) -> dict[str, Any]:
    """Give a machine as JSON."""
    return {
        "uuid": machine.uuid,
        "name": machine.name,
        "power": machine.power.value,
        "persistent": machine.persistent,
        "vcpus": machine.vcpus,
        "memory_bytes": machine.memory_bytes,
        "agent_channel": machine.agent_channel,
        "uefi": machine.nvram is not None,
        "tpm": machine.tpm,
        "disks": [disk_document(disk) for disk in machine.disks],
    }


def survey_document(survey: DiskSurvey) -> dict[str, Any]:
    """Give what was seen of a disk as JSON."""
    return {
        **disk_document(survey.disk),
        "size": survey.size,
        "allocated_bytes": survey.allocated_bytes,
        "chain": list(survey.chain),
        "memory_snapshot": survey.memory_snapshot,
        "bitmaps": [_bitmap_document(bitmap) for bitmap in survey.bitmaps],
    }


def _bitmap_document(bitmap: Bitmap) -> dict[str, Any]:
    return {
        "name": bitmap.name,
        "own": is_own(bitmap.name),
        "granularity": bitmap.granularity,
        "dirty_bytes": bitmap.dirty_bytes,
        "recording": bitmap.recording,
        "persistent": bitmap.persistent,
        "inconsistent": bitmap.inconsistent,
    }


def machine_pairs(survey: Survey) -> Text:
    """Describe a machine and what can be done with it."""
    machine = survey.machine
    return pairs(
        [
            ("name", machine.name),
            ("uuid", machine.uuid),
            ("state", machine.power.value),
            ("defined", "kept by libvirt" if machine.persistent else "transient"),
            ("memory", f"{format_size(machine.memory_bytes)}, {machine.vcpus} CPUs"),
            ("guest agent channel", text.yes(machine.agent_channel)),
            ("incremental backup", text.yes(survey.incremental)),
            ("UEFI variables", text.yes(machine.nvram is not None)),
            ("TPM", "yes; its state is not part of a point" if machine.tpm else "no"),
            ("checkpoints", ", ".join(survey.checkpoints) or "none"),
        ]
    )


def disks_sheet(surveys: Sequence[DiskSurvey]) -> Sheet:
    """Give a table of disks as they are now."""
    columns = (
        Column("disk"),
        Column("size", right=True),
        Column("allocated", right=True),
        Column("format"),
        Column("notes"),
        Column("path"),
    )
    rows = [
        (
            item.disk.target,
            format_size(item.size),
            format_size(item.allocated_bytes),
            item.disk.format,
            _notes(item),
            item.disk.path,
        )
        for item in surveys
    ]
    return Sheet(columns, rows)


def _notes(survey: DiskSurvey) -> str:
    disk, below = survey.disk, len(survey.chain) - 1
    notes = (
        (below > 0, f"{below} backing file{'s' if below > 1 else ''}"),
        (not disk.holds_bitmaps, "holds no bitmap"),
        (survey.memory_snapshot, "internal snapshot"),
        (disk.read_only, "read-only"),
        (disk.shareable, "shareable"),
    )
    return ", ".join(note for holds, note in notes if holds)


def bitmaps_sheet(surveys: Sequence[DiskSurvey]) -> Sheet | None:
    """Give a table of all bitmaps; none where there is no bitmap."""
    rows = [
        (
            item.disk.target,
            bitmap.name,
            format_size(bitmap.granularity),
            format_size(bitmap.dirty_bytes),
            _soundness(bitmap),
        )
        for item in surveys
        for bitmap in item.bitmaps
    ]
    columns = (
        Column("disk"),
        Column("bitmap"),
        Column("granule", right=True),
        Column("dirty", right=True),
        Column("state"),
    )
    return Sheet(columns, rows) if rows else None


def _soundness(bitmap: Bitmap) -> str:
    faults = (
        (bitmap.inconsistent, "inconsistent"),
        (not bitmap.recording, "not recording"),
        (not bitmap.persistent, "not persistent"),
        (not is_own(bitmap.name), "not ours"),
    )
    return ", ".join(fault for holds, fault in faults if holds) or "sound"
