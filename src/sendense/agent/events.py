"""The last events of the host's machines, numbered, for whoever asks what happened since."""

from __future__ import annotations

import threading
import uuid
from collections import deque

from sendense import clock
from sendense.model.agent_status import Event, EventKind, Events

_KEPT = 10_000
_ANSWER_MOST = 1000
"""Events in one answer; the next request gets the next ones."""


class EventLog:
    """A ring of events; safe for several threads."""

    def __init__(self, *, kept: int = _KEPT) -> None:
        """Begin empty, under a new name."""
        self._boot = uuid.uuid4().hex
        self._events: deque[Event] = deque(maxlen=kept)
        self._last = 0
        self._news = threading.Condition()

    @property
    def last(self) -> int:
        """Give the number of the newest."""
        return self._last

    def add(self, kind: EventKind, machine: str, name: str) -> None:
        """Remember an event."""
        with self._news:
            self._last += 1
            self._events.append(Event(self._last, clock.now(), kind, machine, name))
            self._news.notify_all()

    def after(self, number: int, *, wait_s: float = 0.0) -> Events:
        """Give what happened after ``number``, waiting for something if there is nothing yet."""
        with self._news:
            if wait_s > 0:
                self._news.wait_for(lambda: self._last > number, wait_s)
            newer = tuple(item for item in self._events if item.number > number)[:_ANSWER_MOST]
            oldest = self._events[0].number if self._events else self._last + 1
            # Also where the number is of another start of the agent, and higher than ours.
            lost = number > self._last or number + 1 < oldest
            last = newer[-1].number if newer else self._last
            return Events(self._boot, last, newer, lost)
