"""Signals as something to wait for, and not as something that happens in the middle of anything.

A Python signal handler runs between two instructions of the main thread, whatever locks that
holds just then: setting a ``threading.Event`` in it can wait for ever for the lock of the very
``wait`` that it interrupted (seen: an agent that did not end on SIGTERM).  So the handlers do
nothing, and the interpreter writes the number into a pipe, which the main thread reads.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from typing import Any


class Signals:
    """Catches some signals from now on; made and waited for by the main thread."""

    def __init__(self, numbers: Iterable[int]) -> None:
        """Catch ``numbers``."""
        self._read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _nothing)

    def wait(self, within_s: float) -> frozenset[int]:
        """Give the signals that came, or none after a while."""
        waiting = select.poll()
        waiting.register(self._read, select.POLLIN)
        return frozenset(os.read(self._read, 512)) if waiting.poll(within_s * 1000) else frozenset()


def _nothing(_number: int, _frame: Any) -> None:
    """Be there, so that the default does not end the process."""
