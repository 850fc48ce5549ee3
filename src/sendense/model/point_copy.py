"""What a copy of points to another repository will do, and why: decided before anything moves.

Each point is copied, or not, for a reason; and of each disk of a point that is copied it is said
how.  The rules:

* A point is the same in both repositories if it has the same id there.  It is copied once.
* Points arrive in the order that they have in the source, because a repository keeps the order in
  which it gets them: its newest point is the last that came.  So what is older than
  a point that the target has already is passed over.  Else retention in the target would be
  undone by each copy, and ``latest:`` would mean a point of last month.
* A damaged point is not copied: its reading would fail, or spread the damage.
* A disk goes over the last image of it in the target, as every repository demands.  If the source
  has that very point, only what differs from it is read.  If not, all is read, and what
  differs is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional

from sendense.model.decision import DiskDecision, Method, Mode
from sendense.model.point import DiskImage, PointState, RecoveryPoint


class CopyVerdict(str, Enum):
    """What happens to a point."""

    COPY = "copy"
    PRESENT = "present"
    OLDER = "older"
    """It is passed over."""
    REFUSED = "refused"
    GONE = "gone"


class PointReason(str, Enum):
    """Why a point is copied, or not."""

    MISSING = "missing"
    PRESENT = "present"
    PRESENT_DAMAGED = "present-damaged"
    PRESENT_LOST = "present-lost"
    ANOTHER = "another"
    OLDER = "older"
    DAMAGED = "damaged"
    GONE = "gone"


class DiskReason(str, Enum):
    """Why a disk is read the way it is."""

    SHARED = "shared"
    NEW_DISK = "new-disk"
    SHRUNK = "shrunk"
    TARGET_DAMAGED = "target-damaged"
    SOURCE_LACKS = "source-lacks"
    SOURCE_DAMAGED = "source-damaged"
    SOURCE_CANNOT = "source-cannot"


_POINT_WORDS = {
    PointReason.MISSING: "the target does not have it",
    PointReason.PRESENT: "the target has it",
    PointReason.PRESENT_DAMAGED: "the target has it, damaged",
    PointReason.PRESENT_LOST: "the target has a point of this id that cannot be read",
    PointReason.ANOTHER: "the target has another point of this id",
    PointReason.OLDER: "the target has a newer point of this machine",
    PointReason.DAMAGED: "it is damaged in the source",
    PointReason.GONE: "it was deleted in the source meanwhile",
}

_DISK_WORDS = {
    DiskReason.SHARED: "what differs from {base}, which both have",
    DiskReason.NEW_DISK: "all of it: the target has no image of this disk",
    DiskReason.SHRUNK: "all of it: it is smaller than in {base}, the last in the target",
    DiskReason.TARGET_DAMAGED: "all of it: {base}, the last in the target, is damaged there",
    DiskReason.SOURCE_LACKS: "compared with {base}, the last in the target: the source lacks it",
    DiskReason.SOURCE_DAMAGED: "compared with {base}, the last in the target: it is damaged in "
    "the source",
    DiskReason.SOURCE_CANNOT: "compared with {base}, the last in the target: the source cannot "
    "tell what changed since",
}


@dataclass(frozen=True)
class DiskCopy:
    """How one disk of a point is copied."""

    image: DiskImage
    """As it is in the source."""
    method: Method
    """``bitmap``: what differs from ``base`` is read; ``compare``: all, and what differs is
    stored; ``everything``: all."""
    reason: DiskReason
    base: Optional[str]
    """The point in the target that counts: what the disk is laid over, or could not be."""
    estimated_bytes: int
    """How much is read, about."""

    @property
    def over(self) -> Optional[str]:
        """Give the point that the disk is laid over in the target."""
        return None if self.method is Method.EVERYTHING else self.base

    @property
    def words(self) -> str:
        """Say what is read, and why."""
        return _DISK_WORDS[self.reason].format(base=self.base)

    def compared(self, reason: DiskReason) -> DiskCopy:
        """Give it as it is where the source turns out not to tell what changed."""
        size = self.image.size
        return replace(self, method=Method.COMPARE, reason=reason, estimated_bytes=size)

    def decision(self) -> DiskDecision:
        """Give the decision for the target's writer; why the disk was captured so is kept."""
        original = self.image.decision
        by_changes = self.method is Method.BITMAP
        return replace(
            original,
            mode=Mode.FULL if self.over is None else Mode.INCREMENTAL,
            method=self.method,
            base=self.over,
            bitmap=original.bitmap if by_changes else None,
        )


@dataclass(frozen=True)
class PointCopy:
    """What happens to one point."""

    point: RecoveryPoint
    """As it is in the source."""
    verdict: CopyVerdict
    reason: PointReason
    disks: tuple[DiskCopy, ...] = ()
    """Of a point that is copied."""

    @property
    def words(self) -> str:
        """Say why."""
        return _POINT_WORDS[self.reason]

    @property
    def estimated_bytes(self) -> int:
        """Say how much is read, about."""
        return sum(disk.estimated_bytes for disk in self.disks)


@dataclass(frozen=True)
class CopyPlan:
    """All that a copy would do: by machine, oldest point first."""

    points: tuple[PointCopy, ...]

    @property
    def copied(self) -> tuple[PointCopy, ...]:
        """List what is copied."""
        return tuple(item for item in self.points if item.verdict is CopyVerdict.COPY)

    @property
    def estimated_bytes(self) -> int:
        """Say how much is read in all, about."""
        return sum(item.estimated_bytes for item in self.points)


