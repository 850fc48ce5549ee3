"""The key ring: what is derived from it never changes, and it shows nothing."""

from __future__ import annotations

import copy
import pickle
import uuid

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Damaged, NotAllowed, Rejected
from sendense.model.secret import Secret
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.keys import MAX_EPOCH, KeyRing, is_uuid

ID = "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f"
HEADER = b"SNDP\x01\x01\x01\x00" + bytes(range(16))


def known_ring():
    return KeyRing(ID, Secret(bytes(range(32))), {1: Secret(b"\x11" * 32), 3: Secret(b"\x33" * 32)})


SECRETS = st.binary(min_size=32, max_size=32).map(Secret)
RINGS = st.builds(
    KeyRing,
    st.uuids().map(str),
    SECRETS,
    st.dictionaries(st.integers(1, MAX_EPOCH), SECRETS, min_size=1, max_size=4),
)


def test_the_derived_keys_never_change():
    ring = known_ring()
    assert {
        "block": ring.block_key.hex(),
        "chunk": ring.chunk_key.hex(),
        "node": ring.node_key.hex(),
        "tag": ring.tag_key.hex(),
        "header": ring.header_key.hex(),
        "pack": ring.pack_key(HEADER, 1).hex(),
        "pack, epoch 3": ring.pack_key(HEADER, 3).hex(),
        "sealing": ring.sealing_key(1).hex(),
        "slot": ring.slot_key(1).hex(),
        "machine": ring.machine_tag("00000000-0000-0000-0000-000000000001"),
        "fingerprint": ring.fingerprint,
        "ring": ring.to_bytes().hex(),
    } == VECTORS


VECTORS = {
    "block": "61817767d437c75a543f4790af37e010f7ee37f21e6c6e95e773f61f8492d002",
    "chunk": "0ac7c8f0f2ab115c86c482faa782c539468b18105d04d1ca98af49e7bc7c0e41",
    "node": "03282dc30d1b62f4a6ecf59ccc72586841d86d1c425de74b0c2353c2cdb6abe0",
    "tag": "cb75c2c02120a3e61b9dbd8a471c308f8c575b716ede2773a17d1f5fa173c104",
    "header": "b61216dc00a8b82631472e45c23b050dcd917312b14b6d31f751fa8552ba8545",
    "pack": "0c25b01803d5e53a36142cadef5707fadb8fc5b9fefea285f65f1f1a114ef6c1",
    "pack, epoch 3": "e1e0bc21edeb162826dfa125bac57b34980f44e4a63c77e81f3bde53343bbfb8",
    "sealing": "ccf4629c7c8b06d48b9b6dbd272225ad7ad1635cfa622eca867214c17fe73a3a",
    "slot": "cbf2477731a7abd60614c27e42b7d95e1d4a75cc14642323f327abce2c19e2d8",
    "machine": "5e087dfcb40e4c717ab937dc53334d00",
    "fingerprint": "474b5bf62341903d",
    "ring": (
        "534e444b015f0c1d528b1e4f1c9d7a0a2b3c4d5e6f000102030405060708090a0b0c0d0e0f101112"
        "131415161718191a1b1c1d1e1f020001001111111111111111111111111111111111111111111111"
        "11111111111111111103003333333333333333333333333333333333333333333333333333333333"
        "333333"
    ),
}


def test_they_are_what_the_format_says():
    ring = known_ring()
    block = blake3(bytes(range(32)), derive_key_context="sendense dedup v1 block digest").digest()
    assert ring.block_key == block
    pack = blake3(b"\x33" * 32, derive_key_context="sendense dedup v1 pack secret").digest()
    assert ring.pack_key(HEADER, 3) == blake3(HEADER, key=pack).digest()
    assert ring.machine_tag("x") == blake3(b"x", key=ring.tag_key).digest()[:16].hex()


def test_every_key_is_another():
    ring = known_ring()
    keys = [ring.block_key, ring.chunk_key, ring.node_key, ring.tag_key, ring.header_key]
    for epoch in (1, 3):
        keys += [ring.sealing_key(epoch), ring.slot_key(epoch), ring.pack_key(HEADER, epoch)]
    keys.append(ring.pack_key(HEADER[:-1] + b"\xff", 1))
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 for key in keys)
    contexts = [value for name, value in vars(fmt).items() if name.endswith("_CONTEXT")]
    assert len(set(contexts)) == len(contexts) == 8


def test_created_at_random():
    one, other = KeyRing.create(ID), KeyRing.create(ID)
    assert one != other
    assert one.newest_epoch == 1
    assert one.fingerprint != other.fingerprint
    assert one.repository_id == ID


