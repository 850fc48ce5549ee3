"""Who can open a repository, and how that changes: never to nobody."""

from __future__ import annotations

import contextlib
import json

import pytest

from sendense.errors import (
    AlreadyExists,
    Damaged,
    NotAllowed,
    NotFound,
    Rejected,
    SendenseError,
    Unavailable,
)
from sendense.model.secret import Secret
from sendense.repository.dedup import slots
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.recovery import RecoveryKey
from sendense.repository.dedup.slot_documents import SlotKind, passphrase_slot, recovery_slot
from sendense.repository.dedup.slot_wrapping import Argon2
from tests.support.fragile_store import FragileStore

ID = "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f"
RING = KeyRing.create(ID)
ALICE, BOB, NEW = Secret("alice's passphrase"), Secret("bob's passphrase"), Secret("a new one 123")
KEY, OTHER_KEY = RecoveryKey.generate(), RecoveryKey.generate()
CHEAP = Argon2(memory_kib=8, passes=1, lanes=1)


def add(store, passphrase, ring=RING, label=""):
    return slots.add_passphrase(store, ring, passphrase, label=label, argon2=CHEAP)


def stored(*passphrases, keys=()):
    store = FragileStore()
    for passphrase in passphrases:
        add(store, passphrase, label=f"of {passphrase.reveal().decode().split()[0]}")
    for key in keys:
        slots.add_recovery(store, RING, key.public, label="safe")
    return store


def opens(store, secret):
    """Give the ring that a secret opens, or none."""
    try:
        return slots.unlock(store, ID, secret)
    except SendenseError:
        return None


def rotate(store, ring, passphrase, *, drop_others=False):
    return slots.rotate(store, ring, passphrase, drop_others=drop_others, argon2=CHEAP)


# --- opening ---


def test_every_secret_opens():
    store = stored(ALICE, BOB, keys=[KEY, OTHER_KEY])
    for secret in (ALICE, BOB, KEY, OTHER_KEY, KEY.to_text()):
        assert slots.unlock(store, ID, secret) == RING


def test_the_text_of_a_recovery_key_may_be_a_passphrase_too():
    assert slots.unlock(stored(KEY.to_text()), ID, KEY.to_text()) == RING


def test_the_ring_with_the_most_epochs():
    later = RING.next_epoch()
    for order in ((RING, later), (later, RING)):
        store = FragileStore()
        for ring in order:
            slot = passphrase_slot(ring, ALICE, label="", argon2=CHEAP)
            store.objects[slot.name] = slot.to_bytes()
        assert slots.unlock(store, ID, ALICE) == later


@pytest.mark.parametrize(
    ("store", "secret", "message"),
    [
        (stored(ALICE), NEW, "the passphrase slot does not open with this passphrase"),
        (stored(ALICE, BOB), NEW, "none of the 2 passphrase slots opens with this passphrase"),
        (stored(keys=[KEY]), NEW, "has no passphrase slot that can be read"),
        (stored(ALICE), KEY, "has no recovery slot that can be read"),
        (stored(ALICE, keys=[KEY]), OTHER_KEY, "the recovery slot does not open with this recov"),
        (stored(keys=[KEY, OTHER_KEY]), RecoveryKey.generate(), "none of the 2 recovery slots"),
        (stored(ALICE, keys=[KEY]), OTHER_KEY.to_text(), "the recovery slot does not open"),
    ],
)
def test_a_secret_that_opens_nothing(store, secret, message):
    with pytest.raises(NotAllowed, match=message) as caught:
        slots.unlock(store, ID, secret)
    assert caught.value.hint
    said = f"{caught.value!r} {caught.value.to_dict()}"
    assert "a new one" not in said
    assert OTHER_KEY.to_text().reveal().decode()[:5] not in said


def test_no_slot_at_all():
    with pytest.raises(Damaged, match="no key slot"):
        slots.unlock(FragileStore(), ID, ALICE)


