"""Signing in with what a cloud knows: how often, how many at once, and for how long it counts.

Each attempt has a cloud asked, for seconds where it is slow.  So few are under way at once, and of
them a cloud has its share: one that answers nobody keeps nobody from the others.  Whoever fails
waits as those do whose tokens do not count, for whatever reason it failed: each attempt is work,
here and there, and a line in the audit log.

Keys are not guessed, passwords are.  So a user's password is tried a few times only, wherever the
attempts come from, and the right one is not let through before the others: who has to wait would
learn by it which one is right.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sendense.api.attempts import Attempts
from sendense.api.problems import TooMany
from sendense.model.secret import Secret

LASTS_S = 12 * 3600.0
GUESSES = 4
"""One less than what CloudStack disables a user after, where nobody set it otherwise.

That is no promise that none is: CloudStack's count has no window, and only a right password ends
it.  A few at a time, whoever knows a name has its user disabled all the same, here as on
CloudStack's own page.  So passwords are taken only where somebody turned them on.
"""
GUESSES_S = 300.0
_NOTHING = Secret(b"")


class Logins:
    """Attempts to sign in so; for many threads."""

    def __init__(
        self, *, allowed: int = 10, at_once: int = 4, in_all: int = 16, lasts_s: float = LASTS_S,
        guesses: int = GUESSES, passwords: bool = False,
    ) -> None:  # fmt: skip
        """Let so many fail in a minute, and so many be under way; 0 seconds: nobody may.

        ``at_once`` is for one cloud, ``in_all`` for all of them.  ``guesses``: so many passwords of
        one user may be wrong in five minutes.  ``passwords``: they are taken, not keys alone.
        """
        self.lasts_s = lasts_s
        self.passwords = passwords
        self._attempts = Attempts(allowed=allowed)
        self._guesses = Attempts(allowed=guesses, window_s=GUESSES_S)
        self._at_once = at_once
        self._in_all = in_all
        self._asked: Counter[str] = Counter()
        """How many are asking a cloud; of those that are asked now alone."""
        self._tried: set[str] = set()
        """Users whose password is being tried."""
        self._lock = threading.Lock()

    @contextmanager
    def attempt(self, origin: str, keys: Secret) -> Iterator[None]:
        """Hear one; how it ends counts for the address that it came from.

        ``keys`` were good a moment ago: then the address is heard, whoever else fails there.  With
        a password they are the user's name: the password itself is no reason to hear anybody.
        """
        wait_s = self._attempts.wait_s(origin, keys)
        if wait_s > 0:
            raise TooMany(
                "too many logins that do not count came from this address",
                hint="wait a minute",
                retry_after_s=int(wait_s) + 1,
            )
        with _counted(self._attempts, origin):
            yield
        self._attempts.succeeded(keys)

    @contextmanager
    def place(self, cloud_id: str) -> Iterator[None]:
        """Hold one of the places to ask a cloud; it has to be one that is known here."""
        with self._lock:
            if self._asked[cloud_id] >= self._at_once or self._asked.total() >= self._in_all:
                raise TooMany("too many are signing in at this moment", hint="try again")
            self._asked[cloud_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._asked[cloud_id] -= 1
                self._asked += Counter()  # forgets those that nobody asks

    @contextmanager
    def guess(self, subject: str) -> Iterator[None]:
        """Let a password of one user be tried; how it ends counts for that user.

        A right one is refused as a wrong one is while the user has to wait.  One whose answer was
        lost counts too: the cloud may have counted it.  One at a time: many at once would all be
        tried before the first of them counts.
        """
        # Never taken for an address, whatever a user is called.
        user = hashlib.sha256(subject.encode(errors="surrogatepass")).hexdigest()
        with self._lock:
            if user in self._tried:
                raise TooMany("this user is signing in at this moment", hint="try again")
            wait_s = self._guesses.wait_s(user, _NOTHING)
            if wait_s > 0:
                raise TooMany(
                    "too many passwords of this user did not count",
                    hint="wait five minutes, or sign in with API keys",
                    retry_after_s=int(wait_s) + 1,
                )
            self._tried.add(user)
        try:
            with _counted(self._guesses, user):
                yield
        finally:
            with self._lock:
                self._tried.discard(user)


@contextmanager
def _counted(attempts: Attempts, whose: str) -> Iterator[None]:
    """Count what fails, for whatever reason; who is told to wait was not heard."""
    try:
        yield
    except TooMany:
        raise
    except Exception:
        attempts.failed(whose)
        raise
