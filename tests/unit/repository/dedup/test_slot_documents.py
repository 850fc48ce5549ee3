"""A key slot opens with its secret, as it was written, or not at all."""

from __future__ import annotations

import base64
import json
import unicodedata
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Damaged, Rejected, Unavailable, Unsupported
from sendense.model.secret import Secret
from sendense.repository.dedup import slot_documents, slot_wrapping
from sendense.repository.dedup.canonical_json import Content
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.recovery import RecoveryKey
from sendense.repository.dedup.slot_documents import (
    Slot,
    SlotKind,
    parse_slot,
    passphrase_slot,
    recovery_slot,
)
from sendense.repository.dedup.slot_wrapping import STANDARD, Argon2

ID = "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f"
RING = KeyRing(ID, Secret(bytes(range(32))), {1: Secret(b"\x11" * 32), 3: Secret(b"\x33" * 32)})
PASSPHRASE = Secret("correct horse battery")
KEY = RecoveryKey(Secret(bytes(range(32))))
CHEAP = Argon2(memory_kib=8, passes=1, lanes=1)


def by_passphrase() -> Slot:
    return passphrase_slot(RING, PASSPHRASE, label="nightly", argon2=CHEAP)


def by_recovery() -> Slot:
    return recovery_slot(RING, KEY.public, label="safe")


BOTH = pytest.mark.parametrize(
    ("make", "secret"), [(by_passphrase, PASSPHRASE), (by_recovery, KEY)], ids=["pass", "recovery"]
)


def again(slot: Slot) -> Slot:
    return parse_slot(slot.to_bytes(), slot.name, ID)


def opened(data: bytes, name: str, secret: Secret | RecoveryKey) -> KeyRing | None:
    return parse_slot(data, name, ID).open_with(secret)


@BOTH
def test_read_as_written(make, secret):
    slot = make()
    assert again(slot) == slot
    assert again(slot).open_with(secret) == RING
    assert slot.is_of(RING)
    assert slot.generation == 3


def test_slots_never_change():
    vectors: list[tuple[Content, Secret | RecoveryKey]]
    vectors = [(PASSPHRASE_VECTOR, PASSPHRASE), (RECOVERY_VECTOR, KEY)]
    for content, secret in vectors:
        data = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
        slot = parse_slot(data, f"keys/{content['id']}", ID)
        assert slot.open_with(secret) == RING
        assert slot.to_bytes() == data


PASSPHRASE_VECTOR = {
    "created_at": "2026-11-23T07:50:51.773342Z",
    "format": "sendense-key-slot",
    "generation": 3,
    "id": "3161849ed9b69fba0e771c16284b8b85",
    "kdf": {
        "lanes": 1,
        "memory_kib": 8,
        "name": "argon2id",
        "passes": 1,
        "salt": "2c7b20da72e28e9ffa9e672b05f56e28",
    },
    "kind": "passphrase",
    "label": "nightly",
    "mac": "1a3958ba98c4301ec520e04075dde426a2c697da9291d9d4a6b29d3d6d3adf97",
    "nonce": "d98ec188168364212ea350f1",
    "repository": "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f",
    "version": 1,
    "wrapped": (
        "ME+YFgo6SaKvGDJf6SPIk7mpNLA9gOCXxaRokmknZjisrWs7mD3v4gdORNF3xC2Mim2NF/RTDWMK"
        "jh9VEyGOiH5wKJDERHGSTZttlUhxPsPJv5Wtb8Q104tRppP3hqLgGvvwkDu1GPyqqA3Cft7u+ydc"
        "/E2hqVmpW5+Dga6zWiZi0VL2vTEki/b5cA=="
    ),
}
RECOVERY_VECTOR = {
    "created_at": "2026-11-23T07:50:51.773553Z",
    "format": "sendense-key-slot",
    "generation": 3,
    "hpke": "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM",
    "id": "7ddf305aa52f51ad34ffd221d7f2fa9d",
    "kind": "recovery",
    "label": "safe",
    "mac": "77f9649bc044ce72219dd19f85b6435397202f315062611caa1590804a0a08c3",
    "public_key": "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f",
    "repository": "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f",
    "version": 1,
    "wrapped": (
        "PphkHhcmwtG/HXwbZogk13HhPBh9NCpwZiPE5k8Lrw4og29QmtBXj7dr/NJGJki07rpMHtXU72r1"
        "RToIxbIa6X3un6tvGw2PUq15zk1KGoX/Ra1hQ8bsQxV4JzJ2+NWAXMaZyJ/laz6MfAbdGteWjhRZ"
        "z/c7DAGxUHG5lGK9QL9l+t0Rl1xtsCojWAsp84kfNh9r/PlqU6Njw5akT1prtSXKuwEH39LsUyiM"
    ),
}