def test_a_slot_that_cannot_be_read_is_named():
    store = stored(ALICE)
    store.objects["keys/README"] = b"hello"
    content = json.loads(add(store, BOB).to_bytes())
    newer = "keys/" + content["id"]
    store.objects[newer] = json.dumps({**content, "version": 2}).encode()
    store.objects["keys/" + "0" * 32] = bytes(5 * 1024 * 1024)
    assert slots.unlock(store, ID, ALICE) == RING
    with pytest.raises(NotAllowed) as caught:
        slots.unlock(store, ID, BOB)
    for part in ("keys/README is no JSON", f"{newer} was written by a newer", "00 is too large"):
        assert part in caught.value.message
    assert not any(call == "get keys/" + "0" * 32 for call in store.calls)
    assert [item.name for item in slots.list_slots(store, ID).unreadable] == sorted(
        ["keys/README", newer, "keys/" + "0" * 32]
    )


def test_a_slot_of_another_repository_is_named():
    other = KeyRing.create("5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e60")
    slot = passphrase_slot(other, ALICE, label="", argon2=CHEAP)
    store = FragileStore({slot.name: slot.to_bytes()})
    with pytest.raises(NotAllowed, match="is a key slot of another repository"):
        slots.unlock(store, ID, ALICE)


def test_a_recovery_slot_that_was_changed_is_damaged():
    store = stored(ALICE, keys=[KEY])
    slot = slots.list_slots(store, ID).of_kind(SlotKind.RECOVERY)[0]
    store.objects[slot.name] = slot.to_bytes().replace(b'"safe"', b'"sofa"')
    with pytest.raises(Damaged, match=slot.name):
        slots.unlock(store, ID, KEY)
    assert slots.unlock(store, ID, ALICE) == RING


def test_a_slot_that_opens_and_is_not_what_it_states_is_damaged():
    store = stored(ALICE)
    name = slots.list_slots(store, ID).slots[0].name
    content = json.loads(store.objects[name])
    store.objects[name] = json.dumps({**content, "mac": "0" * 64}).encode()
    with pytest.raises(Damaged, match=f"{name} does not hold what it states"):
        slots.unlock(store, ID, ALICE)
    add(store, BOB)
    assert list(rotate(store, RING, ALICE, drop_others=True).epochs) == [1, 2]
    assert len(store.objects) == 1


def test_a_slot_that_goes_while_it_is_read(monkeypatch):
    store = stored(ALICE, BOB)
    listed = list(store.list("keys/"))
    bob = next(slot for slot in slots.list_slots(store, ID).slots if slot.label == "of bob's")
    del store.objects[bob.name]
    monkeypatch.setattr(store, "list", lambda prefix: iter(listed))
    assert slots.unlock(store, ID, ALICE) == RING


def test_what_goes_wrong_in_the_store_is_said_as_it_is():
    store = stored(ALICE)
    store.calls.clear()
    for number in range(2):
        store.fail_at = number + len(store.calls)
        with pytest.raises(Unavailable):
            slots.unlock(store, ID, ALICE)


# --- adding and removing ---


def test_slots_are_listed_with_what_they_are():
    store = stored(ALICE, keys=[KEY])
    found = slots.list_slots(store, ID).slots
    assert {(slot.kind, slot.label, slot.generation) for slot in found} == {
        (SlotKind.PASSPHRASE, "of alice's", 1),
        (SlotKind.RECOVERY, "safe", 1),
    }
    assert all(slot.is_of(RING) for slot in found)


def test_a_recovery_key_is_added_once():
    store = stored(ALICE, keys=[KEY])
    with pytest.raises(AlreadyExists):
        slots.add_recovery(store, RING, KEY.public)
    assert len(store.objects) == 2


def test_a_ring_that_is_out_of_date_is_not_stored_again():
    store = stored(ALICE, keys=[KEY])
    rotate(store, RING, ALICE)
    for attempt in (
        lambda: add(store, BOB),
        lambda: slots.add_recovery(store, RING, OTHER_KEY.public),
        lambda: rotate(store, RING, ALICE),
    ):
        with pytest.raises(NotAllowed, match="newer key"):
            attempt()
    assert len(store.objects) == 2


