"""Dedup repositories for tests: made quickly, in any store."""

from __future__ import annotations

from sendense.model.secret import Secret
from sendense.repository.dedup import opening
from sendense.repository.dedup.repository import DedupRepository
from sendense.storage.store import Store

PASSPHRASE = Secret("correct horse battery")


def dedup_repository(store: Store, *, level: int | None = None, cache=None) -> DedupRepository:
    """Make a repository."""
    return opening.create(store, PASSPHRASE, compression_level=level, cache=cache)


def reopened(store: Store, like: DedupRepository) -> DedupRepository:
    """Open a repository with the ring that is at hand: deriving a key takes 0.1 s."""
    return opening.open_unlocked(store, like.parts.ring, like.header, cache=None)


def copied(source: Store, target: Store) -> Store:
    """Copy all objects from one store to another."""
    for item in source.list(""):
        target.put(item.name, source.get(item.name))
    return target