def test_the_cost_of_a_guess_by_default():
    assert Argon2(memory_kib=65536, passes=3, lanes=4) == STANDARD
    slot = passphrase_slot(RING, PASSPHRASE, label="")
    assert slot.argon2 == STANDARD
    assert again(slot).open_with(PASSPHRASE) == RING


def test_a_passphrase_slot_is_what_the_format_says():
    content = json.loads(by_passphrase().to_bytes())
    wrapped = base64.b64decode(content.pop("wrapped"))
    del content["mac"]
    bound = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    kdf = content["kdf"]
    key = Argon2id(
        salt=bytes.fromhex(kdf["salt"]),
        length=32,
        iterations=kdf["passes"],
        lanes=kdf["lanes"],
        memory_cost=kdf["memory_kib"],
    ).derive(PASSPHRASE.reveal())
    ring = AESGCM(key).decrypt(bytes.fromhex(content["nonce"]), wrapped, bound)
    assert ring == RING.to_bytes()
    assert len(kdf["salt"]) == 32


def test_a_recovery_slot_is_what_rfc_9180_says():
    """HPKE base mode by its own parts: DHKEM(X25519), HKDF-SHA256, AES-256-GCM."""
    content = json.loads(by_recovery().to_bytes())
    wrapped = base64.b64decode(content.pop("wrapped"))
    del content["mac"]
    info = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert hpke_open(KEY.private.reveal(), wrapped, info) == RING.to_bytes()


