"""Pins and locks: keeping single points of a repository, whatever the rules of retention say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter

from sendense import clock
from sendense.api.access import writes
from sendense.api.guard import GuardedRoute
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import IdInPath
from sendense.api.store_shapes import HeldPoint, HoldShape, LockAsked, PinAsked
from sendense.errors import Rejected
from sendense.model.access import Area
from sendense.model.hold import Hold, HoldKind
from sendense.repository.protocol import Repository
from sendense.workflows import holds

router = APIRouter(route_class=GuardedRoute, tags=["repositories and points"])

_PLACE = "/repositories/{repository_id}/points/{point_id}"


@router.post(f"{_PLACE}/pin")
@writes(Area.POINTS)
def pin_point(
    services: ServicesHere,
    repository_id: IdInPath,
    point_id: IdInPath,
    asked: PinAsked,
) -> HeldPoint:
    """Keep a point until it is unpinned. Pinned once more, it gets the new note."""
    return _held(
        services, repository_id, point_id,
        lambda there: holds.pin_point(there, point_id, note=asked.note, now=clock.now()),
    )  # fmt: skip


@router.post(f"{_PLACE}/unpin")
@writes(Area.POINTS)
def unpin_point(services: ServicesHere, repository_id: IdInPath, point_id: IdInPath) -> HeldPoint:
    """Take the pin off a point: the next prune judges it by the rules again."""
    return _held(
        services, repository_id, point_id,
        lambda there: holds.unpin_point(there, point_id, now=clock.now()),
    )  # fmt: skip


@router.post(f"{_PLACE}/lock")
@writes(Area.POINTS)
def lock_point(
    services: ServicesHere,
    repository_id: IdInPath,
    point_id: IdInPath,
    asked: LockAsked,
) -> HeldPoint:
    """Keep a point until a date. Nobody can take a lock off before, or shorten it."""
    until, note = _moment(asked.until), asked.note
    return _held(
        services, repository_id, point_id,
        lambda there: holds.lock_point(there, point_id, until=until, note=note, now=clock.now()),
    )  # fmt: skip


def _held(
    services: Services,
    repository_id: str,
    point_id: str,
    change: Callable[[Repository], tuple[Hold, ...]],
) -> HeldPoint:
    """Change what keeps a point where it is, then what the catalogue knows of it."""
    points = services.catalog.points
    points.get(point_id, repository_id)
    held = services.repositories.use(repository_id, change)
    locks = [hold.until for hold in held if hold.kind is HoldKind.LOCK]
    until = locks[0] if locks else None
    pinned = any(hold.kind is HoldKind.PIN for hold in held)
    points.hold(point_id, repository_id, pinned=pinned, locked_until=until)
    return HeldPoint(
        id=point_id,
        repository_id=repository_id,
        pinned=pinned,
        locked_until=until,
        holds=[HoldShape.model_validate(hold) for hold in held],
    )


def _moment(asked: datetime) -> datetime:
    try:
        return asked.astimezone(UTC)
    except OverflowError:
        raise Rejected("the date leads out of the calendar", hint="give a nearer one") from None
