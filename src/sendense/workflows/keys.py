"""Keys of a dedup repository: who can open it, and with what.

Each change is made under the lease for keys, so that two never meet; what they mean is told in
:mod:`sendense.repository.dedup.slots`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sendense import clock
from sendense.errors import Damaged
from sendense.model.secret import Secret
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import slots
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.recovery import RecoveryKey
from sendense.repository.dedup.recovery_sheet import SheetFacts, recovery_sheet
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.dedup.slot_documents import Slot, SlotKind
from sendense.repository.dedup.slots import SlotList, UnreadableSlot
from sendense.workflows.abbreviations import whole_id

Deliver = Callable[[Secret], None]
"""Brings a recovery sheet to whoever keeps it, durably."""


@dataclass(frozen=True)
class ListedSlot:
    """A slot, and what can be said of it."""

    slot: Slot
    trouble: str | None
    """Why it does not open the repository as it is now; none: it does."""


@dataclass(frozen=True)
class ListedSlots:
    """All slots of a repository."""

    slots: tuple[ListedSlot, ...]
    unreadable: tuple[UnreadableSlot, ...]


def list_keys(repository: DedupRepository) -> ListedSlots:
    """List the slots; each is held against the keys of the repository."""
    found = _slots(repository)
    listed = tuple(ListedSlot(slot, _trouble(repository, slot)) for slot in found.slots)
    return ListedSlots(listed, found.unreadable)


def _trouble(repository: DedupRepository, slot: Slot) -> str | None:
    newest = repository.parts.ring.newest_epoch
    if slot.generation > newest:
        return "states a newer key than the one that was opened"
    if not slot.is_of(repository.parts.ring):
        return "was not made by a holder of the keys: remove it"
    if slot.generation < newest:
        return "holds the keys of before a rotation: remove it"
    return None


def find_slot(repository: DedupRepository, reference: str) -> str:
    """Give the id of the slot that an id, or the beginning of one, names."""
    found = _slots(repository)
    names = [slot.id for slot in found.slots]
    names += [item.name.removeprefix(fmt.KEYS) for item in found.unreadable]
    return whole_id(names, reference, what="key slot", listed_by="sendense repo key list")


def add_passphrase(repository: DedupRepository, new: Secret, *, label: str) -> Slot:
    """Let one more passphrase open the repository."""
    with _changing(repository):
        return slots.add_passphrase(repository.parts.store, repository.parts.ring, new, label=label)


def change_passphrase(repository: DedupRepository, old: Secret, new: Secret) -> Slot:
    """Put a new passphrase in the place of the one that opened the repository."""
    with _changing(repository):
        return slots.change_passphrase(repository.parts.store, repository.header.id, old, new)


def remove_slot(
    repository: DedupRepository, slot_id: str, *, proof: Secret, force: bool = False
) -> None:
    """Take a slot away; ``proof`` opens one that stays."""
    with _changing(repository):
        slots.remove(
            repository.parts.store, repository.header.id, slot_id, proof=proof, force=force
        )


def rotate_keys(
    repository: DedupRepository, passphrase: Secret, *, drop_others: bool = False
) -> int:
    """Begin a new epoch, which ``passphrase`` opens; gives its number.

    The repository that is open goes on with the old keys: close it.
    """
    with _changing(repository):
        parts = repository.parts
        successor = slots.rotate(parts.store, parts.ring, passphrase, drop_others=drop_others)
    return successor.newest_epoch


def slots_that_rotation_drops(repository: DedupRepository, kept: Secret) -> tuple[Slot, ...]:
    """List the passphrases that would no longer open the repository."""
    found = _slots(repository).of_kind(SlotKind.PASSPHRASE)
    return tuple(slot for slot in found if not _opens(slot, kept))


def _opens(slot: Slot, passphrase: Secret) -> bool:
    try:
        return slot.open_with(passphrase) is not None
    except Damaged:
        return True


def new_recovery_key(repository: DedupRepository, *, label: str, deliver: Deliver) -> Slot:
    """Make a recovery key.  Its sheet is delivered before it opens anything."""
    key = RecoveryKey.generate()
    with _changing(repository):
        deliver(sheet_of(repository, key, label=label))
        return _add_recovery(repository, key.public, label=label)


def add_recovery_key(repository: DedupRepository, public_key: bytes, *, label: str) -> Slot:
    """Let the holder of a recovery key that exists open this repository as well."""
    with _changing(repository):
        return _add_recovery(repository, public_key, label=label)


def sheet_of(repository: DedupRepository, key: RecoveryKey, *, label: str = "") -> Secret:
    """Write the sheet of a recovery key, for this repository and where it is now."""
    facts = SheetFacts(
        repository_id=repository.header.id,
        location=repository.location,
        fingerprint=repository.parts.ring.fingerprint,
        made_at=clock.now(),
        label=label,
    )
    return recovery_sheet(key, facts)


def label_of(repository: DedupRepository, key: RecoveryKey) -> str:
    """Give the label of a recovery key in this repository."""
    for slot in _slots(repository).of_kind(SlotKind.RECOVERY):
        if slot.public_key == key.public:
            return slot.label
    return ""


def _slots(repository: DedupRepository) -> SlotList:
    return slots.list_slots(repository.parts.store, repository.header.id)


def _add_recovery(repository: DedupRepository, public_key: bytes, *, label: str) -> Slot:
    parts = repository.parts
    return slots.add_recovery(parts.store, parts.ring, public_key, label=label)


@contextmanager
def _changing(repository: DedupRepository) -> Iterator[None]:
    with repository.parts.leases.acquire(Wish(LeaseKind.KEYS, "a change of keys")) as lease:
        lease.check()
        yield
