"""A limit on the bytes per second of a store, shared by all that use it.

A call waits before it begins, save where only the answer tells how much it was.  It is the
token bucket of ``sendense.transfer.throttle``, so one limit can hold for disks and stores together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from sendense.storage.buffers import Parts, total
from sendense.storage.store import Store
from sendense.storage.wrapper import Wrapper
from sendense.transfer.throttle import Throttle

GIVING_UP: ContextVar[Callable[[], None]] = ContextVar("GIVING_UP", default=lambda: None)
"""Asked while a call waits for its turn; raises where whoever calls has given up."""


class Throttled(Wrapper):
    """A store that is written and read no faster than allowed."""

    def __init__(self, inner: Store, *, upload: Throttle, download: Throttle) -> None:
        """Take tokens for content only; names and listings are small."""
        super().__init__(inner)
        self._upload = upload
        self._download = download

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """Write, once the bytes may pass."""
        self._upload.take(total(parts), check=GIVING_UP.get())
        self.inner.put(name, parts, create=create)

    def get(self, name: str) -> bytes:
        """Read, and wait for as long as it should have taken."""
        content = self.inner.get(name)
        self._download.take(len(content), check=GIVING_UP.get())
        return content

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read, once the bytes may pass."""
        self._download.take(target.nbytes, check=GIVING_UP.get())
        self.inner.read_into(name, offset, target)
