"""A limit on bytes per second, shared by all disks of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sendense import clock

_BURST_S = 0.25
"""How much unused rate is kept for later: little, so that the limit holds over any second."""
_SLICE_S = 0.5
"""The longest sleep at a time, so that a run that is given up does not sleep on."""


class Throttle:
    """A token bucket: each byte takes a token, which come at ``bytes_per_s``.

    Tokens may be owed: a caller takes what it needs and waits until the debt is
    paid, so requests of any size pass and the average holds.
    """

    def __init__(
        self,
        bytes_per_s: int | None,
        *,
        monotonic: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], None] = clock.sleep,
    ) -> None:
        """Limit to ``bytes_per_s``; none or 0 is no limit."""
        self._rate = bytes_per_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = (bytes_per_s or 0) * _BURST_S
        self._filled_at = monotonic()

    def take(self, count: int, *, check: Callable[[], None] = lambda: None) -> None:
        """Wait until ``count`` bytes may pass; ``check`` is asked before each sleep, may raise."""
        if not self._rate:
            return
        wait_s = self._book(count, self._rate)
        while wait_s > 0:
            check()
            self._sleep(min(wait_s, _SLICE_S))
            wait_s -= _SLICE_S

    def _book(self, count: int, rate: int) -> float:
        """Take the tokens and give the seconds until they are there."""
        with self._lock:
            now = self._monotonic()
            earned = (now - self._filled_at) * rate
            self._tokens = min(self._tokens + earned, rate * _BURST_S) - count
            self._filled_at = now
            return max(0.0, -self._tokens / rate)


UNLIMITED = Throttle(None)
