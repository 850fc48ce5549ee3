"""Holds: what keeps a point from deletion, whatever the rules of retention say.

A **pin** keeps a point until somebody takes the pin off.  A **lock** keeps it until a
date, and nobody can take it off before, or move the date to an earlier one.  A point has
at most one of each.

Repositories store holds and answer for them; what may follow what is decided here, so
that all of them decide alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from enum import Enum
from typing import Optional

from sendense.errors import Held, NotFound, Rejected
from sendense.model.periods import written

MOST_LETTERS = 200
"""Of a note."""


class HoldKind(str, Enum):
    """How a point is kept."""

    PIN = "pin"
    """Until it is taken off."""
    LOCK = "lock"
    """Until its date."""


@dataclass(frozen=True)
class Hold:
    """One pin or lock of a point."""

    point_id: str
    kind: HoldKind
    until: Optional[datetime]
    """When a lock ends; a pin has none."""
    note: str
    made_at: datetime

    def __post_init__(self) -> None:
        """Refuse a lock without an end, a pin with one, and a note that tables cannot show."""
        if (self.kind is HoldKind.LOCK) != (self.until is not None):
            raise Rejected("a lock needs the date of its end, and a pin has none")
        if self.made_at.tzinfo is None or (self.until is not None and self.until.tzinfo is None):
            raise Rejected("the times of a pin or a lock need their zone")
        if len(self.note) > MOST_LETTERS or not self.note.isprintable():
            raise Rejected(f"a note is one line of at most {MOST_LETTERS} printable letters")

    def in_force(self, now: datetime) -> bool:
        """Tell whether it keeps its point at a moment."""
        return self.until is None or now < self.until

    def words(self, zone: tzinfo = timezone.utc) -> str:
        """Say what it is: ``pinned``, ``locked until 2027-01-31``."""
        if self.until is None:
            return "pinned"
        return f"locked until {written(self.until, zone)}"

    def reason(self, zone: tzinfo = timezone.utc) -> str:
        """Say what it is, and what its maker noted."""
        return f"{self.words(zone)}: {self.note}" if self.note else self.words(zone)


def holds_in_force(holds: Iterable[Hold], now: datetime) -> dict[str, tuple[Hold, ...]]:
    """Give the holds that keep points at a moment, by point; pins before locks."""
    found: dict[str, tuple[Hold, ...]] = {}
    for hold in sorted(holds, key=lambda item: item.kind is HoldKind.LOCK):
        if hold.in_force(now):
            found[hold.point_id] = (*found.get(hold.point_id, ()), hold)
    return found


def refuse_held(holds: Iterable[Hold], point_ids: Iterable[str], now: datetime) -> None:
    """Raise :class:`~sendense.errors.Held` if one of these points may not be deleted."""
    found = holds_in_force(holds, now)
    for point_id in point_ids:
        if point_id in found:
            hold = found[point_id][-1]  # a lock before a pin: it cannot be taken off
            raise Held(
                f"point {point_id} is {hold.reason()}",
                hint="it can be deleted after that date"
                if hold.until is not None
                else f"'sendense points unpin {point_id}' takes the pin off",
                point=point_id,
                hold=hold.kind.value,
            )


def with_hold(held: Sequence[Hold], hold: Hold, now: datetime) -> tuple[Hold, ...]:
    """Give the holds of a point after one more; a lock in force is never shortened."""
    before = _of_kind(held, hold.kind)
    if before is not None and before.in_force(now) and _ends_before(hold, before):
        raise Held(
            f"point {hold.point_id} is {before.reason()}, and a lock is never shortened",
            hint="give a later date, or leave it as it is",
            point=hold.point_id,
            hold=hold.kind.value,
        )
    return (*(item for item in held if item.kind is not hold.kind), hold)


def without_hold(
    held: Sequence[Hold], point_id: str, kind: HoldKind, now: datetime
) -> tuple[Hold, ...]:
    """Give the holds of a point after one was taken off; a lock in force stays."""
    before = _of_kind(held, kind)
    if before is None:
        state = "pinned" if kind is HoldKind.PIN else "locked"
        raise NotFound(
            f"point {point_id} is not {state}",
            hint="'sendense points list' shows which are",
            point=point_id,
        )
    if before.until is not None and before.in_force(now):
        raise Held(
            f"point {point_id} is {before.reason()}, and a lock is never taken off before",
            hint="it ends by itself",
            point=point_id,
            hold=kind.value,
        )
    return tuple(item for item in held if item.kind is not kind)


def _of_kind(held: Sequence[Hold], kind: HoldKind) -> Optional[Hold]:
    return next((hold for hold in held if hold.kind is kind), None)


def _ends_before(hold: Hold, other: Hold) -> bool:
    return hold.until is not None and other.until is not None and hold.until < other.until
