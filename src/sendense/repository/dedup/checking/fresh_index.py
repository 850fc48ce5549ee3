"""The index as the store has it now: every index object is read, and nothing is taken from a cache.

A check that trusts what this machine read before would call an index object good that
nobody else can read any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sendense.errors import NotFound
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import indexing
from sendense.repository.dedup.ahead import ahead
from sendense.repository.dedup.checking.rereading import UNREADABLE, Refused, twice
from sendense.repository.dedup.entries import PackRecord
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.parts import Parts
from sendense.storage.store import ObjectInfo

_THREADS = 8

Read = tuple[str, list[PackRecord]]


@dataclass
class FreshIndex:
    """What all index objects say together."""

    index: LocalIndex
    """Of its own, in a temporary file."""
    unreadable: dict[str, Refused] = field(default_factory=dict)
    """Index objects that cannot be read."""

    def close(self) -> None:
        """Give the file back."""
        self.index.close()


def read_fresh(parts: Parts, check: Callable[[], None] = lambda: None) -> FreshIndex:
    """Read every index object."""
    fresh = FreshIndex(LocalIndex())
    try:
        _fill(fresh, parts, check)
    except BaseException:
        fresh.close()
        raise
    return fresh


def _fill(fresh: FreshIndex, parts: Parts, check: Callable[[], None]) -> None:
    def look(item: ObjectInfo) -> Read | None:
        check()
        try:
            records = twice(lambda: indexing.read_index(parts, item.name), item)
        except NotFound:
            return None  # replaced since it was listed
        except UNREADABLE as error:
            fresh.unreadable[item.name] = Refused(item.name, error)
            return None
        return item.name, records

    threads = max(1, min(parts.store.traits.parallel, _THREADS))
    items = list(parts.store.list(fmt.INDEX))
    found = ahead(look, items, threads=threads)
    fresh.index.apply((read for read in found if read is not None), [])
