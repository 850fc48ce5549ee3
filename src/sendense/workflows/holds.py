"""Pins and locks: keeping single points, whatever the rules of retention say.

Each call returns what keeps the point afterwards.  What may follow what is decided in
:mod:`sendense.model.hold`; the repository holds to it, so that two at a time cannot
shorten a lock between them.
"""

from __future__ import annotations

import logging
from datetime import datetime

from sendense.errors import Rejected
from sendense.model.hold import Hold, HoldKind, holds_in_force
from sendense.repository.protocol import Repository
from sendense.workflows.points import find_point

log = logging.getLogger(__name__)


def find_point_id(repository: Repository, reference: str) -> str:
    """Give the id of the point that a reference names; a lost one is named by its whole id."""
    lost = {item.id for item in repository.lost()}
    return reference if reference in lost else find_point(repository, reference).id


def pin_point(
    repository: Repository, point_id: str, *, note: str, now: datetime
) -> tuple[Hold, ...]:
    """Keep a point until its pin is taken off; a pin that is there gets the new note."""
    repository.hold(Hold(point_id, HoldKind.PIN, None, note, now))
    log.info("point %s pinned", point_id)
    return holds_of(repository, point_id, now)


def unpin_point(repository: Repository, point_id: str, *, now: datetime) -> tuple[Hold, ...]:
    """Take the pin off a point."""
    repository.release_hold(point_id, HoldKind.PIN)
    log.info("point %s unpinned", point_id)
    return holds_of(repository, point_id, now)


def lock_point(
    repository: Repository, point_id: str, *, until: datetime, note: str, now: datetime
) -> tuple[Hold, ...]:
    """Keep a point until a date, which can be moved to a later one only."""
    if until <= now:
        raise Rejected(
            f"a lock until {until:%Y-%m-%d %H:%M} UTC would be over already",
            hint="give a date to come",
        )
    repository.hold(Hold(point_id, HoldKind.LOCK, until, note, now))
    log.info("point %s locked until %s", point_id, until)
    return holds_of(repository, point_id, now)


def holds_of(repository: Repository, point_id: str, now: datetime) -> tuple[Hold, ...]:
    """Give what keeps a point at a moment."""
    return holds_in_force(repository.holds(), now).get(point_id, ())
