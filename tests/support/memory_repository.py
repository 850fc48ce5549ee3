"""A repository in memory, for tests that need the promises and no files.

It keeps, for each disk of each point, the resolved content as a dict of 64 KiB
blocks: no layers, no merging.  It passes the same conformance suite as the real
ones (``tests/contract``), and can be told to hold damage (:meth:`damage`).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from blake3 import blake3

from sendense import clock
from sendense.errors import Busy, Damaged, NotFound, Rejected
from sendense.model.decision import Method, Mode
from sendense.model.hold import Hold, HoldKind, refuse_held, with_hold, without_hold
from sendense.model.machine import Machine
from sendense.model.point import (
    Attachment,
    DiskImage,
    PointState,
    RecoveryPoint,
    latest_image,
)
from sendense.model.progress import ProgressListener, silent
from sendense.model.stream import Buffer, Chunk
from sendense.repository.extents import Extent, check_range, joined
from sendense.repository.protocol import (
    DiskReader,
    DiskSpec,
    DiskWriter,
    Finding,
    LostPoint,
    PointDraft,
    PointReader,
    PointWriter,
    RepositoryInfo,
    Verification,
    VerifyLevel,
)
from sendense.units import KIB

BLOCK = 64 * KIB
Blocks = dict[int, bytes]


@dataclass
class _Stored:
    """A point and what it holds."""

    point: RecoveryPoint
    disks: dict[str, Blocks]
    attachments: dict[str, bytes]
    damaged: set[tuple[str, int]] = field(default_factory=set)
    readers: int = 0
    holds: tuple[Hold, ...] = ()


class MemoryRepository:
    """Points in dicts."""

    def __init__(self) -> None:
        self.location = "memory"
        self.id = str(uuid.uuid4())
        self.created_at = clock.now()
        self.stored: dict[str, _Stored] = {}
        self.writing: set[str] = set()
        self.sequences: dict[str, int] = {}

    def info(self) -> RepositoryInfo:
        points = self.points()
        return RepositoryInfo(
            location=self.location,
            kind="memory",
            id=self.id,
            created_at=self.created_at,
            machines=len({point.machine.uuid for point in points}),
            points=len(points),
            stored_bytes=sum(point.stored_bytes for point in points),
            free_bytes=None,
        )

    def points(self, machine: str | None = None) -> tuple[RecoveryPoint, ...]:
        found = [
            item.point
            for item in self.stored.values()
            if machine is None or item.point.machine.uuid == machine
        ]
        return tuple(sorted(found, key=lambda item: (item.machine.uuid, item.sequence)))

    def lost(self, machine: str | None = None) -> tuple[LostPoint, ...]:
        return ()

    def point(self, point_id: str) -> RecoveryPoint:
        return self.find(point_id).point

    def find(self, point_id: str) -> _Stored:
        if point_id not in self.stored:
            raise NotFound(f"there is no point {point_id}")
        return self.stored[point_id]

    def begin(self, machine: Machine, point_id: str) -> PointWriter:
        if machine.uuid in self.writing:
            raise Busy(f"machine {machine.uuid} is in use by a backup")
        if point_id in self.stored:
            raise Rejected(f"there is a point {point_id} already")
        self.writing.add(machine.uuid)
        return _Writer(self, machine, point_id)

    def open(self, point_id: str) -> PointReader:
        return _Reader(self.find(point_id))

    def delete(
        self, point_ids: Sequence[str], *, progress: ProgressListener = silent
    ) -> tuple[str, ...]:
        chosen = [self.find(point_id) for point_id in dict.fromkeys(point_ids)]
        refuse_held(self.holds(), point_ids, clock.now())
        for item in chosen:
            if item.readers or item.point.machine.uuid in self.writing:
                raise Busy(f"point {item.point.id} is in use")
        for item in chosen:
            del self.stored[item.point.id]
            for other in self.stored.values():
                self._adopt(other, item.point)
        return tuple(item.point.id for item in chosen)

    def holds(self, machine: str | None = None) -> tuple[Hold, ...]:
        found = [
            hold
            for item in self.stored.values()
            for hold in item.holds
            if machine in (None, item.point.machine.uuid)
        ]
        return tuple(sorted(found, key=lambda hold: (hold.point_id, hold.kind.value)))

    def hold(self, hold: Hold) -> None:
        item = self.find(hold.point_id)
        item.holds = with_hold(item.holds, hold, clock.now())

    def release_hold(self, point_id: str, kind: HoldKind) -> None:
        item = self.find(point_id)
        item.holds = without_hold(item.holds, point_id, kind, clock.now())

    def verify(
        self,
        point_id: str,
        level: VerifyLevel,
        *,
        only_new: bool = False,
        progress: ProgressListener = silent,
    ) -> Verification:
        item = self.find(point_id)
        found = [
            Finding(point_id, identity, offset, "damaged")
            for identity, offset in sorted(item.damaged)
            if level is VerifyLevel.DATA
        ]
        if level is VerifyLevel.DATA:
            state = PointState.DAMAGED if found else PointState.COMPLETE
            item.point = replace(item.point, state=state)
        size = item.point.size if level is VerifyLevel.DATA else 0
        return Verification(point_id, level, size, tuple(found), seconds=0.0)

    def rebuild(self) -> int:
        return len(self.stored)

    def close(self) -> None:
        pass

    def damage(self, point_id: str, identity: str, offset: int) -> None:
        """Let one block fail its check from now on."""
        self.find(point_id).damaged.add((identity, offset - offset % BLOCK))

    @staticmethod
    def _adopt(other: _Stored, deleted: RecoveryPoint) -> None:
        """Give a point the parent of its deleted parent."""
        disks = []
        for image in other.point.disks:
            below = deleted.image_of(image.disk.identity)
            if image.parent == deleted.id and below is not None:
                disks.append(replace(image, parent=below.parent))
            else:
                disks.append(image)
        other.point = replace(other.point, disks=tuple(disks))


class _DiskWriter:
    """Collects blocks over the parent's."""

    def __init__(self, spec: DiskSpec, parent: Blocks | None) -> None:
        self.spec = spec
        self.block_size = BLOCK
        if spec.decision.method is Method.BITMAP:
            self.block_size = min(max(spec.granularity, 4 * KIB), BLOCK)
        self.content = dict(parent or {})
        self.image: DiskImage | None = None
        self.discarded = False
        self._position = 0
        self._data_bytes = 0
        self._zero_bytes = 0

    def write(self, offset: int, data: Buffer) -> None:
        self._advance(offset, len(data))
        plain = bytes(data)
        position = offset
        while position < offset + len(plain):
            start = position - position % BLOCK
            end = min(start + BLOCK, offset + len(plain))
            self._patch(start, position - start, plain[position - offset : end - offset])
            position = end
        self._data_bytes += len(plain)

    def zero(self, offset: int, length: int) -> None:
        self._advance(offset, length)
        position = offset
        while position < offset + length:
            start = position - position % BLOCK
            end = min(start + BLOCK, offset + length)
            self._patch(start, position - start, bytes(end - position))
            position = end
        if self.spec.decision.base is not None:
            self._zero_bytes += length

    def finish(self, *, read_bytes: int, sampled_blocks: int, seconds: float) -> DiskImage:
        digest = blake3()
        for start in sorted(self.content):
            digest.update(start.to_bytes(8, "little") + self.content[start])
        self.image = DiskImage(
            disk=self.spec.disk,
            size=self.spec.size,
            chain=self.spec.chain,
            decision=self.spec.decision,
            parent=self.spec.decision.base,
            block_size=self.block_size,
            read_bytes=read_bytes,
            data_bytes=self._data_bytes,
            zero_bytes=self._zero_bytes,
            stored_bytes=self._data_bytes,
            digest=digest.hexdigest(),
            sampled_blocks=sampled_blocks,
            seconds=seconds,
        )
        return self.image

    def discard(self) -> None:
        self.discarded = True

    def _advance(self, offset: int, length: int) -> None:
        end = offset + length
        size = self.spec.size
        if not self._position <= offset <= end <= size:
            raise ValueError("out of order")
        if offset % self.block_size or (end % self.block_size and end != size):
            raise ValueError("not whole blocks")
        self._position = end

    def _patch(self, start: int, at: int, data: bytes) -> None:
        block = bytearray(self.content.get(start, bytes(BLOCK)))
        block[at : at + len(data)] = data
        self.content[start] = bytes(block)
        if not any(block):
            del self.content[start]


