"""The state of everything, counted once in a while however many ask for it.

How long a count takes decides.  Where it is quick, who asks has it as it is now, but for an
instant: whoever has just made a policy sees what it takes.  Where it is not, what is some seconds
old is given as it is, and what is older is given too, and counted anew beside; so nobody waits for
it but whoever asks first after a long pause.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.catalog.status import summarise
from sendense.errors import SendenseError
from sendense.model.protection import StatusSummary

_LOG = logging.getLogger(__name__)

_QUICK_S: Final = 0.5
"""A count that somebody may wait for."""
_TIMES: Final = 10
"""How many times as old as a count takes its outcome may be: counting stays a tenth of the time."""


class Summaries:
    """The newest summary of a catalogue."""

    def __init__(self, catalog: Catalog, *, fresh_s: float = 10.0, usable_s: float = 60.0) -> None:
        """Count anew what is older than ``fresh_s``, and wait for it beyond ``usable_s``."""
        self._catalog = catalog
        self._fresh_s = fresh_s
        self._usable_s = usable_s
        self._newest: StatusSummary | None = None
        self._moment = 0.0
        self._took_s = 0.0
        self._counting = threading.Lock()

    def get(self) -> StatusSummary:
        """Give a summary."""
        newest, age = self._newest, clock.monotonic() - self._moment
        if newest is not None and age < self._usable_s and not self._is_old(age):
            if age >= self._fresh_s and self._counting.acquire(blocking=False):
                threading.Thread(target=self._count_beside, daemon=True).start()
            return newest
        with self._counting:
            if self._newest is not None and self._newest is not newest:
                return self._newest  # somebody counted while we waited
            try:
                return self._count()
            except SendenseError:
                if newest is None or age >= self._usable_s:
                    raise
                return newest

    def _is_old(self, age: float) -> bool:
        """Tell whether it is better to count now than to give what is there."""
        return self._took_s <= _QUICK_S and age >= min(self._fresh_s, _TIMES * self._took_s)

    def _count_beside(self) -> None:
        try:
            self._count()
        except SendenseError as error:
            _LOG.warning("the status cannot be counted: %s", error)
        finally:
            self._counting.release()

    def _count(self) -> StatusSummary:
        moment = clock.monotonic()
        summary = summarise(self._catalog, clock.now())
        self._newest, self._moment = summary, moment
        self._took_s = clock.monotonic() - moment
        return summary
