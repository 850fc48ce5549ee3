"""The only way to the time.

Pure code takes a moment as a parameter, so that tests choose it; code at the
edges asks here.  The linter forbids ``time.time`` and ``datetime.now`` elsewhere.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone


def now() -> datetime:
    """Give the wall-clock time in UTC, with its zone."""
    return datetime.now(timezone.utc)


def monotonic() -> float:
    """Give seconds on a clock that never goes back; for durations only."""
    return time.monotonic()


def boottime() -> float:
    """Give seconds on a clock that goes on while the machine is suspended.

    Where there is none, it is :func:`monotonic`.
    """
    suspended_too = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if suspended_too is None else time.clock_gettime(suspended_too)


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def format_utc(moment: datetime) -> str:
    """Write a moment as ``2026-01-31T12:00:00.000000Z``: sorts as text, reads everywhere."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_utc(text: str) -> datetime:
    """Read what :func:`format_utc` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
