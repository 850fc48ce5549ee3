"""Opening a repository of the conformance tests a second time."""

from __future__ import annotations

from sendense.repository.dedup.opening import open_dedup
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.opening import open_repository
from tests.support.dedup import PASSPHRASE


def open_again(repository):
    """Open the same repository with nothing but its place and its passphrase."""
    if isinstance(repository, DedupRepository):
        return open_dedup(repository.parts.store, lambda: PASSPHRASE, cache=None)
    return open_repository(repository.location)
