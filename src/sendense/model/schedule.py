"""When a policy's runs are due, when they may begin, and what is made up after a standstill.

* A run is **due** at the moments of the policy's schedule (:mod:`sendense.model.cron`).
* It **begins** later by its jitter, which spreads the instances of a policy over a span and is the
  same for an instance every time; and not before a window opens, nor on a blackout date.
* After a standstill **one** run is made up, the newest; the older ones are reported as missed.
  Twelve backups of one instance in a row say no more than one.

Windows and dates are those of the policy's time zone, as its clocks show them.  A window over
midnight (``22:00-06:00``) is open on both sides of it.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Optional

from sendense.errors import Rejected
from sendense.model.cron import Cron, wall_moment
from sendense.model.periods import UTC, find_zone, local_time, written

_WINDOW = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})", re.ASCII)
_DAY = timedelta(days=1)

GRACE = timedelta(minutes=5)
"""A run that is seen so much after it was due is on time: the scheduler looks every few seconds,
and a server that restarts for an upgrade has not missed anything."""
LOOK_BACK = timedelta(days=31)
"""No run is looked for that was due before: the report would be long and say nothing more."""


@dataclass(frozen=True)
class Window:
    """The hours of each day in which jobs may begin."""

    opens: time
    closes: time

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``22:00-06:00``; 24:00 is midnight."""
        match = _WINDOW.fullmatch(text.strip())
        hour, minute, until, until_minute = map(int, match.groups()) if match else (99,) * 4
        if (until, until_minute) == (24, 0):
            until = 0
        if max(hour, until) > 23 or max(minute, until_minute) > 59:
            raise Rejected(f"{text!r} is no window", hint="write it as 22:00-06:00")
        window = cls(time(hour, minute), time(until, until_minute))
        if window.opens == window.closes:
            raise Rejected(
                f"the window {text!r} ends as it begins",
                hint="leave it out: then it is always open",
            )
        return window

    def open_at(self, local: time) -> bool:
        """Tell whether it is open at a time of the day."""
        if self.opens < self.closes:
            return self.opens <= local < self.closes
        return local >= self.opens or local < self.closes

    @property
    def words(self) -> str:
        """Write it as it is read."""
        return f"{self.opens:%H:%M}-{self.closes:%H:%M}"


@dataclass(frozen=True)
class Timetable:
    """A policy's times, read."""

    cron: Cron
    zone: tzinfo
    window: Optional[Window] = None
    blackouts: frozenset[date] = frozenset()
    jitter: timedelta = timedelta(0)

    @classmethod
    def read(
        cls,
        schedule: str,
        timezone_name: str = UTC,
        window: Optional[str] = None,
        blackout_dates: Iterable[str] = (),
        jitter: timedelta = timedelta(0),
    ) -> Timetable:
        """Read what a policy says; an error names what cannot be meant."""
        return cls(
            Cron.parse(schedule),
            find_zone(timezone_name),
            Window.parse(window) if window else None,
            frozenset(_date(each) for each in blackout_dates),
            jitter,
        )

    def due_after(self, moment: datetime) -> Iterator[datetime]:
        """Give the moments at which runs are due, in UTC."""
        return self.cron.moments(moment, self.zone)

    def forbids(self, moment: datetime) -> Optional[str]:
        """Say why nothing may begin at a moment; none if it may."""
        local = local_time(moment, self.zone)
        if local.date() in self.blackouts:
            return f"{local.date().isoformat()} is a blackout date"
        if self.window is not None and not self.window.open_at(local.time()):
            return f"outside of the window {self.window.words}"
        return None

    def allowed_from(self, moment: datetime) -> Optional[datetime]:
        """Give the first moment, from one on, at which something may begin."""
        if self.forbids(moment) is None:
            return moment
        first = local_time(moment, self.zone).date()
        # A day per blackout date, and one where the gap of a changed clock swallows the window.
        for number in range(len(self.blackouts) + 4):
            day = first + number * _DAY
            openings = sorted(each for each in self._openings(day) if each > moment)
            for opening in openings:
                if self.forbids(opening) is None:
                    return opening
        return None

    def _openings(self, day: date) -> Iterator[datetime]:
        """Give the moments of a date at which a blackout may end or the window open."""
        yield wall_moment(datetime.combine(day, time()), self.zone)
        if self.window is not None:
            wall = datetime.combine(day, self.window.opens)
            yield wall_moment(wall, self.zone)
            yield wall.replace(fold=1, tzinfo=self.zone).astimezone(timezone.utc)

    def begins(self, due: datetime, *key: str) -> Optional[datetime]:
        """Give when a run that is due begins at the earliest: after its jitter, when it may."""
        return self.allowed_from(due + spread(self.jitter, *key))


@dataclass(frozen=True)
class NextRun:
    """When the next run begins, and why then."""

    due: Optional[datetime]
    begins: Optional[datetime]
    reason: str


def next_run(times: Timetable, after: datetime, *key: str) -> NextRun:
    """Tell the next run; ``key`` names whose jitter counts, as policy and instance."""
    due = next(times.due_after(after), None)
    if due is None:
        return NextRun(None, None, "the schedule names no further moment")
    begins = times.begins(due, *key)
    reasons = [f"due {written(due, times.zone)} by {times.cron.text!r}"]
    delay = spread(times.jitter, *key)
    if delay:
        reasons.append(f"spread by {int(delay.total_seconds())} s")
    why = times.forbids(due + delay)
    if why is not None:
        until = "never open" if begins is None else f"begins {written(begins, times.zone)}"
        reasons.append(f"{why}: {until}")
    return NextRun(due, begins, "; ".join(reasons))


@dataclass(frozen=True)
class DueRun:
    """A run that has come due, and those before it that nobody made."""

    due: datetime
    late: bool
    """It is made up: nobody looked when it was due."""
    missed: tuple[datetime, ...]
    """Were due before it, and are not made up."""
    reason: str


def due_run(
    times: Timetable, seen: datetime, now: datetime, grace: timedelta = GRACE
) -> Optional[DueRun]:
    """Give the run that has come due after ``seen``, the newest one that was dealt with."""
    moments: list[datetime] = []
    for moment in times.due_after(max(seen, now - LOOK_BACK)):
        if moment > now:
            break
        moments.append(moment)
    if not moments:
        return None
    due, missed = moments[-1], tuple(moments[:-1])
    late = now - due > grace
    reason = f"due {written(due, times.zone)}"
    if late:
        reason = f"made up: it was {reason}, and nothing ran the schedule then"
    if missed:
        reason += f"; {len(missed)} before it missed"
    return DueRun(due, late, missed, reason)


def last_due(times: Timetable, now: datetime, count: int = 2) -> tuple[datetime, ...]:
    """Give the newest moments at which runs were due by now, newest first; at most so many."""
    for days in (2, 8, LOOK_BACK.days, 366):
        newest: deque[datetime] = deque(maxlen=count)
        for moment in times.due_after(now - days * _DAY):
            if moment > now:
                break
            newest.append(moment)
        if len(newest) == count:
            break
    return tuple(reversed(newest))


def spread(span: timedelta, *key: str) -> timedelta:
    """Give a part of a span, in whole seconds, that is the same for a key every time."""
    seconds = int(span.total_seconds())
    if seconds <= 0:
        return timedelta(0)
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8], "big") % seconds)


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a date has no zone
    except ValueError:
        raise Rejected(f"{text!r} is no date", hint="write it as 2026-12-24") from None
