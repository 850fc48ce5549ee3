"""A store around a store: passes everything on, and is what the other wrappers begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sendense.storage.buffers import Parts
from sendense.storage.store import ObjectInfo, ObjectLocks, Store, Traits


class Wrapper:
    """Passes every call to ``inner``."""

    def __init__(self, inner: Store) -> None:
        """Stand in front of ``inner``."""
        self.inner = inner
        self.location = inner.location
        self.traits: Traits = inner.traits
        self.locks: ObjectLocks | None = inner.locks

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """See :class:`~sendense.storage.store.Store`, as for all that follows."""
        self.inner.put(name, parts, create=create)

    def get(self, name: str) -> bytes:
        """Give an object whole."""
        return self.inner.get(name)

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range."""
        self.inner.read_into(name, offset, target)

    def info(self, name: str) -> ObjectInfo:
        """Describe an object."""
        return self.inner.info(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects."""
        return self.inner.list(prefix)

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects."""
        self.inner.delete(names)

    def free_bytes(self) -> int | None:
        """Tell what is free."""
        return self.inner.free_bytes()

    def close(self) -> None:
        """End connections."""
        self.inner.close()


def innermost(store: Store) -> Store:
    """Give the store itself, without what stands in front of it."""
    while isinstance(store, Wrapper):
        store = store.inner
    return store
