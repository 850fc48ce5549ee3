"""Finding recovery points by what a person types, and machines among them.

A point is named by its id, by the beginning of its id where that is enough, or
as ``latest:MACHINE``, which means no safety point where there is another.  A name
that could mean two things is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sendense.errors import Damaged, NotFound, Rejected
from sendense.model.machine import Machine
from sendense.model.point import PointState, RecoveryPoint
from sendense.repository.protocol import Repository

LATEST = "latest:"


def find_point(
    repository: Repository, reference: str, *, at: datetime | None = None
) -> RecoveryPoint:
    """Give the point that a reference names; with ``at`` the newest up to that moment."""
    if reference.startswith(LATEST):
        return _latest(repository, reference.removeprefix(LATEST), at)
    if at is not None:
        raise Rejected(
            f"{reference!r} names one point already, so a time says nothing",
            hint=f"name the machine instead: {LATEST}MACHINE",
        )
    for lost in repository.lost():
        if lost.id == reference:
            raise Damaged(
                f"point {lost.id} is lost: {lost.message}",
                hint="restore another point; 'sendense points delete' takes it out",
                point=lost.id,
            )
    return _by_id(repository.points(), reference)


def require_good(repository: Repository, point: RecoveryPoint) -> None:
    """Refuse a damaged point, and say which one could be used instead."""
    if point.state is not PointState.DAMAGED:
        return
    others = [
        item
        for item in repository.points(point.machine.uuid)
        if item.state is PointState.COMPLETE and item.sequence < point.sequence
    ]
    hint = "'sendense verify' shows what is damaged"
    if others:
        good = max(others, key=lambda item: item.sequence)
        hint += f"; the newest good point before it is {good.id} of {good.taken_at:%Y-%m-%d %H:%M}"
    raise Damaged(f"point {point.id} is damaged", hint=hint, point=point.id)


def find_machine(repository: Repository, name: str) -> Machine:
    """Give the machine with that UUID or name, as its newest point describes it."""
    newest = newest_points(repository.points())
    found = [
        point.machine
        for point in newest.values()
        if name in (point.machine.uuid, point.machine.name)
    ]
    if len(found) > 1:
        uuids = ", ".join(machine.uuid for machine in found)
        raise Rejected(f"{name!r} means {len(found)} machines", hint=f"name its UUID: {uuids}")
    if not found:
        known = ", ".join(sorted(point.machine.name for point in newest.values()))
        raise NotFound(
            f"the repository holds no point of a machine {name!r}",
            hint=f"it holds points of: {known}" if known else "it holds no point at all",
            machine=name,
        )
    return found[0]


def newest_points(points: Sequence[RecoveryPoint]) -> dict[str, RecoveryPoint]:
    """Give the newest point of each machine, by UUID."""
    newest: dict[str, RecoveryPoint] = {}
    for point in sorted(points, key=lambda item: item.sequence):
        newest[point.machine.uuid] = point
    return newest


def _latest(repository: Repository, machine: str, at: datetime | None) -> RecoveryPoint:
    found = find_machine(repository, machine)
    points = repository.points(found.uuid)
    chosen = [point for point in points if at is None or point.taken_at <= at]
    # A restore that is repeated must not restore what the first was to do away with.
    chosen = [point for point in chosen if not point.is_safety] or chosen
    if not chosen:
        oldest = min(points, key=lambda item: item.sequence)
        raise NotFound(
            f"no point of {found.name} is that old",
            hint=f"the oldest is {oldest.id} of {oldest.taken_at:%Y-%m-%d %H:%M:%S} UTC",
        )
    newest = max(chosen, key=lambda item: item.sequence)
    _ensure_none_lost(repository, newest, points)
    return newest


def _ensure_none_lost(
    repository: Repository, chosen: RecoveryPoint, points: Sequence[RecoveryPoint]
) -> None:
    """Refuse to call a point the newest if one that cannot be read may stand behind it."""
    behind = [point.sequence for point in points if point.sequence > chosen.sequence]
    for lost in repository.lost(chosen.machine.uuid):
        if min([*behind, lost.newest + 1]) > chosen.sequence + 1:
            raise Damaged(
                f"point {lost.id} of {chosen.machine.name} cannot be read, and may be newer "
                f"than {chosen.id}: {lost.message}",
                hint=f"name the point that you want: {chosen.id} is of "
                f"{chosen.taken_at:%Y-%m-%d %H:%M:%S} UTC; "
                f"'sendense points delete {lost.id}' takes the other out",
                point=lost.id,
            )


def _by_id(points: Sequence[RecoveryPoint], reference: str) -> RecoveryPoint:
    exact = [point for point in points if point.id == reference]
    found = exact or [point for point in points if reference and point.id.startswith(reference)]
    if len(found) > 1:
        ids = ", ".join(point.id for point in found)
        raise Rejected(f"{reference!r} means {len(found)} points", hint=f"write more of it: {ids}")
    if not found:
        raise NotFound(
            f"no point {reference!r} in the repository",
            hint=f"'sendense points list' shows them; {LATEST}MACHINE means a machine's newest",
            point=reference,
        )
    return found[0]
