"""A whole store in memory, with a clock of its own and a hook before and after each call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sendense.errors import AlreadyExists, Damaged, NotFound
from sendense.storage.buffers import Parts, joined
from sendense.storage.store import ObjectInfo, ObjectLocks, Traits

Hook = Callable[[str, str], None]


def nothing(verb: str, name: str) -> None:
    """Let a call pass."""


class TimedStore:
    """Objects in a dict.  Its clock moves by :meth:`pass_time`, and a millisecond a write."""

    def __init__(self) -> None:
        """Begin with nothing in it."""
        self.location = "timed"
        self.traits = Traits("memory", conditional_create=True, parallel=2, object_lock=False)
        self.locks: ObjectLocks | None = None
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.before: Hook = nothing
        """Called with the verb and the name before a call has any effect; may raise."""
        self.after: Hook = nothing
        """Called when it has had its effect: what it raises is a lost answer."""
        self._lock = threading.RLock()

    def pass_time(self, **amount: float) -> None:
        """Let the store's clock go on."""
        self.now += timedelta(**amount)

    def names(self, prefix: str = "") -> list[str]:
        """Name the objects below a prefix."""
        with self._lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """Write an object."""
        self.before("put", name)
        with self._lock:
            if create and name in self.objects:
                raise AlreadyExists(f"{name} is there already")
            self.now += timedelta(milliseconds=1)
            self.objects[name] = bytes(joined(parts)), self.now
        self.after("put", name)

    def get(self, name: str) -> bytes:
        """Give an object."""
        self.before("get", name)
        return self._object(name)[0]

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range."""
        self.before("read_into", name)
        data = self._object(name)[0][offset : offset + len(target)]
        target[: len(data)] = data
        if len(data) < len(target):
            raise Damaged(f"{name} ends too early")

    def info(self, name: str) -> ObjectInfo:
        """Describe an object."""
        self.before("info", name)
        return self._info(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects, as they are when it begins."""
        self.before("list", prefix)
        with self._lock:
            found = [self._info(name) for name in self.names(prefix)]
        yield from found

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects one by one: a hook comes between any two."""
        for name in names:
            self.before("delete", name)
            with self._lock:
                self.objects.pop(name, None)
            self.after("delete", name)

    def free_bytes(self) -> int | None:
        """Have no bounds."""
        return None

    def close(self) -> None:
        """Do nothing."""

    def _object(self, name: str) -> tuple[bytes, datetime]:
        with self._lock:
            try:
                return self.objects[name]
            except KeyError:
                raise NotFound(f"there is no {name}") from None

    def _info(self, name: str) -> ObjectInfo:
        data, modified = self._object(name)
        return ObjectInfo(name, len(data), modified)
