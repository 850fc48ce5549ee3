"""A sealed object opens as what it was sealed as, where it was, or not at all."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Damaged, NotAllowed, SendenseError, Unsupported
from sendense.model.secret import Secret
from sendense.repository.dedup import sealing
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.sealing import seal, seal_json, unseal, unseal_json
from sendense.units import MIB

ID = "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f"
OTHER_ID = "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e60"
NAME = "leases/00112233445566778899aabbccddeeff"
KIND = SealedKind.LEASE
RING = KeyRing(ID, Secret(bytes(range(32))), {1: Secret(b"\x11" * 32)})
FRAME = bytes.fromhex("28b52ffd200529000068656c6c6f")
"""A zstd frame of "hello", uncompressed."""


def framed(frame: bytes, *, name: str = NAME, ring: KeyRing = RING) -> bytes:
    """Seal a frame that need not be a good one."""
    return sealing._sealed(ring, name, sealing._head(KIND, ring.newest_epoch), bytes(12), frame)


def test_a_sealed_object_never_changes():
    sealed = framed(FRAME)
    assert sealed.hex() == VECTOR
    assert unseal(RING, NAME, KIND, sealed) == b"hello"


VECTOR = (
    "534e44530104010000000000000000000000000075804ac453acf47b086a3fe24203fd35c7b232e5"
    "4c2564edafc8a3b6aaca"
)


def test_it_is_what_the_format_says():
    sealed = seal(RING, NAME, KIND, b"hello" * 100)
    assert sealed[:8] == b"SNDS\x01\x04\x01\x00"
    bound = ID.encode() + b"\0" + NAME.encode() + b"\0" + sealed[:8]
    frame = AESGCM(RING.sealing_key(1)).decrypt(sealed[8:20], sealed[20:], bound)
    assert zstandard.ZstdDecompressor().decompress(frame) == b"hello" * 100
    assert len(sealed) == 8 + 12 + len(frame) + 16


def test_the_nonce_is_another_each_time():
    assert len({seal(RING, NAME, KIND, b"")[8:20] for _ in range(50)}) == 50


@given(st.binary(max_size=500), st.sampled_from(SealedKind), st.integers(1, 3))
def test_read_as_written(payload, kind, epochs):
    ring = RING
    for _ in range(epochs - 1):
        ring = ring.next_epoch()
    sealed = seal(ring, NAME, kind, payload)
    assert unseal(ring.next_epoch(), NAME, kind, sealed) == payload


def test_every_flipped_bit_and_every_cut():
    good = seal(RING, NAME, KIND, b"a payload")
    for place in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(SendenseError) as caught:
            unseal(RING, NAME, KIND, bytes(flipped))
        # A version or an epoch that is higher might be true, and is said to be unknown.
        expected = {4: (Damaged, Unsupported), 6: (Damaged, NotAllowed), 7: (NotAllowed,)}
        assert isinstance(caught.value, expected.get(place // 8, (Damaged,)))
        assert NAME in caught.value.message or "epoch" in caught.value.message
    for length in range(len(good)):
        with pytest.raises(Damaged):
            unseal(RING, NAME, KIND, good[:length])
    with pytest.raises(Damaged):
        unseal(RING, NAME, KIND, good + b"\0")


def test_under_another_name_of_another_kind_or_repository():
    good = seal(RING, NAME, KIND, b"a payload")
    with pytest.raises(Damaged, match="under this name"):
        unseal(RING, NAME + "0", KIND, good)
    with pytest.raises(Damaged, match="not what its name says"):
        unseal(RING, NAME, SealedKind.POINT, good)
    same_secrets = KeyRing(OTHER_ID, RING.identity, RING.epochs)
    other_secrets = KeyRing.create(ID)
    for ring in (same_secrets, other_secrets):
        with pytest.raises(Damaged):
            unseal(ring, NAME, KIND, good)


def test_a_name_and_what_follows_cannot_be_shifted():
    """No other pair of repository and name gives the same authenticated data."""
    head = sealing._head(KIND, 1)
    assert sealing._bound(RING, "a", head) != sealing._bound(RING, "a\0", head)
    assert sealing._bound(RING, "a", head).count(b"\0" + b"a" + b"\0") == 1


def test_a_newer_version_and_a_newer_key():
    good = bytearray(seal(RING, NAME, KIND, b""))
    good[4] = 2
    with pytest.raises(Unsupported, match=r"newer version \(format 2\)"):
        unseal(RING, NAME, KIND, bytes(good))
    with pytest.raises(NotAllowed, match="epoch 2"):
        unseal(RING, NAME, KIND, seal(RING.next_epoch(), NAME, KIND, b""))


def test_more_than_is_wanted():
    sealed = seal(RING, NAME, KIND, bytes(1000))
    assert unseal(RING, NAME, KIND, sealed, most=1000) == bytes(1000)
    with pytest.raises(Damaged, match="impossible length"):
        unseal(RING, NAME, KIND, sealed, most=999)


def test_nothing_is_sealed_that_no_reader_takes(monkeypatch):
    monkeypatch.setattr(sealing, "MOST", 10)
    with pytest.raises(ValueError, match="larger than any reader"):
        seal(RING, NAME, KIND, bytes(11))


def lying_frame(size: int, content: bytes = b"hello") -> bytes:
    """Give a frame that states ``size`` (eight bytes of it), and holds ``content``."""
    block = struct.pack("<I", len(content) << 3 | 1)[:3] + content
    return b"\x28\xb5\x2f\xfd" + b"\xe0" + struct.pack("<Q", size) + block


@pytest.mark.parametrize("size", [4, 6, 1 * MIB, 255 * MIB, 257 * MIB, 1 << 40, (1 << 64) - 1])
def test_a_frame_that_lies_takes_no_memory(size):
    sealed = framed(lying_frame(size))
    tracemalloc.start()
    with pytest.raises(Damaged):
        unseal(RING, NAME, KIND, sealed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * MIB
    assert unseal(RING, NAME, KIND, framed(lying_frame(5))) == b"hello"


def test_a_frame_that_is_dense_beyond_the_limit():
    zeroes = zstandard.ZstdCompressor().compress(bytes(4 * MIB))
    assert unseal(RING, NAME, KIND, framed(zeroes)) == bytes(4 * MIB)
    with pytest.raises(Damaged):
        unseal(RING, NAME, KIND, framed(zeroes), most=4 * MIB - 1)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x28\xb5\x2f\xfd",
        FRAME[:-1],
        FRAME + b"\0",
        FRAME + FRAME,
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd",  # a frame to be skipped
        zstandard.ZstdCompressor().compress(b"") + b"more",
        lying_frame(0),
        zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100),
    ],
)
def test_what_is_no_frame(frame):
    with pytest.raises(Damaged):
        unseal(RING, NAME, KIND, framed(frame))


@given(st.binary(max_size=100))
def test_any_frame(frame):
    with contextlib.suppress(Damaged):
        unseal(RING, NAME, KIND, framed(frame))


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes(data, magic):
    with pytest.raises(SendenseError) as caught:
        unseal(RING, NAME, KIND, b"SNDS\x01\x04\x01\x00" + data if magic else data)
    assert isinstance(caught.value, Damaged | NotAllowed | Unsupported)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_is_read_as_written(content):
    assert unseal_json(RING, NAME, KIND, seal_json(RING, NAME, KIND, content)) == content


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"1", b"null", b"{", b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b'{"a": [' * 20_000,
     b'{"a":' + b"[" * 70 + b"]" * 70 + b"}"],
)  # fmt: skip
def test_json_that_is_none(payload):
    with pytest.raises(Damaged, match=NAME):
        unseal_json(RING, NAME, KIND, seal(RING, NAME, KIND, payload))


def test_no_secret_in_what_is_said():
    sealed = bytearray(seal_json(RING, NAME, KIND, {"word": "hunter2"}))
    broken = [bytes(sealed[:-1]), seal(RING, NAME, KIND, b'{"word": "hunter2"'), framed(b"hunter2")]
    for data in broken:
        with pytest.raises(Damaged) as caught:
            unseal_json(RING, NAME, KIND, data)
        error: BaseException | None = caught.value
        while error is not None:
            assert "hunter2" not in repr(error) + str(vars(error))
            error = error.__cause__
