"""A store in a dictionary: copied at once, changed by hand, with a clock that a test turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sendense.errors import AlreadyExists, Damaged, NotFound
from sendense.model.stream import Buffer
from sendense.storage.buffers import joined
from sendense.storage.store import ObjectInfo, ObjectLocks, Traits


class DictStore:
    """Objects by name; every write takes a millisecond of the store's own time."""

    locks: ObjectLocks | None = None

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.location = "dict:test"
        self.traits = Traits("memory", conditional_create=True, parallel=4, object_lock=False)
        self.objects: dict[str, bytes] = dict(objects or {})
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)
        self.modified: dict[str, datetime] = dict.fromkeys(self.objects, self.now)
        self.reads = 0
        """Bytes that were read."""
        self._lock = threading.RLock()

    def pass_time(self, **amount: float) -> None:
        self.now += timedelta(**amount)

    def names(self, prefix: str) -> list[str]:
        with self._lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def copy(self) -> DictStore:
        made = DictStore(self.objects)
        made.now, made.modified = self.now, dict(self.modified)
        return made

    # --- the store

    def put(self, name: str, parts: Buffer | Sequence[Buffer], *, create: bool = False) -> None:
        content = bytes(joined(parts))
        with self._lock:
            if create and name in self.objects:
                raise AlreadyExists(f"{name} is there already")
            self.now += timedelta(milliseconds=1)
            self.objects[name], self.modified[name] = content, self.now

    def get(self, name: str) -> bytes:
        return self._object(name)

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        view = target.cast("B")
        piece = self._object(name)[offset : offset + view.nbytes]
        view[: len(piece)] = piece
        if len(piece) < view.nbytes:
            raise Damaged(f"{name} ends at {offset + len(piece)}", name=name)

    def info(self, name: str) -> ObjectInfo:
        with self._lock:
            return ObjectInfo(name, len(self._object(name)), self.modified[name])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            found = [self.info(name) for name in self.names(prefix)]
        yield from found

    def delete(self, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                self.objects.pop(name, None)
                self.modified.pop(name, None)

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass

    def _object(self, name: str) -> bytes:
        with self._lock:
            try:
                content = self.objects[name]
            except KeyError:
                raise NotFound(f"{name} is not there") from None
            self.reads += len(content)
            return content
