"""Counting requests and bytes, for reports and benchmarks.

It sits next to the store itself, below the retries: what is counted is what the
store was asked, and what a provider bills.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sendense.storage.buffers import Parts, total
from sendense.storage.store import ObjectInfo, Store
from sendense.storage.wrapper import Wrapper


@dataclass(frozen=True)
class Count:
    """How often a verb was used, and how many bytes of content went with it."""

    requests: int = 0
    bytes: int = 0


class Counters:
    """The counts of one run, which any number of stores may share."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._counts: dict[str, Count] = {}
        self._lock = threading.Lock()

    def add(self, verb: str, size: int = 0) -> None:
        """Count one request."""
        with self._lock:
            old = self._counts.get(verb, Count())
            self._counts[verb] = Count(old.requests + 1, old.bytes + size)

    def __getitem__(self, verb: str) -> Count:
        """Give the count of a verb, which is the name of the store's method."""
        with self._lock:
            return self._counts.get(verb, Count())

    def all(self) -> dict[str, Count]:
        """Give all counts, by verb."""
        with self._lock:
            return dict(sorted(self._counts.items()))


class Counting(Wrapper):
    """A store whose use is counted."""

    def __init__(self, inner: Store, counters: Counters) -> None:
        """Count what ``inner`` is asked."""
        super().__init__(inner)
        self._counters = counters

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """Write, and count."""
        self._counters.add("put", total(parts))
        self.inner.put(name, parts, create=create)

    def get(self, name: str) -> bytes:
        """Read, and count what came."""
        content: bytes | None = None
        try:
            content = self.inner.get(name)
            return content
        finally:
            self._counters.add("get", len(content or b""))

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range, and count."""
        self._counters.add("read_into", target.nbytes)
        self.inner.read_into(name, offset, target)

    def info(self, name: str) -> ObjectInfo:
        """Describe, and count."""
        self._counters.add("info")
        return self.inner.info(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List, and count one request, in however many pages it comes."""
        self._counters.add("list")
        return self.inner.list(prefix)

    def delete(self, names: Sequence[str]) -> None:
        """Remove, and count one request for all names."""
        self._counters.add("delete")
        self.inner.delete(names)
