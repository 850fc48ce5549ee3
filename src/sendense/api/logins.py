"""Signing in with the keys of a cloud: how often, how many at once, and for how long it counts.

Each attempt has a cloud asked, for seconds where it is slow.  So few are under way at once; whoever
fails waits as those do whose tokens do not count.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sendense.api.attempts import Attempts
from sendense.api.problems import TooMany
from sendense.errors import NotSignedIn
from sendense.model.secret import Secret

LASTS_S = 12 * 3600.0


class Logins:
    """Attempts to sign in so; for many threads."""

    def __init__(self, *, allowed: int = 10, at_once: int = 4, lasts_s: float = LASTS_S) -> None:
        """Let so many fail in a minute, and so many be under way; 0 seconds: nobody may."""
        self.lasts_s = lasts_s
        self._attempts = Attempts(allowed=allowed)
        self._places = threading.BoundedSemaphore(at_once)

    @contextmanager
    def attempt(self, origin: str, keys: Secret) -> Iterator[None]:
        """Hold a place for one; how it ends counts for the address that it came from."""
        wait_s = self._attempts.wait_s(origin, keys)
        if wait_s > 0:
            raise TooMany(
                "too many keys that do not count came from this address",
                hint="wait a minute",
                retry_after_s=int(wait_s) + 1,
            )
        if not self._places.acquire(blocking=False):
            raise TooMany("too many are signing in at this moment", hint="try again")
        try:
            yield
        except NotSignedIn:
            self._attempts.failed(origin)
            raise
        else:
            self._attempts.succeeded(keys)
        finally:
            self._places.release()
