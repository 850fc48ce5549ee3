"""Trying again what may pass: a server that is busy, a connection that broke.

Only :class:`~sendense.errors.Unavailable` is tried again; a refusal stays one.  Between two
attempts lies a random time below a bound that doubles ("full jitter"), so that many workers
which failed together do not come back together.  Attempts and the whole time are bounded.

A failed request may have been carried out all the same, with its answer lost.  For all calls but
one that does not matter: an object written twice is the same object.  But ``put(create=True)``
then finds its own object in its way.  So after a failure an object that is there and holds
exactly these bytes counts as written.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from sendense import clock
from sendense.errors import AlreadyExists, NotFound, Unavailable
from sendense.storage.buffers import Parts, joined, total
from sendense.storage.store import ObjectInfo, ObjectLocks, Store
from sendense.storage.wrapper import Wrapper

_FIRST_S = 0.2
_LONGEST_S = 30.0
_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Patience:
    """How often and how long something is tried."""

    def __init__(
        self,
        attempts: int,
        patience_s: float,
        *,
        sleep: Callable[[float], None] = clock.sleep,
        monotonic: Callable[[], float] = clock.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Try ``attempts`` times, and not again once ``patience_s`` are over."""
        self._attempts = attempts
        self._patience_s = patience_s
        self._sleep = sleep
        self._monotonic = monotonic
        self._draw = draw

    def try_out(self, what: str, action: Callable[[int], _Result]) -> _Result:
        """Call ``action`` with the number of earlier failures until it succeeds, or give up."""
        begun = self._monotonic()
        failures = 0
        while True:
            try:
                return action(failures)
            except Unavailable as error:
                failures += 1
                wait = self._draw(0.0, min(_LONGEST_S, _FIRST_S * 2.0**failures))
                over = self._monotonic() + wait - begun > self._patience_s
                if failures >= self._attempts or over:
                    raise
                _LOG.debug("%s failed, trying again in %.1f s: %s", what, wait, error)
            self._sleep(wait)


class Retrying(Wrapper):
    """A store whose calls are tried again."""

    def __init__(self, inner: Store, patience: Patience) -> None:
        """Try the calls of ``inner`` with ``patience``."""
        super().__init__(inner)
        self._patience = patience
        if inner.locks is not None:
            self.locks = _RetryingLocks(inner.locks, patience)

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """Write; with ``create`` what an earlier attempt has left is success."""

        def attempt(failures: int) -> None:
            try:
                self.inner.put(name, parts, create=create)
            except AlreadyExists:
                if not (failures and self._holds(name, parts)):
                    raise

        self._patience.try_out(f"writing {name}", attempt)

    def _holds(self, name: str, parts: Parts) -> bool:
        """Tell whether an object has exactly this content."""
        size = total(parts)
        try:
            if self.inner.info(name).size != size:
                return False
            stored = bytearray(size)
            if size:
                self.inner.read_into(name, 0, memoryview(stored))
        except NotFound:
            return False
        return stored == joined(parts)

    def get(self, name: str) -> bytes:
        """Give an object whole."""
        return self._patience.try_out(f"reading {name}", lambda _: self.inner.get(name))

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range."""
        self._patience.try_out(
            f"reading {name}", lambda _: self.inner.read_into(name, offset, target)
        )

    def info(self, name: str) -> ObjectInfo:
        """Describe an object."""
        return self._patience.try_out(f"looking up {name}", lambda _: self.inner.info(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects.

        A listing is taken whole before the first of it is given: one that breaks off in
        the middle begins again, and half of one would look as if objects were gone.
        """
        yield from self._patience.try_out("listing", lambda _: list(self.inner.list(prefix)))

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects."""
        self._patience.try_out("removing objects", lambda _: self.inner.delete(names))


class _RetryingLocks:
    """Object locks whose calls are tried again."""

    def __init__(self, inner: ObjectLocks, patience: Patience) -> None:
        self._inner = inner
        self._patience = patience

    def extend(self, name: str, until: datetime) -> None:
        """Lock an object until ``until``, at least."""
        self._patience.try_out(f"locking {name}", lambda _: self._inner.extend(name, until))

    def until(self, name: str) -> datetime | None:
        """Tell until when an object is locked."""
        return self._patience.try_out(
            f"asking for the lock of {name}", lambda _: self._inner.until(name)
        )

    def undelete(self, prefix: str) -> int:
        """Bring back what was removed below a prefix and is still kept."""
        return self._patience.try_out(
            "bringing objects back", lambda _: self._inner.undelete(prefix)
        )

    def unreplace(self, prefix: str) -> int:
        """Put the first version of overwritten objects on top again."""
        return self._patience.try_out(
            "putting first versions on top", lambda _: self._inner.unreplace(prefix)
        )
