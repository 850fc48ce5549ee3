"""Repositories for tests of the collection of garbage: made at once, in a store with a clock."""

from __future__ import annotations

import uuid
from datetime import timedelta

from sendense import clock
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import header, opening
from sendense.repository.dedup.collecting.plan import CollectOptions
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import VerifyLevel
from sendense.storage.store import Store
from tests.support.points import restored

AT_ONCE = CollectOptions(grace=timedelta(0))
HOUR = CollectOptions(grace=timedelta(hours=1))


def quick_repository(store: Store, cache=None) -> DedupRepository:
    """Make a repository without a passphrase: deriving a key takes 0.1 s."""
    ring = KeyRing.create(str(uuid.uuid4()))
    made = header.write_header(store, ring, created_at=clock.now(), compression_level=None)
    return opening.open_unlocked(store, ring, made, cache=cache)


def names(store: Store, prefix: str) -> list[str]:
    """Name the objects below a prefix."""
    return sorted(item.name for item in store.list(prefix))


def packs(store: Store) -> list[str]:
    """Name the packs."""
    return names(store, fmt.PACKS)


def check_all(repository: DedupRepository, contents: dict[str, bytes]) -> None:
    """Hold every point against what it must be."""
    assert {point.id for point in repository.points()} == set(contents)
    for point, content in contents.items():
        assert repository.verify(point, VerifyLevel.DATA).findings == ()
        assert restored(repository, point) == content
