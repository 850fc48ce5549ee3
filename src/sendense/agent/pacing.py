"""Limits on bytes per second, for the whole host and for one export, changeable while bytes flow.

A bucket is asked after the bytes have passed: it says how long whoever moved them has to wait
until the debt is paid.  So it never holds a lock while somebody sleeps, and the threads of a
host's gate share it.
"""

from __future__ import annotations

import threading
from typing import Callable

from sendense import clock

_BURST_S = 0.25
"""How much unused rate is kept for later: little, so that the limit holds over any second."""
_PIECE_S = 0.1
_PIECE_LEAST = 16 * 1024
_PIECE_MOST = 1 << 20


class Bucket:
    """A rate that several threads share."""

    def __init__(
        self, bytes_per_s: int = 0, *, monotonic: Callable[[], float] = clock.monotonic
    ) -> None:
        """Limit to ``bytes_per_s``; 0 is no limit."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rate = max(0, bytes_per_s)
        self._paid_at = monotonic()

    @property
    def bytes_per_s(self) -> int:
        """Give the rate; 0 is no limit."""
        return self._rate

    @property
    def piece(self) -> int:
        """Give how many bytes to move at a time, so that a slow rate does not flow in gushes."""
        if not self._rate:
            return _PIECE_MOST
        return int(min(_PIECE_MOST, max(_PIECE_LEAST, self._rate * _PIECE_S)))

    def set_rate(self, bytes_per_s: int) -> None:
        """Change the rate; what is owed is paid at the new one."""
        with self._lock:
            now = self._monotonic()
            owed = max(0.0, self._paid_at - now) * self._rate
            self._rate = max(0, bytes_per_s)
            self._paid_at = now + (owed / self._rate if self._rate else 0.0)

    def charge(self, count: int) -> float:
        """Count ``count`` bytes that passed; gives how many seconds to wait before the next."""
        with self._lock:
            if not self._rate:
                return 0.0
            now = self._monotonic()
            self._paid_at = max(self._paid_at, now - _BURST_S) + count / self._rate
            return max(0.0, self._paid_at - now)