Points = Mapping[str, RecoveryPoint]
"""Points by id."""


class TargetPoints:
    """The points of a machine in the target, now or as they will be."""

    def __init__(self, points: Iterable[RecoveryPoint], lost: Iterable[str] = ()) -> None:
        """Begin with those that are there; ``lost`` are ids of points that cannot be read."""
        ordered = sorted(points, key=_sequence)
        self.by_id = {point.id: point for point in ordered}
        self.lost = frozenset(lost)
        self._latest: dict[str, RecoveryPoint] = {}
        for point in ordered:
            self._note(point)

    def add(self, point: RecoveryPoint) -> None:
        """Take a point in, as a copy of it will be."""
        copied = replace(point, state=PointState.COMPLETE)
        self.by_id[point.id] = copied
        self._note(copied)

    def latest(self, identity: str) -> Optional[RecoveryPoint]:
        """Give the last point that holds a disk: what the next image of it has to lie over."""
        return self._latest.get(identity)

    def _note(self, point: RecoveryPoint) -> None:
        for image in point.disks:
            self._latest[image.disk.identity] = point


def plan_points(
    chosen: Iterable[RecoveryPoint], source: Points, target: TargetPoints, *, older: bool
) -> tuple[PointCopy, ...]:
    """Decide about points of one machine.

    ``source`` has all points of the machine there, ``target`` those of the target, and is
    brought up to what it will be.  ``older``: points are copied out of order as well.
    """
    shared = [point.sequence for point in source.values() if _is_there(point, target)]
    newest = 0 if older else max(shared, default=0)
    plan = []
    for point in sorted(chosen, key=_sequence):
        verdict, reason = _judge(point, target, newest)
        if verdict is not CopyVerdict.COPY:
            plan.append(PointCopy(point, verdict, reason))
            continue
        plan.append(PointCopy(point, verdict, reason, plan_disks(point, source, target)))
        target.add(point)
    return tuple(plan)


def plan_disks(point: RecoveryPoint, source: Points, target: TargetPoints) -> tuple[DiskCopy, ...]:
    """Decide how each disk of a point is copied onto what the target has."""
    return tuple(_plan_disk(point, image, source, target) for image in point.disks)


def _judge(
    point: RecoveryPoint, target: TargetPoints, newest: int
) -> tuple[CopyVerdict, PointReason]:
    if point.id in target.lost:
        return CopyVerdict.REFUSED, PointReason.PRESENT_LOST
    there = target.by_id.get(point.id)
    if there is not None:
        if not _same(point, there):
            return CopyVerdict.REFUSED, PointReason.ANOTHER
        bad = there.state is PointState.DAMAGED
        return CopyVerdict.PRESENT, PointReason.PRESENT_DAMAGED if bad else PointReason.PRESENT
    if point.sequence < newest:
        return CopyVerdict.OLDER, PointReason.OLDER
    if point.state is PointState.DAMAGED:
        return CopyVerdict.REFUSED, PointReason.DAMAGED
    return CopyVerdict.COPY, PointReason.MISSING


def _plan_disk(
    point: RecoveryPoint, image: DiskImage, source: Points, target: TargetPoints
) -> DiskCopy:
    latest = target.latest(image.disk.identity)
    last = latest.image_of(image.disk.identity) if latest else None
    whole = DiskCopy(image, Method.EVERYTHING, DiskReason.NEW_DISK, None, image.size)
    if latest is None or last is None:
        return whole
    whole = replace(whole, base=latest.id)
    if latest.state is PointState.DAMAGED:
        return replace(whole, reason=DiskReason.TARGET_DAMAGED)
    if image.size < last.size:
        return replace(whole, reason=DiskReason.SHRUNK)
    base = source.get(latest.id)
    if base is None or not _same(base, latest) or not _holds(base, last):
        return whole.compared(DiskReason.SOURCE_LACKS)
    if base.state is PointState.DAMAGED:
        return whole.compared(DiskReason.SOURCE_DAMAGED)
    return replace(
        whole,
        method=Method.BITMAP,
        reason=DiskReason.SHARED,
        estimated_bytes=_since(base, point, image, source),
    )


def _since(base: RecoveryPoint, point: RecoveryPoint, image: DiskImage, source: Points) -> int:
    """Guess how much of a disk differs from its image in ``base``: what was stored since."""
    stored = [
        held.data_bytes
        for other in source.values()
        if base.sequence < other.sequence <= point.sequence
        and (held := other.image_of(image.disk.identity)) is not None
    ]
    return min(sum(stored), image.size) if stored else image.size


def _is_there(point: RecoveryPoint, target: TargetPoints) -> bool:
    there = target.by_id.get(point.id)
    return there is not None and _same(point, there)


def _same(one: RecoveryPoint, other: RecoveryPoint) -> bool:
    """Tell whether two points of one id are the same point: an id alone could be made up."""
    return one.machine.uuid == other.machine.uuid and one.taken_at == other.taken_at


def _holds(point: RecoveryPoint, image: DiskImage) -> bool:
    """Tell whether a point holds an image of this disk, of this size."""
    held = point.image_of(image.disk.identity)
    return held is not None and held.size == image.size


def _sequence(point: RecoveryPoint) -> int:
    return point.sequence
