"""Making and opening a dedup repository in a store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from sendense import clock
from sendense.errors import AlreadyExists, Rejected
from sendense.model.secret import Secret
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import header, seen_points, slots
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.leases import Leases
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.dedup.seen_points import SeenPoints
from sendense.storage.store import Store


def index_file_of(location: str) -> str:
    """Name the file of the local index: each of several copies of a repository has its own."""
    return f"index-{blake3(location.encode(errors='surrogateescape')).hexdigest(length=8)}.sqlite"


def create(
    store: Store, passphrase: Secret, *, compression_level: int | None, cache: Path | None
) -> DedupRepository:
    """Make a repository in an empty store, and open it.

    The slot is written before the header: what has a header can be opened.
    """
    refuse_occupied(store)
    ring = KeyRing.create(str(uuid.uuid4()))
    slot = slots.add_passphrase(store, ring, passphrase)
    try:
        made = header.write_header(
            store, ring, created_at=clock.now(), compression_level=compression_level
        )
    except AlreadyExists:
        # Another was faster.  A slot of ours would be a stranger among its slots.
        store.delete([slot.name])
        raise
    return open_unlocked(store, ring, made, cache=cache)


def open_dedup(
    store: Store, secret: Callable[[], slots.Credential], *, cache: Path | None
) -> DedupRepository:
    """Open a repository with a passphrase or a recovery key, which ``secret`` is asked for.

    ``cache`` is a directory for what makes opening quick; with none it is kept in a
    temporary file for as long as the repository is open.
    """
    found = header.read_header(store)
    ring = slots.unlock(store, found.id, secret())
    header.check_header(found, ring)
    return open_unlocked(store, ring, found, cache=cache)


def refuse_occupied(store: Store) -> None:
    """Make no repository among somebody's data, nor over another."""
    first = next(iter(store.list("")), None)
    if first is not None:
        what = "holds a repository already" if first.name == fmt.HEADER else "is not empty"
        raise Rejected(f"{store.location} {what}", hint="name a new or empty place")


def open_unlocked(
    store: Store, ring: KeyRing, found: header.Header, *, cache: Path | None
) -> DedupRepository:
    """Open a repository of which the ring is at hand."""
    folder = None if cache is None else cache / found.id
    parts = Parts(
        store=store,
        ring=ring,
        index=LocalIndex(
            None if folder is None else folder / index_file_of(store.location),
            repository=found.id,
        ),
        leases=Leases(store, ring),
        compression_level=found.compression_level,
        seen=SeenPoints(None if folder is None else folder / seen_points.file_of(store.location)),
    )
    return DedupRepository(parts, found)