def hpke_open(private: bytes, wrapped: bytes, info: bytes) -> bytes:
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"

    def extract(of: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
        mac = HMAC(salt or bytes(32), hashes.SHA256())
        mac.update(b"HPKE-v1" + of + label + secret)
        return mac.finalize()

    def expand(of: bytes, key: bytes, label: bytes, what: bytes, length: int) -> bytes:
        labeled = length.to_bytes(2, "big") + b"HPKE-v1" + of + label + what
        return HKDFExpand(hashes.SHA256(), length, labeled).derive(key)

    encapsulated, ciphertext = wrapped[:32], wrapped[32:]
    key = X25519PrivateKey.from_private_bytes(private)
    shared = key.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    both = encapsulated + key.public_key().public_bytes_raw()
    secret = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", both, 32)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"")
    context += extract(suite, b"", b"info_hash", info)
    schedule = extract(suite, secret, b"secret", b"")
    cipher = AESGCM(expand(suite, schedule, b"key", context, 32))
    return cipher.decrypt(expand(suite, schedule, b"base_nonce", context, 12), ciphertext, b"")


@BOTH
def test_another_secret(make, secret):
    slot = make()
    others = (
        Secret("correct horse batterY"),
        Secret(""),
        Secret(b"\xff\xfe"),
        RecoveryKey.generate(),
    )
    assert [slot.open_with(other) for other in others] == [None] * 4


def test_one_passphrase_however_its_letters_are_typed():
    composed = unicodedata.normalize("NFC", "Überraschung é")
    slot = passphrase_slot(RING, Secret(composed), label="", argon2=CHEAP)
    assert slot.open_with(Secret(unicodedata.normalize("NFD", composed))) == RING
    assert slot.open_with(Secret(composed.lower())) is None


def test_without_memory_it_is_said_how_much_is_needed(monkeypatch):
    def derive(secret):
        raise MemoryError

    slot = by_passphrase()
    monkeypatch.setattr(slot_wrapping, "Argon2id", lambda **_: SimpleNamespace(derive=derive))
    with pytest.raises(Unavailable, match="0 MiB of memory"):
        slot.open_with(PASSPHRASE)


def test_a_passphrase_that_is_no_text():
    data = Secret(b"\xff\xfe\x00binary\x80")
    assert passphrase_slot(RING, data, label="", argon2=CHEAP).open_with(data) == RING


def test_a_new_passphrase_is_long_enough():
    for short in ("", "seven77", "ééééééé"):
        with pytest.raises(Rejected, match="too short") as caught:
            passphrase_slot(RING, Secret(short), label="", argon2=CHEAP)
        assert "short" not in short
        assert not short or short not in caught.value.message


@BOTH
def test_every_flipped_bit_and_every_cut(make, secret):
    slot = make()
    good = slot.to_bytes()
    for place in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        if bytes(flipped).split() == good.split():
            continue  # another white space
        try:
            ring = opened(bytes(flipped), slot.name, secret)
        except (Damaged, Unsupported):
            continue
        assert ring is None
    for length in range(len(good) - 1):
        with pytest.raises(Damaged):
            parse_slot(good[:length], slot.name, ID)


@BOTH
def test_every_field_is_authenticated(make, secret):
    slot = make()
    content = json.loads(slot.to_bytes())
    changes = {
        "label": "other",
        "created_at": "2026-01-31T12:00:00.000000Z",
        "generation": 2,
        "later": 1,
        "mac": "0" * 64,
    }
    for key, value in changes.items():
        data = json.dumps({**content, key: value}).encode()
        changed = parse_slot(data, slot.name, ID)
        assert not changed.is_of(RING)
        try:
            assert changed.open_with(secret) is None
        except Damaged:
            assert key == "mac"


def test_a_slot_that_a_stranger_made_for_the_recovery_key():
    """Anybody can encrypt something for a public key; the ring that is inside then is another."""
    stranger = KeyRing.create(ID)
    slot = recovery_slot(stranger, KEY.public, label="safe")
    assert not slot.is_of(RING)
    assert stranger.fingerprint != RING.fingerprint


def test_under_another_name_and_in_another_repository():
    slot = by_passphrase()
    with pytest.raises(Damaged, match="another's name"):
        parse_slot(slot.to_bytes(), "keys/" + "0" * 32, ID)
    with pytest.raises(Damaged, match="another repository"):
        parse_slot(slot.to_bytes(), slot.name, "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e60")


@BOTH
def test_a_ring_that_is_not_what_the_slot_states(make, secret, monkeypatch):
    other = KeyRing.create("5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e60")
    monkeypatch.setattr(KeyRing, "to_bytes", lambda self: b"no ring")
    with pytest.raises(Damaged, match="key ring"):
        make().open_with(secret)
    monkeypatch.undo()
    good = other.to_bytes()
    monkeypatch.setattr(KeyRing, "to_bytes", lambda self: good)
    with pytest.raises(Damaged, match="does not hold what it states"):
        make().open_with(secret)


def test_a_newer_version():
    content = json.loads(by_passphrase().to_bytes())
    with pytest.raises(Unsupported, match="newer version"):
        parse_slot(json.dumps({**content, "version": 2}).encode(), "keys/" + content["id"], ID)


@pytest.mark.parametrize(
    "argon2",
    [
        Argon2(memory_kib=100 * 1024 * 1024, passes=1, lanes=1),
        Argon2(memory_kib=1024 * 1024, passes=5, lanes=1),
        Argon2(memory_kib=65536, passes=1_000_000, lanes=1),
        Argon2(memory_kib=65536, passes=3, lanes=17),
        Argon2(memory_kib=7, passes=1, lanes=1),
        Argon2(memory_kib=31, passes=1, lanes=4),
        Argon2(memory_kib=64, passes=0, lanes=1),
        Argon2(memory_kib=64, passes=1, lanes=0),
        Argon2(memory_kib=-1, passes=-1, lanes=-1),
    ],
)
def test_a_cost_that_would_take_the_machine_down(argon2):
    content = json.loads(by_passphrase().to_bytes())
    content["kdf"] |= vars(argon2)
    with pytest.raises(Damaged, match="cannot be what was written"):
        parse_slot(json.dumps(content).encode(), "keys/" + content["id"], ID)
    with pytest.raises(Rejected):
        passphrase_slot(RING, PASSPHRASE, label="", argon2=argon2)


@pytest.mark.parametrize("argon2", [STANDARD, CHEAP, Argon2(1024 * 1024, 4, 16)])
def test_a_cost_that_is_accepted(argon2):
    assert argon2.acceptable()


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "other"},
        {"version": 0},
        {"version": True},
        {"id": "x"},
        {"id": None},
        {"repository": 5},
        {"kind": "other"},
        {"kind": []},
        {"label": None},
        {"label": "a\nb"},
        {"label": "\x1b[31m"},
        {"label": "x" * 129},
        {"created_at": 1},
        {"created_at": "now"},
        {"generation": 0},
        {"generation": 65536},
        {"generation": True},
        {"generation": 1.0},
        {"kdf": None},
        {"kdf": {}},
        {"nonce": ""},
        {"nonce": "zz" * 12},
        {"wrapped": "!"},
        {"wrapped": ""},
        {"wrapped": 5},
        {"mac": "é"},
        {"mac": 5},
        {"mac": None},
        {"kind": "recovery"},
        {"kind": "recovery", "hpke": "other", "public_key": "00" * 32},
        {"kind": "recovery", "hpke": slot_documents._HPKE, "public_key": "00" * 31},
    ],
)
def test_values_that_cannot_be(fields):
    slot = by_passphrase()
    content = {**json.loads(slot.to_bytes()), **fields}
    with pytest.raises(Damaged, match=slot.name):
        parse_slot(json.dumps(content).encode(), slot.name, ID)


