"""Signals: the first one cancels the run cleanly, later ones only hear that it is under way.

A cancel is a :class:`KeyboardInterrupt` in the main thread, so that every
``with`` block on the way out takes back its part.  That takes seconds, and must
not be broken off by an impatient second Ctrl-C: a guest could stay frozen.
Whoever cannot wait has SIGKILL; then the next run, or ``sendense doctor
--repair``, takes back what was left.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from sendense import shield

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def write_now(text: str) -> None:
    """Write a line to standard error from wherever the program is.

    A signal comes in the middle of any other write, so the descriptor is used
    itself: buffers above it cannot be entered twice.
    """
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        # The terminal was closed: there is nobody to tell.
        return


class Interrupts:
    """Turns signals into one cancel, for the time of a ``with`` block."""

    def __init__(
        self,
        say: Callable[[str], None] = write_now,
        *,
        first: str = "stopping, and taking back what this run did",
        later: str = "still taking back what this run did; please wait",
    ) -> None:
        """``say`` tells the person what happens; it must not raise."""
        self._say = say
        self._first, self._later = first, later
        self._before: dict[signal.Signals, Any] = {}
        self.cancelled = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # Under nohup a hang-up is ignored; that stays so.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        shield.forget()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.cancelled:
            self._say(self._later)
            return
        self.cancelled = True
        if shield.active():
            shield.postpone()
            self._say(f"{signal.Signals(number).name}: stopping as soon as that is safe")
            return
        self._say(f"{signal.Signals(number).name}: {self._first}")
        raise KeyboardInterrupt
