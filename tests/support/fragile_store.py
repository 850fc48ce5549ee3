"""A store in memory that fails when told to: before or after what the call does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sendense import clock
from sendense.errors import AlreadyExists, NotFound, Unavailable
from sendense.model.stream import Buffer
from sendense.storage.store import ObjectInfo, ObjectLocks, Traits


class FragileStore:
    """Objects in a dictionary.

    ``fail_at`` is the number of the call that fails (from 0); ``done`` says whether that call
    still has its effect, as when only the answer is lost.
    """

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.location = "memory:test"
        self.traits = Traits("memory", conditional_create=True, parallel=1, object_lock=False)
        self.locks: ObjectLocks | None = None
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.done = False

    def put(self, name: str, parts: Buffer | Sequence[Buffer], *, create: bool = False) -> None:
        self._call(f"put {name}", after=False)
        if create and name in self.objects:
            raise AlreadyExists(f"{name} is there already")
        whole = parts if isinstance(parts, bytes | bytearray | memoryview) else b"".join(parts)
        self.objects[name] = bytes(whole)
        self._call(f"put {name}", after=True)

    def get(self, name: str) -> bytes:
        self._call(f"get {name}", after=False)
        return self._object(name)

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        raise NotImplementedError

    def info(self, name: str) -> ObjectInfo:
        self._call(f"info {name}", after=False)
        return ObjectInfo(name, len(self._object(name)), clock.now())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._call(f"list {prefix}", after=False)
        for name in sorted(self.objects):
            if name.startswith(prefix):
                yield ObjectInfo(name, len(self.objects[name]), clock.now())

    def delete(self, names: Sequence[str]) -> None:
        self._call("delete", after=False)
        for name in names:
            self.objects.pop(name, None)
        self._call("delete", after=True)

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass

    def _object(self, name: str) -> bytes:
        try:
            return self.objects[name]
        except KeyError:
            raise NotFound(f"there is no {name}") from None

    def _call(self, what: str, *, after: bool) -> None:
        if not after:
            self.calls.append(what)
        failing = self.fail_at is not None and len(self.calls) - 1 == self.fail_at
        if failing and after == self.done:
            raise Unavailable(f"the store failed at {what}")