class _Writer:
    """One point under way."""

    def __init__(self, repository: MemoryRepository, machine: Machine, point_id: str) -> None:
        self._repository = repository
        self._machine = machine
        self._id = point_id
        self._disks: list[_DiskWriter] = []
        self._attachments: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._committed = False

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._repository.writing.discard(self._machine.uuid)

    def disk(self, spec: DiskSpec) -> DiskWriter:
        self._disks = [item for item in self._disks if not item.discarded]
        if any(item.spec.disk.target == spec.disk.target for item in self._disks):
            raise Rejected(f"disk {spec.disk.target} is already in this point")
        writer = _DiskWriter(spec, self._parent(spec))
        self._disks.append(writer)
        return writer

    def attach(self, name: str, content: bytes) -> None:
        if not name or "/" in name or name.startswith(".") or name in self._attachments:
            raise Rejected(f"{name!r} is no name for an attachment")
        self._attachments[name] = content

    def give_up(self) -> None:
        """Nobody waits here."""

    def commit(self, draft: PointDraft) -> RecoveryPoint:
        disks = [item for item in self._disks if not item.discarded]
        images = tuple(item.image for item in disks if item.image is not None)
        if self._committed or len(images) != len(disks):
            raise Rejected("a disk is not finished")
        repository, uuid_ = self._repository, self._machine.uuid
        repository.sequences[uuid_] = repository.sequences.get(uuid_, 0) + 1
        point = RecoveryPoint(
            id=self._id,
            sequence=repository.sequences[uuid_],
            disks=images,
            attachments=tuple(
                Attachment(name, len(content), blake3(content).hexdigest())
                for name, content in self._attachments.items()
            ),
            **draft.__dict__,
        )
        contents = {item.spec.disk.identity: item.content for item in disks}
        repository.stored[self._id] = _Stored(point, contents, self._attachments)
        self._committed = True
        return point

    def _parent(self, spec: DiskSpec) -> Blocks | None:
        decision = spec.decision
        if decision.mode is Mode.FULL:
            return None
        latest = latest_image(self._repository.points(self._machine.uuid), spec.disk.identity)
        if latest is None or latest[0].id != decision.base:
            raise Rejected(f"point {decision.base} does not hold the last image of the disk")
        point, image = latest
        if point.state is PointState.DAMAGED or spec.size < image.size:
            raise Rejected(f"point {decision.base} cannot be built upon")
        return self._repository.stored[point.id].disks[spec.disk.identity]


