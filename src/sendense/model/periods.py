"""Hours, days, weeks, months and years of a time zone, as retention counts them.

A period is known by its name: two moments are in the same one if it is the same text.

* An **hour** carries its distance from UTC (``2026-10-25T02+01:00``), so that the hour
  that an autumn night has twice is two hours, and a day has 23, 24 or 25 of them.
* A **day** is a date of the zone; a date that the zone left out never occurs.
* A **week** is ISO 8601's: it begins on Monday, and the first days of January may belong
  to the last week of the year before (``2026-W53``).
* A **month** and a **year** are the calendar's.

Zones are those of the IANA database as the system has it.  UTC needs no database.
"""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from enum import Enum
from zoneinfo import ZoneInfo

from sendense.errors import Rejected

UTC = "UTC"


class PeriodKind(str, Enum):
    """How long a period is, by the word that reasons and options use."""

    HOUR = "hourly"
    DAY = "daily"
    WEEK = "weekly"
    MONTH = "monthly"
    YEAR = "yearly"


def find_zone(name: str) -> tzinfo:
    """Give a time zone by its IANA name; an error where this system does not know it."""
    if name == UTC:
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise Rejected(
            f"this system knows no time zone {name!r}",
            hint="write its IANA name, for example Europe/Berlin; the package tzdata brings them",
        ) from error


def local_time(moment: datetime, zone: tzinfo) -> datetime:
    """Give a moment as the clocks of a zone show it."""
    try:
        return moment.astimezone(zone)
    except OverflowError:  # the first or last hours of the calendar: no zone can move them
        return moment.astimezone(timezone.utc)


def period_name(kind: PeriodKind, local: datetime) -> str:
    """Name the period that a moment, as :func:`local_time` gives it, is in."""
    if kind is PeriodKind.HOUR:
        return local.isoformat(timespec="hours")
    if kind is PeriodKind.DAY:
        return local.date().isoformat()
    if kind is PeriodKind.WEEK:
        year, week, _ = local.isocalendar()
        return f"{year:04d}-W{week:02d}"
    if kind is PeriodKind.MONTH:
        return f"{local.year:04d}-{local.month:02d}"
    return f"{local.year:04d}"


def written(moment: datetime, zone: tzinfo) -> str:
    """Write a moment in a zone for people: a date where that is all, else with its time."""
    local = local_time(moment, zone)
    if (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0):
        return local.date().isoformat()
    return f"{local.replace(tzinfo=None).isoformat(' ', 'seconds')} {local.tzname()}"
