"""Which of several servers does what only one should do at a time.

The one whose turn it is shows a pulse in the catalogue.  The others watch it, each with a clock of
its own, and the first to see it stand still for long enough takes the turn.
"""

from __future__ import annotations

import secrets
import socket

from sendense import clock
from sendense.catalog.workers import Turns
from sendense.errors import Conflict
from sendense.jobs.watching import Watch

DEAD_AFTER_S = 15.0
"""A holder without a pulse for so long is replaced."""


class Turn:
    """A turn, as one server sees it; used by one thread."""

    def __init__(self, turns: Turns, name: str, *, dead_after_s: float = DEAD_AFTER_S) -> None:
        """Take nothing yet."""
        self._turns = turns
        self._name = name
        self._dead_after_s = dead_after_s
        self._watch = Watch()
        self._shown_at = float("-inf")
        self.holder = f"{socket.gethostname()[:40]}:{secrets.token_hex(8)}"
        """Who we are."""

    def is_mine(self) -> bool:
        """Tell whether it is ours, and show that we live; to be asked every second or so."""
        turn = self._turns.get(self._name)
        if turn is not None and turn.holder == self.holder:
            return self._shown()
        pulses = [] if turn is None else [(self._name, (turn.holder, turn.beat))]
        still = self._watch.look(pulses).get(self._name, 0.0)
        if turn is not None and still < self._dead_after_s:
            return False
        return self._turns.take(self._name, self.holder, turn)

    def give_up(self) -> None:
        """Let others have it at once, if it is ours."""
        self._turns.give_up(self._name, self.holder)

    def _shown(self) -> bool:
        now = clock.monotonic()
        if now - self._shown_at < self._dead_after_s / 4:
            return True
        try:
            with self._turns.act(self._name, self.holder):
                self._shown_at = now
        except Conflict:
            return False  # somebody took it at this moment
        return True