class _DiskReader:
    """Reads the dict in order."""

    def __init__(self, image: DiskImage, blocks: Blocks, damaged: set[int]) -> None:
        self.image = image
        self._blocks = blocks
        self._damaged = damaged

    def chunks(self) -> Iterator[Chunk]:
        for start in range(0, self.image.size, BLOCK):
            length = min(BLOCK, self.image.size - start)
            if start in self._damaged:
                raise Damaged(f"damaged at offset {start}", offset=start)
            block = self._blocks.get(start)
            yield Chunk(start, length, None if block is None else block[:length])

    def matches(self, offset: int, data: Buffer) -> bool:
        content = b"".join(
            self._blocks.get(start, bytes(BLOCK))
            for start in range(offset, offset + len(data), BLOCK)
        )
        return content[: len(data)] == bytes(data)

    def changes(self, base: DiskReader, *, block_size: int = BLOCK) -> Iterator[Chunk] | None:
        if not isinstance(base, _DiskReader):
            return None
        return self._changes(base, max(block_size, BLOCK))

    def _changes(self, base: _DiskReader, step: int) -> Iterator[Chunk]:
        size = self.image.size
        for start in range(0, size, step):
            places = range(start, min(start + step, size), BLOCK)
            if all(self._blocks.get(place) == base._blocks.get(place) for place in places):
                continue
            for place in places:
                if place in self._damaged:
                    raise Damaged(f"damaged at offset {place}", offset=place)
                block, length = self._blocks.get(place), min(BLOCK, size - place)
                yield Chunk(place, length, None if block is None else block[:length])

    def read_at(self, offset: int, length: int) -> bytes:
        check_range(offset, offset + length, self.image.size)
        first = offset - offset % BLOCK
        starts = range(first, offset + length, BLOCK)
        for start in starts:
            if start in self._damaged:
                raise Damaged(f"damaged at offset {start}", offset=start)
        content = b"".join(self._blocks.get(start, bytes(BLOCK)) for start in starts)
        return content[offset - first : offset - first + length]

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        check_range(start, end, self.image.size)
        first = start - start % BLOCK
        return joined(
            Extent(max(place, start), min(place + BLOCK, end), place not in self._blocks)
            for place in range(first, end, BLOCK)
            if start < end
        )


class _Reader:
    """One point, open."""

    def __init__(self, stored: _Stored) -> None:
        self._stored = stored
        self.point = stored.point
        stored.readers += 1

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stored.readers -= 1

    def disk(self, identity: str) -> DiskReader:
        image = self.point.image_of(identity)
        if image is None:
            raise NotFound(f"point {self.point.id} holds no disk {identity}")
        damaged = {offset for name, offset in self._stored.damaged if name == identity}
        return _DiskReader(image, self._stored.disks[identity], damaged)

    def attachment(self, name: str) -> bytes:
        if name not in self._stored.attachments:
            raise NotFound(f"point {self.point.id} holds no {name}")
        return self._stored.attachments[name]