def test_removed():
    store = stored(ALICE, BOB, keys=[KEY])
    bob = next(slot for slot in slots.list_slots(store, ID).slots if slot.label == "of bob's")
    slots.remove(store, ID, bob.id, proof=ALICE)
    assert opens(store, BOB) is None
    assert opens(store, ALICE) == opens(store, KEY) == RING


def test_what_is_never_removed():
    store = stored(ALICE, BOB, keys=[KEY])
    by_label = {slot.label: slot.id for slot in slots.list_slots(store, ID).slots}
    before = dict(store.objects)
    with pytest.raises(NotFound, match="no key slot"):
        slots.remove(store, ID, "0" * 32, proof=ALICE)
    with pytest.raises(NotAllowed, match="nothing that was given would open"):
        slots.remove(store, ID, by_label["of alice's"], proof=ALICE)
    with pytest.raises(NotAllowed, match="nothing that was given would open"):
        slots.remove(store, ID, by_label["of alice's"], proof=NEW)
    assert store.objects == before
    slots.remove(store, ID, by_label["of alice's"], proof=BOB)
    with pytest.raises(NotAllowed, match="last passphrase"):
        slots.remove(store, ID, by_label["of bob's"], proof=KEY)
    slots.remove(store, ID, by_label["safe"], proof=BOB)
    with pytest.raises(NotAllowed):
        slots.remove(store, ID, by_label["of bob's"], proof=BOB)
    assert opens(store, BOB) == RING


def test_a_forged_passphrase_slot_does_not_count_as_one_that_stays():
    store = stored(ALICE, keys=[KEY])
    forged = passphrase_slot(KeyRing.create(ID), BOB, label="", argon2=CHEAP)
    store.objects[forged.name] = forged.to_bytes()
    alice = next(slot for slot in slots.list_slots(store, ID).slots if slot.label == "of alice's")
    with pytest.raises(NotAllowed, match="last passphrase"):
        slots.remove(store, ID, alice.id, proof=KEY)


def test_a_slot_of_a_newer_key_is_removed_by_force_only():
    store = stored(ALICE)
    ring = RING.next_epoch()
    newer = passphrase_slot(ring, BOB, label="", argon2=CHEAP)
    store.objects[newer.name] = newer.to_bytes()
    with pytest.raises(NotAllowed, match="newer key"):
        slots.remove(store, ID, newer.id, proof=ALICE)
    slots.remove(store, ID, newer.id, proof=ALICE, force=True)
    assert opens(store, BOB) is None


def test_a_slot_that_cannot_be_read_is_removed():
    store = stored(ALICE)
    name = "keys/" + "0" * 32
    store.objects[name] = b"rubbish"
    slots.remove(store, ID, "0" * 32, proof=ALICE)
    assert name not in store.objects


# --- changing ---


def test_a_passphrase_is_changed():
    store = stored(ALICE, BOB, keys=[KEY])
    slot = slots.change_passphrase(store, ID, ALICE, NEW, argon2=CHEAP)
    assert slot.label == "of alice's"
    assert opens(store, ALICE) is None
    assert opens(store, NEW) == opens(store, BOB) == opens(store, KEY) == RING
    assert len(store.objects) == 3


def test_a_change_that_is_none():
    store = stored(ALICE)
    before = dict(store.objects)
    with pytest.raises(Rejected, match="the old one"):
        slots.change_passphrase(store, ID, ALICE, ALICE, argon2=CHEAP)
    with pytest.raises(Rejected, match="too short"):
        slots.change_passphrase(store, ID, ALICE, Secret("short"), argon2=CHEAP)
    with pytest.raises(NotAllowed):
        slots.change_passphrase(store, ID, BOB, NEW, argon2=CHEAP)
    assert store.objects == before


