"""One point from one repository into another.

::

    lease the point in the source -> lease the machine in the target -> decide again
    -> read, checked -> store -> commit -> verify what came

The target is the one that decides what is stored: it gets what differs, and keeps what it does not
have.  Damage is told apart by where it was met.  In the source it ends the point; in the target, in
what the point is laid over, it is remembered there, and the point is copied as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from sendense.errors import Damaged, NotFound, Rejected
from sendense.model.decision import Method, Mode
from sendense.model.point import DiskImage, PointState, RecoveryPoint
from sendense.model.point_copy import (
    CopyVerdict,
    DiskCopy,
    DiskReason,
    PointCopy,
    PointReason,
    TargetPoints,
    plan_disks,
)
from sendense.model.progress import ProgressListener
from sendense.model.stream import Chunk
from sendense.repository.protocol import (
    DiskReader,
    DiskSpec,
    DiskWriter,
    PointDraft,
    PointReader,
    PointWriter,
    Repository,
    Verification,
    VerifyLevel,
)
from sendense.transfer.copy import Pump
from sendense.transfer.meter import Meter
from sendense.transfer.throttle import UNLIMITED, Throttle
from sendense.transfer.whole_blocks import whole_blocks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CopyOptions:
    """How points are copied."""

    throttle: Throttle = UNLIMITED
    """The limit on what is read from the source."""
    read_back: bool = False
    """Read from the target what was stored there, every byte."""


@dataclass(frozen=True)
class DiskCopied:
    """What was done for one disk."""

    item: DiskCopy
    """As it was done in the end."""
    image: DiskImage
    """In the target."""
    read_bytes: int
    """Data that came from the source."""
    zero_bytes: int
    """What was stated to be zero."""
    seconds: float


@dataclass(frozen=True)
class PointCopied:
    """What became of one point."""

    item: PointCopy
    point: RecoveryPoint | None = None
    """In the target, where it was copied."""
    disks: tuple[DiskCopied, ...] = ()
    verification: Verification | None = None
    seconds: float = 0.0
    error: BaseException | None = None
    tried: bool = True
    """Its turn came."""

    @property
    def read_bytes(self) -> int:
        """Say how much data came from the source."""
        return sum(disk.read_bytes for disk in self.disks)


class _SourceDamaged(Exception):
    """Damage that was met in reading the source."""

    def __init__(self, error: Damaged) -> None:
        super().__init__(str(error))
        self.error = error


class PointCopier:
    """Copies points, one at a time."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        options: CopyOptions,
        listener: ProgressListener,
    ) -> None:
        """Copy from ``source`` to ``target``; ``listener`` is told how far it is."""
        self._source = source
        self._target = target
        self._options = options
        self._listener = listener

    def copy(self, item: PointCopy) -> PointCopied:
        """Copy one point, and verify it."""
        try:
            return self._copy_over_good(item)
        except _SourceDamaged as error:
            raise error.error from error

    def _copy_over_good(self, item: PointCopy) -> PointCopied:
        """Copy it; where what it lies over is bad in the target, and nobody knew, as a whole."""
        try:
            return self._copy(item)
        except Damaged as error:
            if not self._finds_damage(item.point):
                raise
            log.warning("%s: point %s is copied as a whole", error.message, item.point.id)
        return self._copy(item)

    def _copy(self, item: PointCopy) -> PointCopied:
        try:
            opened = self._opened(item.point.id)
        except NotFound:
            return _settled(item, CopyVerdict.GONE, PointReason.GONE)
        with opened as reader:
            if reader.point.state is PointState.DAMAGED:
                return _settled(item, CopyVerdict.REFUSED, PointReason.DAMAGED)
            try:
                begun = self._target.begin(reader.point.machine, item.point.id)
            except Rejected:
                if not self._is_there(item.point):
                    raise
                return _settled(item, CopyVerdict.PRESENT, PointReason.PRESENT)
            with begun as writer:
                copied, disks = self._store(reader, writer)
        log.info("point %s of %s copied", copied.id, copied.machine.name)
        item = replace(item, disks=tuple(disk.item for disk in disks))
        return self._verified(PointCopied(item, copied, disks))

    def _store(
        self, reader: PointReader, writer: PointWriter
    ) -> tuple[RecoveryPoint, tuple[DiskCopied, ...]]:
        point = reader.point
        with _Bases(self._source) as bases:
            disks = tuple(
                self._copy_disk(reader, writer, disk, bases) for disk in self._decided(point)
            )
        self._attach(reader, writer)
        return writer.commit(_draft(point, disks)), disks

    def _opened(self, point_id: str) -> PointReader:
        with _of_source():
            return self._source.open(point_id)

    def _is_there(self, point: RecoveryPoint) -> bool:
        return any(other.id == point.id for other in self._target.points(point.machine.uuid))

    def _decided(self, point: RecoveryPoint) -> tuple[DiskCopy, ...]:
        """Decide once more, now that nobody else writes this machine's points in the target."""
        uuid = point.machine.uuid
        source = {other.id: other for other in self._source.points(uuid)}
        return plan_disks(point, source, TargetPoints(self._target.points(uuid)))

    def _copy_disk(
        self, reader: PointReader, writer: PointWriter, item: DiskCopy, bases: _Bases
    ) -> DiskCopied:
        with _of_source():
            disk = reader.disk(item.image.disk.identity)
        item, base = bases.of(item)
        sink = writer.disk(_spec(item))
        if base is None:
            return self._pumped(item, sink, disk.chunks())
        chunks = disk.changes(base, block_size=sink.block_size)
        if chunks is None:
            sink.discard()
            item = item.compared(DiskReason.SOURCE_CANNOT)
            return self._pumped(item, writer.disk(_spec(item)), disk.chunks())
        return self._pumped(item, sink, chunks)

    def _pumped(self, item: DiskCopy, sink: DiskWriter, chunks: Iterator[Chunk]) -> DiskCopied:
        original = item.image
        meter = Meter(
            self._listener,
            phase="copy",
            subject=original.disk.target,
            total=item.estimated_bytes,
        )
        whole = item.method is not Method.BITMAP
        pump = Pump(sink, meter, self._options.throttle, check=lambda: None, zeroes_count=whole)
        for chunk in whole_blocks(_read(chunks), sink.block_size):
            pump.deliver(chunk)
        image = sink.finish(
            read_bytes=original.read_bytes,
            sampled_blocks=original.sampled_blocks,
            seconds=original.seconds,
        )
        meter.finish()
        return DiskCopied(item, image, pump.data_bytes, pump.zero_bytes, meter.seconds)

    def _attach(self, reader: PointReader, writer: PointWriter) -> None:
        for attachment in reader.point.attachments:
            with _of_source():
                content = reader.attachment(attachment.name)
            writer.attach(attachment.name, content)

    def _verified(self, done: PointCopied) -> PointCopied:
        """Look at what was stored; a copy that is bad is an error, and remembered there."""
        level = VerifyLevel.DATA if self._options.read_back else VerifyLevel.STRUCTURE
        point_id = done.item.point.id
        found = self._target.verify(point_id, level, only_new=True, progress=self._listener)
        if found.sound:
            return replace(done, verification=found)
        error = Damaged(
            f"the copy of point {point_id} is damaged: {found.findings[0].message}",
            hint=f"look at the storage of the target, then: sendense points delete {point_id}",
            point=point_id,
        )
        log.error("%s", error)
        return replace(done, verification=found, error=error)

    def _finds_damage(self, point: RecoveryPoint) -> bool:
        """Verify what the disks of a point are laid over, so that damage is remembered."""
        there = TargetPoints(self._target.points(point.machine.uuid))
        latest = [there.latest(image.disk.identity) for image in point.disks]
        under = {base.id for base in latest if base and base.state is PointState.COMPLETE}
        checked = [self._target.verify(base, VerifyLevel.STRUCTURE) for base in sorted(under)]
        return not all(found.sound for found in checked)


