"""A small dedup repository that has an object of every kind, to be copied and spoiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sendense import clock
from sendense.model.decision import Method
from sendense.model.hold import Hold, HoldKind
from sendense.repository.dedup import condemning, damages, slots
from sendense.repository.dedup.checking.checked_packs import CheckedPacks
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.header import Header
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease_claim import Claim, Holder, LeaseKind, Wish
from sendense.repository.dedup.leases import Leases
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.recovery import RecoveryKey
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.dedup.sealing import seal_json
from sendense.storage.store import Store
from sendense.units import MIB
from tests.support.dedup import dedup_repository
from tests.support.dict_store import DictStore
from tests.support.points import BLOCK, MACHINE_UUID, Write, data, disk, noise, restored, store

VDA, VDB = disk("vda"), disk("vdb")
OTHER_UUID = "6f2d3f4e-0000-4000-8000-000000000002"
SIZE = 9 * MIB + 1536
LEVEL = 1
LEASE = "leases/" + "1" * 32
OLD_LEASE = "older version of " + LEASE
GONE_PACK = "ab" * 16
ATTACHMENTS = {"domain.xml": b"<domain/>", "nvram.fd": noise(70_000, 7)}


def patchy(seed: int, size: int = SIZE) -> bytes:
    """Give a disk with data here and there: some that compresses, some that does not."""
    content = bytearray(size)
    for number, place in enumerate((0, 1, 2, 17, 18, 64, 65, 100)):
        piece = noise(BLOCK, seed + number)
        if number % 3 == 0:
            piece = piece[: BLOCK // 8] * 8
        content[place * BLOCK : (place + 1) * BLOCK] = piece
    tail = size - size % BLOCK
    content[tail:] = noise(size - tail, seed + 99)
    return bytes(content)


def whole(content: bytes, target=VDA, method: Method = Method.EVERYTHING) -> Write:
    """Give a disk as the stream brings it."""
    pieces = [data(at, content[at : at + MIB]) for at in range(0, len(content), MIB)]
    return Write(target, len(content), tuple(pieces), method)


@dataclass
class Site:
    """A repository as bytes, with what opens it and what must come back."""

    objects: dict[str, bytes]
    ring: KeyRing
    header: Header
    recovery: RecoveryKey
    contents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """By point and disk."""
    older: dict[str, bytes] = field(default_factory=dict)
    """Earlier content of objects that are written anew under their name."""

    def open(self, store: Store, cache: Path | None = None) -> DedupRepository:
        """Open it in a store, without the work of unlocking."""
        index = LocalIndex(cache, repository=self.header.id)
        parts = Parts(store, self.ring, index, Leases(store, self.ring), LEVEL)
        return DedupRepository(parts, self.header)

    def store(self) -> DictStore:
        """Give a store of its own with all of it."""
        return DictStore(self.objects)


def build() -> Site:
    """Make the repository."""
    objects = DictStore()
    repository = dedup_repository(objects, level=LEVEL)
    recovery = RecoveryKey.generate()
    slots.add_recovery(objects, repository.parts.ring, recovery.public, label="sheet")
    site = Site({}, repository.parts.ring, repository.header, recovery)
    _points(repository, site)
    _small(repository, objects, site)
    repository.close()
    site.objects = dict(objects.objects)
    return site


def _points(repository: DedupRepository, site: Site) -> None:
    first, other = patchy(1), patchy(500, 5 * MIB)
    store(repository, "p1", whole(first), whole(other, VDB), attachments=ATTACHMENTS)
    changed = bytearray(first)
    changed[2 * BLOCK : 3 * BLOCK] = noise(BLOCK, 300)
    changed[80 * BLOCK : 81 * BLOCK] = noise(BLOCK, 301)
    pieces = tuple(
        data(at * BLOCK, bytes(changed[at * BLOCK : (at + 1) * BLOCK])) for at in (2, 80)
    )
    same = Write(VDB, len(other), (), Method.BITMAP)
    store(repository, "p2", Write(VDA, SIZE, pieces, Method.BITMAP), same, attachments=ATTACHMENTS)
    store(repository, "o1", whole(first[: 5 * MIB]), uuid=OTHER_UUID)
    store(repository, "o2", whole(first[: 5 * MIB]), uuid=OTHER_UUID)
    store(repository, "p3", whole(bytes(changed)))
    repository.delete(["o2", "p3"])
    site.contents = {
        ("p1", VDA.identity): first,
        ("p1", VDB.identity): other,
        ("p2", VDA.identity): bytes(changed),
        ("p2", VDB.identity): other,
        ("o1", VDA.identity): first[: 5 * MIB],
    }
    for (point, identity), content in site.contents.items():
        assert restored(repository, point, identity) == content


def _small(repository: DedupRepository, objects: DictStore, site: Site) -> None:
    """Make what a repository of some age has beside its points."""
    parts = repository.parts
    made = datetime(2026, 1, 31, 12, tzinfo=UTC)
    repository.hold(Hold("p1", HoldKind.PIN, None, "why", made))
    repository.hold(Hold("o1", HoldKind.LOCK, datetime(2099, 1, 1, tzinfo=UTC), "", made))
    condemning.condemn(parts, [GONE_PACK])
    condemning.condemn(parts, ["cd" * 16])
    for number in range(2):
        record = bytes([number]) * 32
        damages.put(
            parts,
            points=frozenset(),
            records=frozenset([(record, GONE_PACK)]),
            packs=frozenset(),
        )
    packs = [name.rpartition("/")[2] for name in objects.names("packs/")]
    CheckedPacks(parts).add(packs[:1], made)
    CheckedPacks(parts).add(packs[1:2], made)
    _leases(parts, objects, site)


def _leases(parts: Parts, objects: DictStore, site: Site) -> None:
    """Leave leases of readers on another host: they are in nobody's way."""
    holder = Holder("kvm2", "root", "another boot", 1, 2, 3)
    for number, settled in (("1", False), ("1", True), ("2", True)):
        name = f"leases/{number * 32}"
        wish = Wish(LeaseKind.READ, "a reader", None, frozenset({"p1"}))
        claim = Claim(wish, holder, clock.format_utc(clock.now()), settled)
        if name in objects.objects:
            site.older[name] = objects.objects[name]
        objects.put(name, seal_json(parts.ring, name, SealedKind.LEASE, claim.to_json()))


def back_up_again(repository: DedupRepository, site: Site) -> None:
    """Take full backups of what every disk of every point holds."""
    full = site.contents
    for number, name in enumerate(("p1", "p2")):
        writes = [whole(full[name, target.identity], target) for target in (VDA, VDB)]
        name = f"again-{number}"
        store(repository, name, *writes, uuid=MACHINE_UUID, attachments=ATTACHMENTS)
    store(repository, "again-o", whole(full["o1", VDA.identity]), uuid=OTHER_UUID)
