"""Machines, disks and points, as the engine takes them, without a host that has them."""

from __future__ import annotations

from collections.abc import Callable

from sendense import clock
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.machine import Disk, Machine, PowerState, SourceKind
from sendense.model.point import Consistency, RecoveryPoint, latest_image
from sendense.model.stream import BlockSink
from sendense.repository.protocol import DiskSpec, PointDraft, Repository
from sendense.units import KIB

TARGET = "vda"
GRANULE = 64 * KIB


def machine_uuid(number: int = 0) -> str:
    """Give the UUID of one of many machines."""
    return f"6f2d3f4e-0000-4000-8000-{number:012d}"


def disk() -> Disk:
    """Give the disk that every machine has."""
    return Disk(TARGET, "/images/vda.qcow2", "qcow2", SourceKind.FILE, serial="serial-vda")


def write_point(
    repository: Repository,
    point: str,
    size: int,
    fill: Callable[[BlockSink], int],
    *,
    method: Method = Method.EVERYTHING,
    number: int = 0,
) -> RecoveryPoint:
    """Make one point of a machine; ``fill`` writes its disk and gives how many bytes it read."""
    owner = Machine(machine_uuid(number), f"i-2-{number}-VM", PowerState.RUNNING,
                    persistent=False, disks=(disk(),), vcpus=1, memory_bytes=1 << 30)  # fmt: skip
    spec = DiskSpec(disk(), size, (), _decision(repository, owner, method), GRANULE)
    began = clock.monotonic()
    with repository.begin(owner, point) as writer:
        sink = writer.disk(spec)
        read = fill(sink)
        sink.finish(read_bytes=read, sampled_blocks=0, seconds=clock.monotonic() - began)
        return writer.commit(_draft(owner, spec.decision.mode, clock.monotonic() - began))


def _decision(repository: Repository, owner: Machine, method: Method) -> DiskDecision:
    if method is Method.EVERYTHING:
        return DiskDecision(TARGET, Mode.FULL, method, Reason.REQUESTED, base=None, bitmap=None)
    latest = latest_image(repository.points(owner.uuid), disk().identity)
    base = latest[0].id if latest is not None else None
    bitmap = f"sendense-{base}" if method is Method.BITMAP else None
    return DiskDecision(TARGET, Mode.INCREMENTAL, method, Reason.USABLE, base=base, bitmap=bitmap)


def _draft(owner: Machine, mode: Mode, seconds: float) -> PointDraft:
    return PointDraft(
        machine=owner,
        taken_at=clock.now(),
        mode=mode,
        consistency=Consistency.CRASH,
        checkpoint=None,
        frozen_s=None,
        seconds=seconds,
        warnings=(),
        host="bench",
        versions="bench",
    )
