"""Planning a copy: which points are meant, and what becomes of each in the target.

The plan is a value.  ``sendense copy --dry-run`` prints it; a copy carries it out, and decides
about each point once more when nobody else can change the machine's points in the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sendense.errors import Rejected
from sendense.model.point import PointState, RecoveryPoint
from sendense.model.point_copy import CopyPlan, PointCopy, TargetPoints, plan_points
from sendense.repository.protocol import LostPoint, Repository
from sendense.workflows.points import find_machine, find_point


@dataclass(frozen=True)
class CopyRequest:
    """Which points somebody wants copied: by name, of one machine, or all."""

    points: tuple[str, ...] = ()
    """As :func:`~sendense.workflows.points.find_point` takes them."""
    machine: str | None = None
    """Name or UUID."""
    last: int | None = None
    """Only the newest so many good points of each machine; a safety point takes nobody's place."""
    since: datetime | None = None
    """Only points that were taken then or later."""
    older: bool = False
    """Also what is older than points that the target has."""


@dataclass(frozen=True)
class PlannedCopy:
    """A plan, and what it cannot speak of."""

    plan: CopyPlan
    lost: tuple[LostPoint, ...]
    """Points that are meant, and cannot be read in the source."""


def plan_copy(source: Repository, target: Repository, request: CopyRequest) -> PlannedCopy:
    """Decide about every point that is meant; changes nothing."""
    _refuse_itself(source, target)
    chosen, lost = _chosen(source, request)
    machines: dict[str, list[RecoveryPoint]] = {}
    for point in chosen:
        machines.setdefault(point.machine.uuid, []).append(point)
    planned = (
        item
        for uuid in sorted(machines)
        for item in _plan_machine(source, target, uuid, machines[uuid], older=request.older)
    )
    return PlannedCopy(CopyPlan(tuple(planned)), lost)


def _plan_machine(
    source: Repository,
    target: Repository,
    uuid: str,
    chosen: Sequence[RecoveryPoint],
    *,
    older: bool,
) -> tuple[PointCopy, ...]:
    there = TargetPoints(target.points(uuid), (item.id for item in target.lost(uuid)))
    known = {point.id: point for point in source.points(uuid)}
    return plan_points(chosen, known, there, older=older)


def _refuse_itself(source: Repository, target: Repository) -> None:
    if source.info().id == target.info().id:
        raise Rejected(
            f"{target.location} is the repository that is copied from",
            hint="name another one with --to",
        )


def _chosen(
    source: Repository, request: CopyRequest
) -> tuple[Sequence[RecoveryPoint], tuple[LostPoint, ...]]:
    if request.points:
        named = [find_point(source, name) for name in request.points]
        return tuple({point.id: point for point in named}.values()), ()
    uuid = find_machine(source, request.machine).uuid if request.machine else None
    points = [
        point
        for point in source.points(uuid)
        if request.since is None or point.taken_at >= request.since
    ]
    if request.last is not None:
        points = list(_newest(points, request.last))
    return points, source.lost(uuid)


def _newest(points: Sequence[RecoveryPoint], count: int) -> Iterator[RecoveryPoint]:
    """Give the newest good points of each machine, and the damaged ones among them.

    A safety point takes nobody's place: it is given only of a machine that has no other good one.
    """
    good: dict[str, int] = {}
    backed_up = {
        point.machine.uuid
        for point in points
        if point.state is PointState.COMPLETE and not point.is_safety
    }
    for point in sorted(points, key=lambda item: item.sequence, reverse=True):
        if point.is_safety and point.machine.uuid in backed_up:
            continue
        if good.setdefault(point.machine.uuid, 0) < count:
            yield point
            good[point.machine.uuid] += point.state is PointState.COMPLETE