class _Bases:
    """The points in the source that the disks of a point are read against."""

    def __init__(self, source: Repository) -> None:
        self._source = source
        self._stack = ExitStack()
        self._open: dict[str, PointReader] = {}

    def __enter__(self) -> _Bases:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def of(self, item: DiskCopy) -> tuple[DiskCopy, DiskReader | None]:
        """Give the disk that one is read against, if it is; the source may have lost it now."""
        if item.method is not Method.BITMAP or item.base is None:
            return item, None
        try:
            if item.base not in self._open:
                self._open[item.base] = self._stack.enter_context(self._source.open(item.base))
            return item, self._open[item.base].disk(item.image.disk.identity)
        except NotFound:
            return item.compared(DiskReason.SOURCE_LACKS), None
        except Damaged:
            return item.compared(DiskReason.SOURCE_DAMAGED), None


def _settled(item: PointCopy, verdict: CopyVerdict, reason: PointReason) -> PointCopied:
    """Tell of a point that came to be another than it was planned for."""
    return PointCopied(replace(item, verdict=verdict, reason=reason, disks=()))


def _read(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Give chunks of the source, with its damage told from the target's."""
    with _of_source():
        yield from chunks


@contextmanager
def _of_source() -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        raise _SourceDamaged(error) from error


def _spec(item: DiskCopy) -> DiskSpec:
    image = item.image
    return DiskSpec(
        disk=image.disk,
        size=image.size,
        chain=image.chain,
        decision=item.decision(),
        granularity=image.block_size,
    )


def _draft(point: RecoveryPoint, disks: Sequence[DiskCopied]) -> PointDraft:
    """Describe a point as the source does; only how it is stored is the target's own."""
    modes = {disk.image.decision.mode for disk in disks}
    return PointDraft(
        machine=point.machine,
        taken_at=point.taken_at,
        mode=Mode.INCREMENTAL if Mode.INCREMENTAL in modes else Mode.FULL,
        consistency=point.consistency,
        checkpoint=point.checkpoint,
        frozen_s=point.frozen_s,
        seconds=point.seconds,
        warnings=point.warnings,
        host=point.host,
        versions=point.versions,
    )
