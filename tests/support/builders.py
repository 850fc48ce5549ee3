"""Model values with sensible defaults, so that a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.machine import Disk, Machine, PowerState, SourceKind
from sendense.model.point import Consistency, DiskImage, RecoveryPoint
from sendense.model.survey import Bitmap, DiskSurvey, Survey

GIB = 1 << 30
MACHINE_UUID = "2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01"


def a_disk(target: str = "vda", **changes: Any) -> Disk:
    """Give a qcow2 disk of a CloudStack-like path and serial."""
    disk = Disk(
        target=target,
        path=f"/mnt/pool/{target}",
        format="qcow2",
        kind=SourceKind.FILE,
        serial=f"serial{target}",
    )
    return replace(disk, **changes)


def a_machine(*disks: Disk, **changes: Any) -> Machine:
    """Give a running transient machine."""
    machine = Machine(
        uuid=MACHINE_UUID,
        name="i-2-10-VM",
        power=PowerState.RUNNING,
        persistent=False,
        disks=disks or (a_disk(),),
        vcpus=1,
        memory_bytes=256 << 20,
    )
    return replace(machine, **changes)


def a_bitmap(name: str = "sendense-p1", **changes: Any) -> Bitmap:
    """Give a sound bitmap."""
    bitmap = Bitmap(
        name=name,
        granularity=65536,
        dirty_bytes=131072,
        recording=True,
        persistent=True,
        inconsistent=False,
    )
    return replace(bitmap, **changes)


def a_survey(disk: Disk | None = None, **changes: Any) -> DiskSurvey:
    """Give the survey of one disk that holds the bitmap of point ``p1``."""
    disk = disk or a_disk()
    survey = DiskSurvey(
        disk=disk,
        size=GIB,
        allocated_bytes=GIB // 4,
        chain=(disk.path, "/mnt/pool/template"),
        bitmaps=(a_bitmap(),),
        memory_snapshot=False,
    )
    return replace(survey, **changes)


def a_machine_survey(*surveys: DiskSurvey, **changes: Any) -> Survey:
    """Give the survey of a machine that has these disks."""
    surveys = surveys or (a_survey(),)
    survey = Survey(
        machine=a_machine(*(item.disk for item in surveys)),
        disks=surveys,
        checkpoints=(),
        incremental=True,
    )
    return replace(survey, **changes)


def an_image(disk: Disk | None = None, **changes: Any) -> DiskImage:
    """Give one disk inside a point."""
    disk = disk or a_disk()
    image = DiskImage(
        disk=disk,
        size=GIB,
        chain=(disk.path, "/mnt/pool/template"),
        decision=DiskDecision(disk.target, Mode.FULL, Method.EVERYTHING, Reason.NO_BASE),
        parent=None,
        block_size=65536,
        read_bytes=0,
        data_bytes=0,
        zero_bytes=0,
        stored_bytes=0,
        digest="",
    )
    return replace(image, **changes)


def a_point(point_id: str = "p1", sequence: int = 1, **changes: Any) -> RecoveryPoint:
    """Give a committed point with one disk."""
    point = RecoveryPoint(
        id=point_id,
        sequence=sequence,
        machine=a_machine(),
        taken_at=datetime(2026, 1, sequence, 12, tzinfo=UTC),
        mode=Mode.FULL,
        consistency=Consistency.CRASH,
        checkpoint=f"sendense-{point_id}",
        frozen_s=None,
        seconds=1.0,
        disks=(an_image(),),
        attachments=(),
        warnings=(),
        host="kvm1",
        versions="",
    )
    return replace(point, **changes)