def test_a_label_that_cannot_be_shown():
    for label in ("a\nb", "\x1b[31m", "x" * 129, "\ud800"):
        with pytest.raises(Rejected, match="printable"):
            passphrase_slot(RING, PASSPHRASE, label=label, argon2=CHEAP)
    assert again(passphrase_slot(RING, PASSPHRASE, label="Jürgen", argon2=CHEAP)).label == "Jürgen"


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), b"\x01" + bytes(31)])
def test_a_public_key_that_is_none(public):
    with pytest.raises(Rejected, match="no public key"):
        recovery_slot(RING, public, label="")


@given(st.binary(max_size=100))
def test_any_bytes(data):
    with pytest.raises(Damaged):
        parse_slot(data, "keys/" + "0" * 32, ID)


GOOD = {
    kind: json.loads(make().to_bytes())
    for kind, make in (("passphrase", by_passphrase), ("recovery", by_recovery))
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
    | st.sampled_from(["passphrase", "recovery", "00" * 12, "00" * 16, "00" * 32, "A" * 64]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "memory_kib", "passes", "lanes", "salt"]), inner),
    max_leaves=5,
)  # fmt: skip


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_json(kind, data):
    good = GOOD[kind]
    keys = st.sampled_from(sorted({*GOOD["passphrase"], *GOOD["recovery"], "other"}))
    content = {**good, **data.draw(st.dictionaries(keys, JSON, min_size=1, max_size=3))}
    for key in data.draw(st.sets(keys, max_size=1)):
        content.pop(key, None)
    try:
        slot = parse_slot(json.dumps(content).encode(), "keys/" + good["id"], ID)
        rings = [slot.open_with(PASSPHRASE), slot.open_with(KEY)]
    except (Damaged, Unsupported):
        return
    assert rings == [None, None] or content == good


def test_nothing_of_it_is_shown():
    for make in (by_passphrase, by_recovery):
        slot = make()
        assert slot.content["wrapped"] not in repr(slot)
        assert "wrapped" not in repr(slot)
    assert by_recovery().kind is SlotKind.RECOVERY
