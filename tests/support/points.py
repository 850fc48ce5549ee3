"""Building points in a repository for tests: a machine, disks, and one call per point."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.machine import Disk, Machine, PowerState, SourceKind
from sendense.model.point import Consistency, RecoveryPoint, latest_image
from sendense.model.stream import Chunk
from sendense.repository.protocol import DiskReader, DiskSpec, PointDraft, Repository
from sendense.units import KIB

MACHINE_UUID = "6f2d3f4e-0000-4000-8000-000000000001"
BLOCK = 64 * KIB


def disk(target: str = "vda", serial: str | None = None) -> Disk:
    """Give a disk; its identity is its serial."""
    return Disk(
        target=target,
        path=f"/images/{target}.qcow2",
        format="qcow2",
        kind=SourceKind.FILE,
        serial=serial or f"serial-{target}",
    )


def machine(uuid: str = MACHINE_UUID, *disks: Disk) -> Machine:
    """Give a machine."""
    return Machine(
        uuid=uuid,
        name="i-2-10-VM",
        power=PowerState.RUNNING,
        persistent=False,
        disks=disks or (disk(),),
        vcpus=1,
        memory_bytes=1 << 28,
    )


def decision(target: str, method: Method, base: str | None) -> DiskDecision:
    """Give the decision of a method."""
    full = method is Method.EVERYTHING
    return DiskDecision(
        target,
        Mode.FULL if full else Mode.INCREMENTAL,
        method,
        Reason.REQUESTED if full else Reason.USABLE,
        base=None if full else base,
        bitmap=f"sendense-{base}" if method is Method.BITMAP else None,
    )


@dataclass(frozen=True)
class Write:
    """What a test writes of one disk."""

    disk: Disk
    size: int
    chunks: tuple[Chunk, ...]
    method: Method = Method.EVERYTHING
    granularity: int = BLOCK


def spec_for(repository: Repository, write: Write, uuid: str) -> DiskSpec:
    """Give the spec of a disk, over the last image of it."""
    latest = latest_image(repository.points(uuid), write.disk.identity)
    base = latest[0].id if latest is not None else None
    return DiskSpec(
        disk=write.disk,
        size=write.size,
        chain=(write.disk.path,),
        decision=decision(write.disk.target, write.method, base),
        granularity=write.granularity,
    )


def draft(owner: Machine) -> PointDraft:
    """Give what a capture knows of a point."""
    return PointDraft(
        machine=owner,
        taken_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        mode=Mode.FULL,
        consistency=Consistency.FILESYSTEM,
        checkpoint="sendense-x",
        frozen_s=0.1,
        seconds=1.5,
        warnings=("a warning",),
        host="kvm1",
        versions="test",
    )


def store(
    repository: Repository,
    point_id: str,
    *writes: Write,
    uuid: str = MACHINE_UUID,
    attachments: Mapping[str, bytes] | None = None,
) -> RecoveryPoint:
    """Make one point."""
    owner = machine(uuid, *(write.disk for write in writes))
    with repository.begin(owner, point_id) as writer:
        for write in writes:
            disk_writer = writer.disk(spec_for(repository, write, uuid))
            for chunk in write.chunks:
                if chunk.data is None:
                    disk_writer.zero(chunk.offset, chunk.length)
                else:
                    disk_writer.write(chunk.offset, chunk.data)
            disk_writer.finish(
                read_bytes=sum(chunk.length for chunk in write.chunks),
                sampled_blocks=0,
                seconds=0.5,
            )
        for name, content in (attachments or {}).items():
            writer.attach(name, content)
        return writer.commit(draft(owner))


def data(offset: int, content: bytes) -> Chunk:
    """Give a chunk of data."""
    return Chunk(offset, len(content), content)


def zeroes(offset: int, length: int) -> Chunk:
    """Give a chunk of zeroes."""
    return Chunk(offset, length, None)


def noise(length: int, seed: int = 0) -> bytes:
    """Give bytes that do not compress, always the same for a seed."""
    return random.Random(seed).randbytes(length)


def content_of(reader: DiskReader) -> bytes:
    """Read a whole disk, holding the reader to the order it promises."""
    return join(reader.chunks(), reader.image.size)


def join(chunks: Iterable[Chunk], size: int) -> bytes:
    """Put chunks together; they must follow each other without a gap."""
    content = bytearray(size)
    position = 0
    for chunk in chunks:
        assert chunk.offset == position
        if chunk.data is not None:
            assert len(chunk.data) == chunk.length <= 1 << 20
            content[chunk.offset : chunk.end] = chunk.data
        position = chunk.end
    assert position == size
    return bytes(content)


def restored(repository: Repository, point_id: str, identity: str = "serial:serial-vda") -> bytes:
    """Read one disk of a point."""
    with repository.open(point_id) as reader:
        return content_of(reader.disk(identity))
