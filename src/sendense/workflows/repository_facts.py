"""What can be told of a repository: what its points hold, and what that takes.

Three sizes, of which each is smaller than the one before::

    logical   what all points would take, each restored by itself
    unique    what is stored of that, once each and without zeroes, before it is compressed
    stored    what lies in the storage

In a dedup repository the last two include what no point needs any more, until garbage is
collected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sendense.errors import Unsupported
from sendense.model.point import RecoveryPoint
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import slots
from sendense.repository.dedup.lease_claim import LeaseRecord
from sendense.repository.dedup.local_index import Totals
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.dedup.slot_documents import SlotKind
from sendense.repository.protocol import Repository, RepositoryInfo


@dataclass(frozen=True)
class Sizes:
    """What is in a repository, three times."""

    logical_bytes: int
    unique_bytes: int
    stored_bytes: int

    @property
    def dedup_ratio(self) -> float | None:
        """Tell how many times what is unique is restored."""
        return _ratio(self.logical_bytes, self.unique_bytes)

    @property
    def compression_ratio(self) -> float | None:
        """Tell what compression saves, all that is stored counted."""
        return _ratio(self.unique_bytes, self.stored_bytes)

    @property
    def total_ratio(self) -> float | None:
        """Tell how many times what is stored is restored."""
        return _ratio(self.logical_bytes, self.stored_bytes)


@dataclass(frozen=True)
class DedupFacts:
    """What only a dedup repository has."""

    fingerprint: str
    """Of its keys, as on the recovery sheet."""
    epoch: int
    """Of the key that encrypts what is written now."""
    passphrases: int
    recovery_keys: int
    unreadable_slots: int
    compression_level: int | None
    object_lock: bool
    last_check: datetime | None
    at_work: tuple[LeaseRecord, ...]
    totals: Totals


@dataclass(frozen=True)
class RepositoryFacts:
    """A repository as a whole."""

    info: RepositoryInfo
    sizes: Sizes
    dedup: DedupFacts | None


@dataclass(frozen=True)
class MachineTotals:
    """The points of one machine together."""

    uuid: str
    name: str
    """As its newest point has it."""
    points: int
    logical_bytes: int
    new_bytes: int
    """What its points stored, before it was compressed."""
    stored_bytes: int


def facts_of(repository: Repository) -> RepositoryFacts:
    """Look at a repository as a whole."""
    info = repository.info()
    points = repository.points()
    logical = sum(point.size for point in points)
    if not isinstance(repository, DedupRepository):
        sizes = Sizes(logical, sum(map(new_bytes, points)), info.stored_bytes)
        return RepositoryFacts(info, sizes, None)
    facts = _dedup_facts(repository)
    sizes = Sizes(logical, facts.totals.data.plain_bytes, facts.totals.stored_bytes)
    return RepositoryFacts(info, sizes, facts)


def require_dedup(repository: Repository, what: str) -> DedupRepository:
    """Give a dedup repository; any other has no ``what``."""
    if isinstance(repository, DedupRepository):
        return repository
    raise Unsupported(
        f"{repository.location} is a QCOW2 chain, which has no {what}",
        hint="'sendense repo init URL' makes a dedup repository",
    )


def new_bytes(point: RecoveryPoint) -> int:
    """Give what a point stored, before it was compressed."""
    return sum(image.data_bytes for image in point.disks)


def by_machine(points: Iterable[RecoveryPoint]) -> tuple[MachineTotals, ...]:
    """Sum points up by machine, in the order of names."""
    found: dict[str, list[RecoveryPoint]] = {}
    for point in points:
        found.setdefault(point.machine.uuid, []).append(point)
    totals = [_totals(uuid, own) for uuid, own in found.items()]
    return tuple(sorted(totals, key=lambda item: (item.name, item.uuid)))


def _totals(uuid: str, points: Sequence[RecoveryPoint]) -> MachineTotals:
    newest = max(points, key=lambda point: point.sequence)
    return MachineTotals(
        uuid=uuid,
        name=newest.machine.name,
        points=len(points),
        logical_bytes=sum(point.size for point in points),
        new_bytes=sum(map(new_bytes, points)),
        stored_bytes=sum(point.stored_bytes for point in points),
    )


def _dedup_facts(repository: DedupRepository) -> DedupFacts:
    parts = repository.parts
    found = slots.list_slots(parts.store, repository.header.id)
    checked = [item.modified for item in parts.store.list(fmt.CHECKED)]
    return DedupFacts(
        fingerprint=parts.ring.fingerprint,
        epoch=parts.ring.newest_epoch,
        passphrases=len(found.of_kind(SlotKind.PASSPHRASE)),
        recovery_keys=len(found.of_kind(SlotKind.RECOVERY)),
        unreadable_slots=len(found.unreadable),
        compression_level=repository.header.compression_level,
        object_lock=parts.store.traits.object_lock,
        last_check=max(checked, default=None),
        at_work=tuple(item.record for item in parts.leases.survey() if item.dead is None),
        totals=parts.index.totals(),
    )


def _ratio(more: int, less: int) -> float | None:
    return round(more / less, 2) if less > 0 else None