def test_the_next_epoch_keeps_all_that_was():
    first = KeyRing.create(ID)
    second = first.next_epoch()
    assert second.newest_epoch == 2
    assert second.epochs[1] == first.epochs[1]
    assert second.sealing_key(1) == first.sealing_key(1) != second.sealing_key(2)
    assert second.block_key == first.block_key
    assert second.fingerprint == first.fingerprint
    assert first.newest_epoch == 1
    assert second.next_epoch(above=7).newest_epoch == 8
    assert list(second.next_epoch(above=7).epochs) == [1, 2, 8]


def test_no_epoch_beyond_the_last():
    with pytest.raises(Rejected, match="cannot have another"):
        KeyRing(ID, Secret(bytes(32)), {MAX_EPOCH: Secret(bytes(32))}).next_epoch()


def test_an_epoch_that_the_ring_does_not_hold():
    ring = known_ring()
    for asked in (lambda: ring.sealing_key(4), lambda: ring.pack_key(HEADER, 2)):
        with pytest.raises(NotAllowed, match="does not hold epoch") as caught:
            asked()
        assert "rotated" in (caught.value.hint or "")


def test_a_pack_header_of_another_length():
    with pytest.raises(ValueError, match="24 bytes"):
        known_ring().pack_key(b"short", 1)


@pytest.mark.parametrize(
    ("repository_id", "identity", "epochs"),
    [
        ("no uuid", bytes(32), {1: bytes(32)}),
        (ID.upper(), bytes(32), {1: bytes(32)}),
        (ID, bytes(31), {1: bytes(32)}),
        (ID, bytes(32), {}),
        (ID, bytes(32), {0: bytes(32)}),
        (ID, bytes(32), {MAX_EPOCH + 1: bytes(32)}),
        (ID, bytes(32), {1: bytes(33)}),
    ],
)
def test_what_is_no_ring(repository_id, identity, epochs):
    with pytest.raises(ValueError, match=r"UUID|epochs|secret"):
        KeyRing(repository_id, Secret(identity), {n: Secret(s) for n, s in epochs.items()})


def test_nothing_of_it_is_shown():
    ring = known_ring()
    shown = f"{ring} {ring!r}"
    for secret in (bytes(range(32)), b"\x11" * 32, ring.block_key, ring.sealing_key(1)):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert shown.startswith(f"KeyRing({ID}, epochs 1,3, <secret>)")


def test_it_is_not_pickled_or_changed():
    ring = known_ring()
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(ring)
    with pytest.raises(AttributeError):
        ring.block_key = b""
    with pytest.raises(TypeError):
        ring.epochs[1] = Secret(b"")


def test_the_callers_dictionary_is_not_kept():
    epochs = {1: Secret(bytes(32))}
    ring = KeyRing(ID, Secret(bytes(32)), epochs)
    epochs[2] = Secret(bytes(32))
    assert list(ring.epochs) == [1]


@given(RINGS)
def test_read_as_written(ring):
    again = KeyRing.from_bytes(ring.to_bytes())
    assert again == ring
    assert hash(again) == hash(ring)
    assert again.to_bytes() == ring.to_bytes()
    assert again.sealing_key(ring.newest_epoch) == ring.sealing_key(ring.newest_epoch)


@given(st.binary(max_size=200))
def test_any_bytes(data):
    with pytest.raises(Damaged):
        KeyRing.from_bytes(data)


@given(RINGS, st.data())
def test_changed_bytes_are_damage_or_another_ring(ring, data):
    good = bytearray(ring.to_bytes())
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    try:
        other = KeyRing.from_bytes(bytes(good))
    except Damaged:
        return
    assert other != ring
    assert other.to_bytes() == bytes(good)


def test_every_cut_and_what_follows():
    good = known_ring().to_bytes()
    for length in range(len(good)):
        with pytest.raises(Damaged):
            KeyRing.from_bytes(good[:length])
    for more in (b"\0", good[-34:], good):
        with pytest.raises(Damaged):
            KeyRing.from_bytes(good + more)


def test_epochs_out_of_order_twice_or_none():
    good = known_ring().to_bytes()
    head, first, second = good[:55], good[55:89], good[89:]
    none = head[:-2] + b"\0\0"
    for wrong in (head + second + first, head + first + first, none, none + first + second):
        with pytest.raises(Damaged):
            KeyRing.from_bytes(wrong)
    with pytest.raises(Damaged, match="order"):
        KeyRing.from_bytes(head + b"\0\0" + first[2:] + second)


def test_uuids():
    assert is_uuid(str(uuid.uuid4()))
    for wrong in (None, 1, "", ID.upper(), ID.replace("-", ""), f"{{{ID}}}"):
        assert not is_uuid(wrong)
