"""Who stands still: pulses of others, measured by one's own clock.

The clocks of two machines differ.  So nobody compares times: a living one changes a number, and
whoever watches counts for how long it saw the same.  Only time in which it really looked counts:
while the database was away nobody could show a pulse, and nobody is dead for that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from sendense import clock

_LONGEST_GAP_S = 3.0
"""Between two looks; what is longer was no looking."""


class Watch:
    """For how long each pulse has not changed."""

    def __init__(self, monotonic: Callable[[], float] = clock.monotonic) -> None:
        """Watch nobody yet."""
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._watched_s = 0.0
        self._seen: dict[Hashable, tuple[Hashable, float]] = {}

    def look(self, pulses: Collection[tuple[Hashable, Hashable]]) -> dict[Hashable, float]:
        """Take in all pulses there are; gives for how many seconds each has stood still."""
        now = self._monotonic()
        self._watched_s += min(now - self._looked_at, _LONGEST_GAP_S)
        self._looked_at = now
        still = {}
        seen = {}
        for who, pulse in pulses:
            before = self._seen.get(who)
            since = before[1] if before is not None and before[0] == pulse else self._watched_s
            seen[who] = (pulse, since)
            still[who] = self._watched_s - since
        self._seen = seen
        return still
