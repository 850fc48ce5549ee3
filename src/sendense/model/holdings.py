"""Repositories and the points in them, as the control plane lists them.

The truth about points is in the repositories; these entries are an index of it, made to answer
questions over all of them, and can be made again from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from sendense.model.decision import Mode
from sendense.model.hold import Hold, HoldKind
from sendense.model.point import Consistency, PointState, RecoveryPoint


@dataclass(frozen=True)
class RepositoryEntry:
    """A repository that the control plane uses; its secrets are asked for one by one."""

    id: str
    name: str
    url: str
    created_at: datetime
    has_passphrase: bool = False
    has_credentials: bool = False


@dataclass(frozen=True)
class PointEntry:
    """A recovery point, in one repository."""

    id: str
    repository_id: str
    machine_uuid: str
    machine_name: str
    """At the time of the point."""
    sequence: int
    taken_at: datetime
    mode: Mode
    consistency: Consistency
    state: PointState
    size: int
    """Virtual bytes of all disks."""
    read_bytes: int
    stored_bytes: int
    locked_until: Optional[datetime] = None
    pinned: bool = False
    job_id: Optional[str] = None
    """Where it is known which job made it."""
    safety: bool = False
    """Made of what a restore was about to overwrite, to undo that."""


def entry_of(
    point: RecoveryPoint,
    repository_id: str,
    holds: Iterable[Hold] = (),
    job_id: Optional[str] = None,
) -> PointEntry:
    """Describe a point of a repository, with what keeps it there."""
    mine = [hold for hold in holds if hold.point_id == point.id]
    return PointEntry(
        id=point.id,
        repository_id=repository_id,
        machine_uuid=point.machine.uuid,
        machine_name=point.machine.name,
        sequence=point.sequence,
        taken_at=point.taken_at,
        mode=point.mode,
        consistency=point.consistency,
        state=point.state,
        size=point.size,
        read_bytes=sum(image.read_bytes for image in point.disks),
        stored_bytes=point.stored_bytes,
        locked_until=next((hold.until for hold in mine if hold.kind is HoldKind.LOCK), None),
        pinned=any(hold.kind is HoldKind.PIN for hold in mine),
        job_id=job_id,
        safety=point.is_safety,
    )


@dataclass(frozen=True)
class Holding:
    """What a repository holds of all machines."""

    points: int
    machines: int
    stored_bytes: int