@pytest.mark.parametrize("passphrase", [ALICE, NEW])
def test_rotated(passphrase):
    store = stored(ALICE, keys=[KEY, OTHER_KEY])
    before = set(store.objects)
    ring = rotate(store, RING, passphrase, drop_others=True)
    assert list(ring.epochs) == [1, 2]
    assert ring.epochs[1] == RING.epochs[1]
    for secret in (passphrase, KEY, OTHER_KEY):
        assert opens(store, secret) == ring
    assert not before & set(store.objects)
    assert len(store.objects) == 3
    assert opens(store, ALICE) == (ring if passphrase is ALICE else None)
    assert {slot.label for slot in slots.list_slots(store, ID).of_kind(SlotKind.RECOVERY)} == {
        "safe"
    }


def test_the_name_of_a_slot_stays_when_it_is_rotated():
    store = stored(ALICE)
    rotate(store, RING, ALICE)
    assert slots.list_slots(store, ID).slots[0].label == "of alice's"


def test_other_passphrases_are_dropped_only_if_that_is_said():
    store = stored(ALICE, BOB)
    before = dict(store.objects)
    with pytest.raises(NotAllowed, match="of bob's") as caught:
        rotate(store, RING, ALICE)
    assert "--drop-others" in (caught.value.hint or "")
    assert store.objects == before
    rotate(store, RING, ALICE, drop_others=True)
    assert opens(store, BOB) is None


def test_a_slot_that_cannot_be_read_is_in_the_way_of_a_rotation():
    store = stored(ALICE)
    store.objects["keys/" + "0" * 32] = b"rubbish"
    with pytest.raises(NotAllowed, match="cannot be carried over") as caught:
        rotate(store, RING, ALICE)
    assert "key remove " + "0" * 32 in (caught.value.hint or "")


def test_the_new_key_is_not_given_to_a_stranger():
    """Somebody who can write to the store adds a slot with a key of their own."""
    stranger = RecoveryKey.generate()
    store = stored(ALICE, keys=[KEY])
    another = KeyRing.create(ID)
    for ring in (another, another.next_epoch()):
        forged = recovery_slot(ring, stranger.public, label="safe")
        hostile = FragileStore({**store.objects, forged.name: forged.to_bytes()})
        with pytest.raises(NotAllowed, match=forged.id):
            rotate(hostile, RING, ALICE)
        assert len(hostile.objects) == 3
        slots.remove(hostile, ID, forged.id, proof=ALICE, force=True)
        rotate(hostile, RING, ALICE)
        assert opens(hostile, stranger) is None


def test_nor_to_somebody_who_knew_the_key_before_the_last_rotation():
    gone = RecoveryKey.generate()
    store = stored(ALICE, keys=[KEY])
    second = rotate(store, RING, ALICE)
    forged = recovery_slot(RING, gone.public, label="safe")
    store.objects[forged.name] = forged.to_bytes()
    with pytest.raises(NotAllowed, match=forged.id):
        rotate(store, second, ALICE)


def test_a_recovery_key_is_not_lost_in_silence():
    """A rotation stops half-way, and the recovery key that has the new ring is used to go on."""
    store = stored(ALICE, keys=[KEY, OTHER_KEY])
    half = RING.next_epoch()
    slot = recovery_slot(half, KEY.public, label="safe")
    store.objects[slot.name] = slot.to_bytes()
    add(store, NEW, slots.unlock(store, ID, KEY))
    with pytest.raises(NotAllowed, match="current key"):
        rotate(store, half, NEW, drop_others=True)
    with pytest.raises(NotAllowed, match="newer key"):
        rotate(store, RING, ALICE, drop_others=True)
    assert opens(store, OTHER_KEY) == RING


def test_a_new_slot_that_does_not_open_removes_nothing(monkeypatch):
    store = stored(ALICE, keys=[KEY])
    before = dict(store.objects)
    monkeypatch.setattr(slots, "unlock", lambda *_: KeyRing.create(ID))
    with pytest.raises(Damaged, match="old ones are all there"):
        rotate(store, RING, ALICE)
    monkeypatch.undo()
    assert before.items() <= store.objects.items()


