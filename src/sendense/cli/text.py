"""How single values look in tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo

from sendense.model.hold import Hold
from sendense.model.point import Consistency, PointState, RecoveryPoint
from sendense.units import format_seconds, format_size

NONE = "-"


def when(moment: datetime) -> str:
    """Write a moment for people; always in UTC, and saying so."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def bytes_or_none(size: int | None) -> str:
    """Write a size, or that it is not known."""
    return NONE if size is None else format_size(size)


def yes(value: bool) -> str:
    """Write a truth."""
    return "yes" if value else "no"


def frozen(seconds: float | None) -> str:
    """Write how long the guest's file systems were frozen."""
    return NONE if seconds is None else format_seconds(seconds)


def saved_percent(stored: int, size: int) -> float | None:
    """Give what storing ``stored`` instead of ``size`` saves; none for an empty disk."""
    return None if size <= 0 else round(100 * (1 - stored / size), 1)


def percent(share: float | None) -> str:
    """Write a percentage."""
    return NONE if share is None else f"{share:.1f}%"


def state(point: RecoveryPoint) -> str:
    """Write a point's state so that damage is seen."""
    return "DAMAGED" if point.state is PointState.DAMAGED else point.state.value


def held(holds: Iterable[Hold], zone: tzinfo) -> str:
    """Write what keeps a point, whatever the rules; nothing where that is nothing."""
    return ", ".join(hold.words(zone) for hold in holds)


def consistency(value: Consistency) -> str:
    """Write a consistency."""
    return value.value


def rate(size: int, seconds: float) -> str:
    """Write bytes per second."""
    return NONE if seconds <= 0 else f"{format_size(size / seconds)}/s"


def counted(number: int, word: str) -> str:
    """Write how many there are of something: ``1 point``, ``2 points``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
