"""A store in memory with a clock of its own, that can be made to fail, lag and answer twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sendense.errors import NotFound
from sendense.model.stream import Buffer
from sendense.storage.store import ObjectInfo, ObjectLocks, Traits

Hook = Callable[[str, str], None]


class ClockedStore:
    """Objects in a dict; every write takes a millisecond of the store's own time."""

    locks: ObjectLocks | None = None

    def __init__(self) -> None:
        self.location = "clocked"
        self.traits = Traits("memory", conditional_create=True, parallel=4, object_lock=False)
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.calls: Counter[str] = Counter()
        self.before: Hook = lambda call, name: None
        """Called with each call and its name before it takes effect; may raise."""
        self.after: Hook = lambda call, name: None
        """Called when it has taken effect: what it raises is a lost answer."""
        self._lock = threading.RLock()

    def pass_time(self, **amount: float) -> None:
        self.now += timedelta(**amount)

    def names(self, prefix: str = "leases/") -> list[str]:
        return sorted(name for name in list(self.objects) if name.startswith(prefix))

    def write(self, name: str, data: bytes) -> None:
        """Write without a hook: what others do."""
        with self._lock:
            self.now += timedelta(milliseconds=1)
            self.objects[name] = (data, self.now)

    # --- the store

    def put(self, name: str, parts: Buffer | Sequence[Buffer], *, create: bool = False) -> None:
        assert isinstance(parts, bytes)
        self._before("put", name)
        self.write(name, parts)
        self.after("put", name)

    def get(self, name: str) -> bytes:
        self._before("get", name)
        return self._object(name)[0]

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        raise AssertionError("leases are read whole")

    def info(self, name: str) -> ObjectInfo:
        self._before("info", name)
        return self._info(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._before("list", prefix)
        with self._lock:
            yield from [self._info(name) for name in self.names(prefix)]

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._before("delete", name)
            with self._lock:
                self.objects.pop(name, None)
            self.after("delete", name)

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass

    def _before(self, call: str, name: str) -> None:
        with self._lock:
            self.calls[call] += 1
        self.before(call, name)

    def _object(self, name: str) -> tuple[bytes, datetime]:
        with self._lock:
            try:
                return self.objects[name]
            except KeyError:
                raise NotFound(f"there is no {name}") from None

    def _info(self, name: str) -> ObjectInfo:
        data, modified = self._object(name)
        return ObjectInfo(name, len(data), modified)
