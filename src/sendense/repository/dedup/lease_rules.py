"""Who excludes whom, when a lease is dead, and who gives way: decisions without I/O.

The table in ``docs/format.md`` ("Every operation against every other") is :func:`conflicts`.

Two that arrive at the same time each find the other's lease, and neither can know whether the other
has it already or has only asked.  Would both take theirs back, both could do so for ever.  So
the one with the greater id gives way, and the other stays and looks again (:func:`course`).
Who has a lease for certain is not waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sendense.errors import Busy
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.lease_claim import LeaseKind, LeaseRecord, Wish
from sendense.repository.dedup.lease_holder import Fate

TOGETHER = timedelta(seconds=30)
"""Leases put within this time of each other, by the store's clock, may have come together."""

_BY_MACHINE = {
    frozenset({LeaseKind.WRITE}): "a machine has one writer at a time",
    frozenset({LeaseKind.WRITE, LeaseKind.DELETE}): "a backup and a deletion of the same machine "
    "exclude each other",
    frozenset({LeaseKind.DELETE}): "points of a machine are deleted by one at a time",
}
_BY_POINT = {
    frozenset({LeaseKind.READ, LeaseKind.DELETE}): "a point is not deleted while it is read",
}
_ALWAYS = {
    frozenset({LeaseKind.GC}): "garbage is collected by one at a time",
    frozenset({LeaseKind.GC, LeaseKind.CHECK}): "a check and the collection of garbage exclude "
    "each other",
    frozenset({LeaseKind.KEYS}): "keys are changed by one at a time",
    **{
        frozenset({LeaseKind.REPAIR, other}): "a repair goes on alone"
        for other in (
            LeaseKind.WRITE,
            LeaseKind.DELETE,
            LeaseKind.GC,
            LeaseKind.CHECK,
            LeaseKind.REPAIR,
        )
    },
}


def conflicts(one: Wish, other: Wish) -> str | None:
    """Give the reason why two cannot go on at once; none where they can."""
    kinds = frozenset({one.kind, other.kind})
    if kinds in _BY_MACHINE and one.machine == other.machine:
        return _BY_MACHINE[kinds]
    if kinds in _BY_POINT and one.points & other.points:
        return _BY_POINT[kinds]
    return _ALWAYS.get(kinds)


def obstacle(wish: Wish, record: LeaseRecord) -> str | None:
    """Give the reason why a living lease stands in the way of a wish.

    One that cannot be read may be of any kind, and stands in the way of all but readers: what it
    could do to them is to delete their point, and what that used is removed by a collection of
    garbage only, which waits for the reader.
    """
    if record.claim is not None:
        return conflicts(wish, record.claim.wish)
    return None if wish.kind is LeaseKind.READ else "what that lease is for is not known"


def death(record: LeaseRecord, fate: Fate, store_now: datetime) -> str | None:
    """Give the reason why a lease holds no longer; none while it does.

    Both moments are the store's: nobody's own clock counts.
    """
    if fate is Fate.GONE:
        return "its holder is gone"
    if store_now - record.modified > timedelta(seconds=fmt.LEASE_EXPIRY_S):
        return "it was not renewed"
    return None


class Course(Enum):
    """What to do with a lease that was put and is not yet held."""

    TAKE = "take"
    STAY = "stay"
    YIELD = "yield"
    REFUSED = "refused"


@dataclass(frozen=True)
class Rival:
    """A living lease that stands in the way."""

    record: LeaseRecord
    reason: str
    certain: bool = False
    """It is known to be held, by who looks: it is this process's own."""


def course(own: LeaseRecord, rivals: Sequence[Rival]) -> Course:
    """Decide what to do in view of those that stand in the way."""
    if not rivals:
        return Course.TAKE
    if any(_held(own, rival) for rival in rivals):
        return Course.REFUSED
    return Course.STAY if own.id < min(rival.record.id for rival in rivals) else Course.YIELD


def _held(own: LeaseRecord, rival: Rival) -> bool:
    """Tell whether a rival has its lease for certain."""
    apart = abs(own.modified - rival.record.modified)
    return rival.certain or _settled(rival) or apart > TOGETHER


def _settled(rival: Rival) -> bool:
    return rival.record.claim is None or rival.record.claim.settled


def busy(rivals: Sequence[Rival]) -> Busy:
    """Name one of those who stand in the way, and what to do."""
    rival = max(rivals, key=lambda rival: rival.certain or _settled(rival))
    return Busy(
        f"{rival.record.described()} is at work: {rival.reason}",
        hint="wait until it is done, then try again; one whose host is lost is given up "
        f"{fmt.LEASE_EXPIRY_S // 3600} hours after its last sign of life",
        lease=rival.record.id,
    )
