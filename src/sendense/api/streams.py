"""Places for streams of events: so many in all, and of these so many for each user.

A stream costs a connection and two looks a second for as long as its reader likes.  Without a
bound for each user one of them could take all places, with a single job that waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sendense.api.problems import TooMany


class Streams:
    """The streams that are open; only for the thread of the event loop."""

    def __init__(self, most: int = 200, most_each: int = 20) -> None:
        """Let so many be open at once in all, and so many of one user."""
        self.most = most
        self.most_each = most_each
        self._of: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Tell how many there are."""
        return self._of.total()

    @contextmanager
    def place(self, user: str) -> Iterator[None]:
        """Hold a place for a user; :class:`TooMany` where none is left."""
        if self.open >= self.most:
            raise TooMany("too many streams of events are open", hint="ask for the job instead")
        if self._of[user] >= self.most_each:
            raise TooMany(
                f"too many streams of events of one user are open (at most {self.most_each})",
                hint="close one of them, or ask for the job instead",
            )
        self._of[user] += 1
        try:
            yield
        finally:
            self._of[user] -= 1
            # What is zero goes: a name is not kept for ever because it watched once.
            self._of += Counter()
