"""The thread that renews leases: one for many, there only while it has something to do."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from logging import getLogger
from math import inf

from sendense import clock

_LOG = getLogger(__name__)


class Rounds:
    """Calls a function again and again from a daemon thread.

    The function gives the seconds until it wants to be called again, or None when there is
    nothing to do; then the thread ends, and :meth:`within` begins another.
    """

    def __init__(self, work: Callable[[], float | None], *, after_bug_s: float) -> None:
        """Call ``work``; an error in it is a bug, is logged, and ends nothing."""
        self._work = work
        self._after_bug_s = after_bug_s
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._due = inf

    def within(self, seconds: float) -> None:
        """See to it that the next round is not later than this."""
        with self._changed:
            self._due = min(self._due, clock.monotonic() + seconds)
            if self._thread is None or not self._thread.is_alive():  # not alive after a fork
                # Without the context of whoever comes first: it serves many runs.
                context = contextvars.Context()
                self._thread = threading.Thread(
                    target=context.run, args=(self._run,), name="sendense-leases", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def end(self) -> None:
        """Let the thread, if there is one, find out at once that there is nothing to do."""
        with self._changed:
            self._due = clock.monotonic() if self._thread is not None else inf
            self._changed.notify_all()

    def _run(self) -> None:
        again: float | None = inf
        while self._wait(again):
            try:
                again = self._work()
            except Exception:  # noqa: BLE001 - it serves all leases, and goes on
                _LOG.exception("a round of renewals broke off")
                again = self._after_bug_s

    def _wait(self, again: float | None) -> bool:
        """Wait for the next round; False where there is none."""
        with self._changed:
            if again is not None:
                self._due = min(self._due, clock.monotonic() + again)
            elif self._due == inf:
                self._thread = None
                return False
            while (left := self._due - clock.monotonic()) > 0:
                self._changed.wait(left)
            self._due = inf
            return True
