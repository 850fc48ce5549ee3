"""What all parts of one open repository share."""

from __future__ import annotations

from dataclasses import dataclass, field

from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.leases import Leases
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.seen_points import SeenPoints
from sendense.storage.store import Store


@dataclass(frozen=True)
class Parts:
    """An open repository: where its objects are, its secrets, and what lies where."""

    store: Store
    ring: KeyRing
    index: LocalIndex
    leases: Leases
    compression_level: int | None
    """zstd level for chunks; none: they are stored as they are."""
    seen: SeenPoints = field(default_factory=SeenPoints)
    """Which points were ever listed here."""
