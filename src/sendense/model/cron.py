"""Cron's five fields, and the moments that they name on the clocks of a time zone.

``minute hour day-of-month month day-of-week``, with lists, ranges, steps and English names, or
``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.  As in cron, a day fits if the day
of the month *or* the day of the week does, where both are given.

When clocks are changed, two kinds of schedules want different things:

* One that names its hours (``30 2 * * *``) means "once on that day".  A time that the night leaves
  out becomes the first moment after the gap, and one that comes twice counts the first time.
* One for every hour (``30 * * * *``) means "each 60 minutes".  It follows real time: the hour that
  comes twice counts twice, and one that is left out never was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Optional

from sendense.errors import Rejected

_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d+))?", re.ASCII)
_LONGEST_GAP_DAYS = 8 * 366
"""Between two 29ths of February, where a century leaves one out."""


@dataclass(frozen=True)
class _Field:
    """What one of the five fields may hold."""

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()

    def parse(self, text: str) -> frozenset[int]:
        """Give the numbers that a field names."""
        return frozenset(number for part in text.split(",") for number in self._part(part))

    def _part(self, text: str) -> range:
        match = _PART.fullmatch(text)
        if match is None:
            raise self._refused(text)
        star, first, last, step = match.groups()
        low = self.lowest if star else self._number(first)
        to_the_end = star or (step and not last)  # ``3/10`` is from 3 on
        high = self.highest if to_the_end else self._number(last or first)
        if low > high or (step is not None and int(step) == 0):
            raise self._refused(text)
        return range(low, high + 1, int(step or 1))

    def _number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.lowest + self.names.index(text.lower())
        if not text.isdecimal() or not self.lowest <= int(text) <= self.highest:
            raise self._refused(text)
        return int(text)

    def _refused(self, text: str) -> Rejected:
        return Rejected(
            f"{text!r} is no {self.name} of a schedule",
            hint=f"write numbers from {self.lowest} to {self.highest}, as 1,3 or 2-5 or */2",
        )


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),  # 7 is Sunday too
)


@dataclass(frozen=True)
class Cron:
    """A schedule's five fields, read."""

    text: str
    minutes: frozenset[int] = field(repr=False)
    hours: frozenset[int] = field(repr=False)
    days: frozenset[int] = field(repr=False)
    months: frozenset[int] = field(repr=False)
    weekdays: frozenset[int] = field(repr=False)
    """0 is Sunday."""
    every_hour: bool = field(repr=False)
    either_day: bool = field(repr=False)
    """Whether one of day of the month and day of the week is enough."""

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read the fields; an error says which of them cannot be meant."""
        fields = _MACROS.get(text.strip().lower(), text).split()
        if len(fields) != len(_FIELDS):
            raise Rejected(
                f"{text!r} is no schedule",
                hint="write cron's five fields, for example '30 1 * * mon-fri', or @daily",
            )
        minutes, hours, days, months, weekdays = (
            kind.parse(each) for kind, each in zip(_FIELDS, fields)
        )
        cron = cls(
            text,
            minutes,
            hours,
            days,
            months,
            frozenset(day % 7 for day in weekdays),
            every_hour=fields[1] == "*",
            either_day="*" not in (fields[2][0], fields[4][0]),
        )
        cron._refuse_never()
        return cron

    def _refuse_never(self) -> None:
        """Refuse the 30th of February and its like."""
        if self.either_day or self.days & set(range(1, 29)):
            return
        longest = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
        if all(min(self.days) > longest.get(month, 31) for month in self.months):
            raise Rejected(f"the schedule {self.text!r} names no day that exists")

    def fits_day(self, day: date) -> bool:
        """Tell whether the schedule names a date."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month or by_week) if self.either_day else (by_month and by_week)

    def moments(self, after: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Give all moments after one, in their order, in UTC; it ends with the calendar."""
        day = _first_date(after, zone)
        held: set[datetime] = set()
        idle = 0
        while idle <= _LONGEST_GAP_DAYS and day < date.max - timedelta(days=2):
            if self.fits_day(day):
                idle = 0
                held.update(moment for moment in self._of_day(day, zone) if moment > after)
            # A clock that goes back at midnight mixes the times of two dates.
            following = _utc(datetime.combine(day + timedelta(days=1), time()), zone)
            ready = sorted(moment for moment in held if moment < following)
            held.difference_update(ready)
            yield from ready
            day, idle = day + timedelta(days=1), idle + 1

    def _of_day(self, day: date, zone: tzinfo) -> Iterator[datetime]:
        for hour in self.hours:
            for minute in self.minutes:
                yield from self._of_time(datetime.combine(day, time(hour, minute)), zone)

    def _of_time(self, wall: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Give the moments, at most two, at which the clocks of the zone show a time."""
        first, second = _utc(wall, zone), _utc(wall.replace(fold=1), zone)
        if first == second:
            yield first
        elif first > second:  # never shown: the clocks go forward past it
            if not self.every_hour:
                yield _end_of_gap(second, first, zone)
        else:
            yield first
            if self.every_hour:
                yield second


def wall_moment(wall: datetime, zone: tzinfo) -> datetime:
    """Give the first moment, in UTC, at which the clocks of a zone show a time or are past it."""
    first, second = _utc(wall, zone), _utc(wall.replace(fold=1), zone)
    return _end_of_gap(second, first, zone) if first > second else first


def _utc(wall: datetime, zone: tzinfo) -> datetime:
    return wall.replace(tzinfo=zone).astimezone(timezone.utc)


def _first_date(moment: datetime, zone: tzinfo) -> date:
    # The date before: clocks may go back over midnight.
    return moment.astimezone(zone).date() - timedelta(days=1)


def _end_of_gap(before: datetime, behind: datetime, zone: tzinfo) -> datetime:
    """Find the moment between two at which the clocks of a zone went forward."""
    offset = _offset(behind, zone)
    while (seconds := int((behind - before).total_seconds())) > 1:
        middle = before + timedelta(seconds=seconds // 2)
        if _offset(middle, zone) == offset:
            behind = middle
        else:
            before = middle
    return behind


def _offset(moment: datetime, zone: tzinfo) -> Optional[timedelta]:
    return moment.astimezone(zone).utcoffset()
