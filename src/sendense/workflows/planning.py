"""Planning a capture: from what is seen on the host and kept in the repository.

The plan is a value.  ``sendense backup --dry-run`` prints it, and a backup
carries out the very same.
"""

from __future__ import annotations

from dataclasses import dataclass

from sendense import clock
from sendense.errors import Rejected
from sendense.model.decision import Base, CapturePolicy, RequestedMode, decide
from sendense.model.machine import Disk
from sendense.model.plan import CapturePlan, DiskPlan
from sendense.model.point import Consistency, PointState, RecoveryPoint, latest_image, new_point_id
from sendense.model.selection import select_disks
from sendense.model.survey import Survey


@dataclass(frozen=True)
class BackupRequest:
    """What somebody wants backed up, and how."""

    mode: RequestedMode = RequestedMode.AUTO
    consistency: Consistency = Consistency.FILESYSTEM
    strict: bool = False
    """Warnings are failures; a freeze that fails ends the run."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    mountpoints: tuple[str, ...] = ()
    full_every: int = 0
    keep_bitmaps: bool = True
    granularity: int = 65536
    least_bytes: int = 0
    """Skip the run where less than this is expected to have changed."""


def plan_backup(
    survey: Survey, points: tuple[RecoveryPoint, ...], request: BackupRequest
) -> CapturePlan:
    """Decide for every chosen disk how it is read, and why.

    ``points`` are the machine's points in the repository, in any order.
    """
    chosen = select_disks(survey.machine.disks, include=request.include, exclude=request.exclude)
    _refuse_twins(chosen)
    policy = CapturePolicy(request.mode, request.full_every, request.keep_bitmaps)
    disks = []
    for seen in survey.disks:
        if seen.disk not in chosen:
            continue
        decision = decide(
            seen,
            base_of(points, seen.disk.identity),
            policy,
            machine_known=bool(points),
            host_incremental=survey.incremental,
        )
        disks.append(DiskPlan(seen, decision))
    return CapturePlan(
        point_id=new_point_id(clock.now()),
        survey=survey,
        disks=tuple(disks),
        consistency=request.consistency,
        strict=request.strict,
        granularity=request.granularity,
        mountpoints=request.mountpoints,
    )


def _refuse_twins(disks: tuple[Disk, ...]) -> None:
    """Refuse disks that cannot be told apart: a restore would mix them up."""
    seen: dict[str, Disk] = {}
    for disk in disks:
        twin = seen.setdefault(disk.identity, disk)
        if twin is not disk:
            raise Rejected(
                f"the disks {twin.target} and {disk.target} have the same {disk.identity}",
                hint="give them different serials, or leave one of them out with --exclude",
            )


def base_of(points: tuple[RecoveryPoint, ...], identity: str) -> Base | None:
    """Give the last committed image of a disk, as the decisions see it."""
    found = latest_image(points, identity)
    if found is None:
        return None
    point, image = found
    return Base(
        point=point.id,
        checkpoint=point.checkpoint if image.decision.tracked else None,
        size=image.size,
        path=image.disk.path,
        chain=image.chain,
        damaged=point.state is PointState.DAMAGED,
        length=_chain_length(points, identity, point),
    )


def _chain_length(points: tuple[RecoveryPoint, ...], identity: str, last: RecoveryPoint) -> int:
    """Count the points of a disk's chain, from ``last`` back to its full."""
    by_id = {point.id: point for point in points}
    length, current = 0, last
    while True:
        length += 1
        image = current.image_of(identity)
        parent = by_id.get(image.parent) if image and image.parent else None
        if parent is None:
            return length
        current = parent


def superseded(points: tuple[RecoveryPoint, ...]) -> tuple[str, ...]:
    """List the checkpoints of a machine's points that are no disk's base any more."""
    identities = {image.disk.identity for point in points for image in point.disks}
    needed = set()
    for identity in identities:
        found = latest_image(points, identity)
        if found is not None:
            needed.add(found[0].checkpoint)
    return tuple(
        point.checkpoint
        for point in sorted(points, key=lambda item: item.sequence)
        if point.checkpoint is not None and point.checkpoint not in needed
    )