def test_a_store_that_keeps_something_else_is_noticed(monkeypatch):
    store = stored(ALICE)
    monkeypatch.setattr(store, "get", lambda name: b"old")
    with pytest.raises(Damaged, match="as it was written"):
        slots._store(store, passphrase_slot(RING, BOB, label="", argon2=CHEAP))


# --- interrupted ---

CHANGES = {
    "add": lambda store, ring: add(store, NEW, ring),
    "add-recovery": lambda store, ring: slots.add_recovery(store, ring, OTHER_KEY.public),
    "remove": lambda store, ring: slots.remove(
        store,
        ID,
        next(slot.id for slot in slots.list_slots(store, ID).slots if slot.label == "of bob's"),
        proof=ALICE,
    ),
    "change": lambda store, ring: slots.change_passphrase(store, ID, ALICE, NEW, argon2=CHEAP),
    "rotate": lambda store, ring: rotate(store, ring, ALICE, drop_others=True),
    "rotate-new": lambda store, ring: rotate(store, ring, NEW, drop_others=True),
}


def number_of_calls(change):
    store = stored(ALICE, BOB, keys=[KEY, RecoveryKey.generate()])
    before = len(store.calls)
    change(store, RING)
    return before, len(store.calls)


@pytest.mark.parametrize("done", [False, True], ids=["without-effect", "with-effect"])
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_change_that_fails_anywhere_leaves_a_repository_that_opens(name, done):
    change = CHANGES[name]
    first, end = number_of_calls(change)
    assert end - first >= 5
    for number in range(first, end):
        store = stored(ALICE, BOB, keys=[KEY, RecoveryKey.generate()])
        store.fail_at, store.done = number, done
        try:
            change(store, RING)
        except Unavailable:
            pass
        else:
            assert done, "only an effect that is there can hide a failure"
        store.fail_at = None
        rings = {secret: opens(store, secret) for secret in (ALICE, NEW)}
        best = max((ring for ring in rings.values() if ring), key=lambda ring: ring.newest_epoch)
        by_key = opens(store, KEY)
        assert by_key is not None
        # Whatever a passphrase's owner wrote, the recovery key reads.
        for ring in rings.values():
            assert ring is None or ring.epochs.items() <= by_key.epochs.items()
        assert best.epochs[1] == RING.epochs[1]


@pytest.mark.parametrize("done", [False, True], ids=["without-effect", "with-effect"])
@pytest.mark.parametrize("name", ["rotate", "rotate-new"])
def test_a_rotation_that_was_interrupted_is_done_again(name, done):
    change = CHANGES[name]
    first, end = number_of_calls(change)
    for number in range(first, end):
        store = stored(ALICE, BOB, keys=[KEY, RecoveryKey.generate()])
        store.fail_at, store.done = number, done
        with contextlib.suppress(Unavailable):
            change(store, RING)
        store.fail_at = None
        ring = opens(store, NEW) or opens(store, ALICE)
        last = change(store, ring)
        passphrase = ALICE if name == "rotate" else NEW
        assert opens(store, passphrase) == opens(store, KEY) == last
        assert last.newest_epoch > 1
        assert ring.epochs.items() <= last.epochs.items()
        assert len(store.objects) == 3
        assert all(slot.is_of(last) for slot in slots.list_slots(store, ID).slots)


def test_nothing_is_removed_before_what_replaces_it_is_there():
    for change in (CHANGES["change"], CHANGES["rotate"], CHANGES["rotate-new"]):
        store = stored(ALICE, BOB, keys=[KEY])
        del store.calls[:]
        change(store, RING)
        verbs = [call.split()[0] for call in store.calls]
        assert "put" not in verbs[verbs.index("delete") :]
        puts = [call for call in store.calls if call.startswith("put")]
        assert all(f"get {call.split()[1]}" in store.calls for call in puts)
