"""The key slots of a repository: opening it, and changing who can.

Every change writes what is new before it removes what is old, and looks at what it wrote in
between.  So a crash leaves more slots than wanted, and never fewer.  Changes are
made under the lease for keys: one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from sendense import steps
from sendense.errors import (
    AlreadyExists,
    Damaged,
    NotAllowed,
    NotFound,
    Rejected,
    SendenseError,
    Unsupported,
)
from sendense.model.secret import Secret
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.recovery import RecoveryKey, is_recovery_key, parse_recovery_key
from sendense.repository.dedup.slot_documents import (
    LARGEST,
    Slot,
    SlotKind,
    parse_slot,
    passphrase_slot,
    recovery_slot,
)
from sendense.repository.dedup.slot_wrapping import STANDARD, Argon2
from sendense.storage.store import ObjectInfo, Store

Credential = Secret | RecoveryKey
"""A passphrase (or the text of a recovery key), or a recovery key."""

_CHECK_IT: Final = (
    "check the passphrase (capitals, keyboard layout) and that this is the right repository; a"
    " recovery key opens it too (--recovery-key-file)"
)
_ROTATED: Final = (
    "the key was changed meanwhile: open the repository again, with a passphrase of now"
)


@dataclass(frozen=True)
class UnreadableSlot:
    """An object under ``keys/`` that is no slot, or none for this version."""

    name: str
    error: SendenseError


@dataclass(frozen=True)
class SlotList:
    """All that is under ``keys/``, the newest generation first."""

    slots: tuple[Slot, ...]
    unreadable: tuple[UnreadableSlot, ...]

    def of_kind(self, kind: SlotKind) -> tuple[Slot, ...]:
        """Give the slots of one kind."""
        return tuple(slot for slot in self.slots if slot.kind is kind)


def list_slots(store: Store, repository_id: str) -> SlotList:
    """Give the slots.  What they say is not certain before :meth:`Slot.is_of`."""
    slots: list[Slot] = []
    unreadable: list[UnreadableSlot] = []
    for info in store.list(fmt.KEYS):
        try:
            slots.append(_read(store, info, repository_id))
        except NotFound:  # removed in between
            continue
        except (Damaged, Unsupported) as error:
            unreadable.append(UnreadableSlot(info.name, error))
    slots.sort(key=lambda slot: (-slot.generation, slot.created_at, slot.id))
    return SlotList(tuple(slots), tuple(sorted(unreadable, key=lambda item: item.name)))


def _read(store: Store, info: ObjectInfo, repository_id: str) -> Slot:
    if info.size > LARGEST:
        raise Damaged(f"{info.name} is too large for a key slot", file=info.name)
    return parse_slot(store.get(info.name), info.name, repository_id)


def unlock(store: Store, repository_id: str, secret: Credential) -> KeyRing:
    """Open the repository: give the ring with the most epochs that ``secret`` opens."""
    found = list_slots(store, repository_id)
    if not found.slots and not found.unreadable:
        raise Damaged(
            f"the repository in {store.location} has no key slot: nothing can open it",
            hint=f"put the objects {fmt.KEYS}* back from a copy of the repository",
        )
    opened, broken = _open_best(found.slots, secret)
    if opened is None:
        _refuse(found, secret, broken)
    return opened


def add_passphrase(
    store: Store, ring: KeyRing, passphrase: Secret, *, label: str = "", argon2: Argon2 = STANDARD
) -> Slot:
    """Let one more passphrase open the repository."""
    _refuse_old_ring(list_slots(store, ring.repository_id), ring)
    return _store(store, passphrase_slot(ring, passphrase, label=label, argon2=argon2))


def add_recovery(store: Store, ring: KeyRing, public_key: bytes, *, label: str = "") -> Slot:
    """Let the holder of a recovery key open the repository."""
    found = list_slots(store, ring.repository_id)
    _refuse_old_ring(found, ring)
    for slot in found.of_kind(SlotKind.RECOVERY):
        if slot.public_key == public_key and slot.is_of(ring):
            raise AlreadyExists(
                f"this recovery key opens the repository already (slot {slot.id})", slot=slot.id
            )
    return _store(store, recovery_slot(ring, public_key, label=label))


def remove(
    store: Store, repository_id: str, slot_id: str, *, proof: Credential, force: bool = False
) -> None:
    """Take a slot away.  ``proof`` has to open one that stays, so nobody locks all out.

    Who has read the slot before has it still: :func:`rotate` is for that.  ``force`` removes
    also a slot that states a newer key than ``proof`` opens.
    """
    found = list_slots(store, repository_id)
    name = fmt.KEYS + slot_id
    target = next((slot for slot in found.slots if slot.id == slot_id), None)
    if target is None and all(item.name != name for item in found.unreadable):
        raise NotFound(
            f"there is no key slot {slot_id}", hint="'sendense repo key list' shows them"
        )
    rest = [slot for slot in found.slots if slot.id != slot_id]
    ring, _ = _open_best(rest, proof)
    if ring is None:
        raise NotAllowed(
            f"without slot {slot_id}, nothing that was given would open the repository",
            hint="give the passphrase of a slot that stays; add one first if there is none",
            slot=slot_id,
        )
    if target is not None and target.generation > ring.newest_epoch and not force:
        raise NotAllowed(
            f"slot {slot_id} states a newer key than the one that was opened",
            hint="open the repository with a current passphrase; if the slot is a forgery, --force",
            slot=slot_id,
        )
    if not any(slot.kind is SlotKind.PASSPHRASE and slot.is_of(ring) for slot in rest):
        raise NotAllowed(
            f"slot {slot_id} is the last passphrase of the repository",
            hint="add another one first: sendense repo key add-passphrase",
            slot=slot_id,
        )
    _delete(store, [name])


def change_passphrase(
    store: Store, repository_id: str, old: Secret, new: Secret, *, argon2: Argon2 = STANDARD
) -> Slot:
    """Put a new passphrase in the place of an old one; the keys stay."""
    if old == new:
        raise Rejected("the new passphrase is the old one", hint="choose another one")
    ring = unlock(store, repository_id, old)
    found = list_slots(store, repository_id)
    _refuse_old_ring(found, ring)
    own = [slot for slot in found.of_kind(SlotKind.PASSPHRASE) if _opens(slot, old)]
    label = own[0].label if own else ""
    slot = _store(store, passphrase_slot(ring, new, label=label, argon2=argon2))
    _prove(store, ring, new)
    _delete(store, [item.name for item in own])
    return slot


def rotate(
    store: Store,
    ring: KeyRing,
    passphrase: Secret,
    *,
    drop_others: bool = False,
    argon2: Argon2 = STANDARD,
) -> KeyRing:
    """Begin a new epoch: what is written from then on is encrypted with a new key.

    ``passphrase`` opens the repository afterwards: one that does so now, or a new one.  Other
    passphrases cannot be carried over, because they are not known here: with ``drop_others`` they
    go, and without, they are a reason to refuse.  Recovery keys are carried over.

    The recovery slots come first: whenever this is interrupted, they open at least what the
    passphrases open.
    """
    found = list_slots(store, ring.repository_id)
    _refuse_unreadable(found)
    _refuse_newer_passphrases(found, ring)
    recovery = _recovery_to_carry_over(found, ring)
    own, others = _own_and_others(found, passphrase)
    if others and not drop_others:
        _refuse_to_drop(others)
    newest = max((slot.generation for slot in found.slots), default=0)
    successor = ring.next_epoch(above=newest)
    label = own[0].label if own else ""
    fresh = passphrase_slot(successor, passphrase, label=label, argon2=argon2)
    for old in recovery:
        _store(store, recovery_slot(successor, old.public_key or b"", label=old.label))
    _store(store, fresh)
    _prove(store, successor, passphrase)
    for kind in (SlotKind.PASSPHRASE, SlotKind.RECOVERY):
        _delete(store, [slot.name for slot in found.of_kind(kind)])
    return successor


# --- opening ---


def _open_best(
    slots: Iterable[Slot], secret: Credential
) -> tuple[KeyRing | None, list[SendenseError]]:
    """Give the newest ring that ``secret`` opens, and what was wrong with slots on the way."""
    best: KeyRing | None = None
    broken: list[SendenseError] = []
    key = _as_recovery_key(secret)
    for slot in sorted(slots, key=lambda slot: -slot.generation):
        if best is not None and slot.generation <= best.newest_epoch:
            break
        try:
            ring = slot.open_with(key) if key is not None else None
            if ring is None and isinstance(secret, Secret):
                ring = slot.open_with(secret)
        except Damaged as error:
            broken.append(error)
            continue
        if ring is not None:
            best = ring
        elif key is not None and slot.public_key == key.public:
            broken.append(Damaged(f"{slot.name} is for this recovery key, and does not open"))
    return best, broken


def _opens(slot: Slot, passphrase: Secret) -> bool:
    try:
        return slot.open_with(passphrase) is not None
    except Damaged:
        return True


def _as_recovery_key(secret: Credential) -> RecoveryKey | None:
    if isinstance(secret, RecoveryKey):
        return secret
    return parse_recovery_key(secret) if is_recovery_key(secret) else None


def _refuse(found: SlotList, secret: Credential, broken: Sequence[SendenseError]) -> NoReturn:
    key = _as_recovery_key(secret)
    kind = SlotKind.RECOVERY if key is not None else SlotKind.PASSPHRASE
    what = "recovery key" if key is not None else "passphrase"
    number = len(found.of_kind(kind))
    if number == 0:
        message = f"the repository has no {kind.value} slot that can be read"
    elif number == 1:
        message = f"the {kind.value} slot does not open with this {what}"
    else:
        message = f"none of the {number} {kind.value} slots opens with this {what}"
    reasons = [error.message for error in broken]
    reasons += [item.error.message for item in found.unreadable]
    if broken:  # the secret is right: what it opens is not
        raise Damaged("; ".join([message, *reasons]), hint="try another passphrase or recovery key")
    raise NotAllowed("; ".join([message, *reasons]), hint=_CHECK_IT, slots=number)


# --- changing ---


def _store(store: Store, slot: Slot) -> Slot:
    """Write a slot, and look whether it is there."""
    data = slot.to_bytes()
    store.put(slot.name, data, create=True)
    if store.get(slot.name) != data:
        raise Damaged(f"{slot.name} does not read as it was written", file=slot.name)
    steps.reached("keys:slot-written")
    return slot


def _prove(store: Store, ring: KeyRing, passphrase: Secret) -> None:
    """Open the repository with what was just written, before anything old goes."""
    if unlock(store, ring.repository_id, passphrase) != ring:
        raise Damaged(
            "the new key slot does not open the repository; the old ones are all there still",
            hint="look at the storage, then try again",
        )


def _delete(store: Store, names: Sequence[str]) -> None:
    for name in names:
        store.delete([name])
        steps.reached("keys:slot-removed")


def _refuse_old_ring(found: SlotList, ring: KeyRing) -> None:
    """Refuse to write a ring that lacks an epoch which is in use."""
    for slot in found.slots:
        if slot.generation > ring.newest_epoch:
            raise NotAllowed(
                f"slot {slot.id} holds a newer key (epoch {slot.generation}) than the one in hand",
                hint=f"{_ROTATED}; after an interrupted 'sendense repo key rotate', run it again",
                slot=slot.id,
            )


def _refuse_newer_passphrases(found: SlotList, ring: KeyRing) -> None:
    """Like :func:`_refuse_old_ring`, save for what an interrupted rotation leaves.

    Newer recovery slots alone are such: nothing was written yet with the key in them.
    """
    _refuse_old_ring(SlotList(found.of_kind(SlotKind.PASSPHRASE), ()), ring)


def _refuse_unreadable(found: SlotList) -> None:
    for item in found.unreadable:
        raise NotAllowed(
            f"a key slot cannot be carried over: {item.error.message}",
            hint=f"remove it first: sendense repo key remove {item.name.removeprefix(fmt.KEYS)}",
            slot=item.name,
        )


def _recovery_to_carry_over(found: SlotList, ring: KeyRing) -> list[Slot]:
    """Give one slot for each recovery key that a holder of this ring has put there.

    Only a slot of the ring's own generation counts: who knew an older key could have made an
    older slot.  Other generations are leftovers of rotations, whose keys are in current slots too.
    """
    slots = found.of_kind(SlotKind.RECOVERY)
    chosen = {slot.public_key: slot for slot in slots if _is_current(slot, ring)}
    for slot in slots:
        if slot.public_key not in chosen:
            raise NotAllowed(
                f"recovery slot {slot.id} ({slot.label}) was not made with the repository's"
                " current key, so the new key is not given to it",
                hint=f"remove it (sendense repo key remove --force {slot.id}); add its recovery key"
                " again if you know whose it is",
                slot=slot.id,
            )
    return list(chosen.values())


def _is_current(slot: Slot, ring: KeyRing) -> bool:
    return slot.generation == ring.newest_epoch and slot.is_of(ring)


def _own_and_others(found: SlotList, passphrase: Secret) -> tuple[list[Slot], list[Slot]]:
    own: list[Slot] = []
    others: list[Slot] = []
    for slot in found.of_kind(SlotKind.PASSPHRASE):
        (own if _opens(slot, passphrase) else others).append(slot)
    return own, others


def _refuse_to_drop(others: Sequence[Slot]) -> NoReturn:
    names = ", ".join(slot.label or slot.id for slot in others)
    raise NotAllowed(
        f"other passphrases open the repository, and would no longer: {names}",
        hint="--drop-others removes them; their owners then need a new one each",
        slots=names,
    )
