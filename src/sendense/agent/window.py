"""The backup window: the hours of the host's day in which captures begin.

A window that ends before it begins goes over midnight: ``22:00-06:00``.  Times are the host's
local ones, because an administrator thinks of the quiet hours of this host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from sendense.errors import Rejected

_WINDOW = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Window:
    """From ``begins`` on, until right before ``ends``."""

    begins: time
    ends: time

    def __str__(self) -> str:
        """Write it as it is set."""
        return f"{self.begins:%H:%M}-{self.ends:%H:%M}"

    def is_open(self, local: datetime) -> bool:
        """Tell whether a moment of the host's local time lies inside."""
        moment = local.time().replace(tzinfo=None)
        if self.begins < self.ends:
            return self.begins <= moment < self.ends
        return moment >= self.begins or moment < self.ends

    def opens_at(self, local: datetime) -> datetime:
        """Give when it opens next, or the moment itself where it is open."""
        if self.is_open(local):
            return local
        today = local.replace(
            hour=self.begins.hour, minute=self.begins.minute, second=0, microsecond=0
        )
        return today if today > local else today + timedelta(days=1)


def parse_window(text: str) -> Window:
    """Read ``22:00-06:00``."""
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise Rejected(f"{text!r} is no window", hint="write it as 22:00-06:00, in local time")
    first, second, third, fourth = (int(part) for part in match.groups())
    window = Window(time(first, second), time(third, fourth))
    if window.begins == window.ends:
        raise Rejected(
            f"the window {text!r} ends when it begins",
            hint="leave backup_window out for the whole day",
        )
    return window
