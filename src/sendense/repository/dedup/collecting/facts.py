"""What a plan is made from: packs, condemnations and leases as they were found.

Ages are differences of two times of the store.  Nobody's own clock is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sendense.repository.dedup.format import PackKind


@dataclass(frozen=True, slots=True)
class PackFacts:
    """One pack."""

    id: str
    kind: PackKind | None
    """None: no index object names it, so nothing is known of its records."""
    size: int
    """Bytes of the object."""
    age: timedelta | None
    """None: it is not in the store."""
    records: int = 0
    """Bytes of all its records."""
    live: int = 0
    """Bytes of the records in it that points refer to, and that are in no better pack."""
    live_records: int = 0
    """How many these are.  Where no index names the pack: records in it that points miss."""
    lost_records: int = 0
    """How many of these are known to be damaged.  No other pack has them whole."""


@dataclass(frozen=True, slots=True)
class CondemnationFacts:
    """One condemnation."""

    id: str
    packs: frozenset[str]
    age: timedelta


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """A lease that is held, by somebody who may refer to packs."""

    text: str
    """Who holds it, for people."""
    seen: frozenset[str]
    """The condemnations that its holder saw before it referred to anything."""
    writes: bool
    """Its holder may have packs that no point refers to yet."""


@dataclass(frozen=True)
class CollectFacts:
    """A repository, seen by a collection of garbage."""

    packs: Iterable[PackFacts]
    """Each once; may be a generator."""
    condemned: Sequence[CondemnationFacts]
    leases: Sequence[LeaseFacts]
    free_bytes: int | None
    """In the store, where that has a meaning."""
