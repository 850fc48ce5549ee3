"""The header is read before there is a key, and proved afterwards."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense import __version__
from sendense.errors import AlreadyExists, Damaged, NotFound, Rejected, SendenseError, Unsupported
from sendense.model.secret import Secret
from sendense.repository.dedup.header import (
    LEVELS,
    check_header,
    parse_header,
    read_header,
    write_header,
)
from sendense.repository.dedup.keys import KeyRing
from tests.support.fragile_store import FragileStore

ID = "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f"
RING = KeyRing(ID, Secret(bytes(range(32))), {1: Secret(b"\x11" * 32)})
NAME = "sendense-repository"
MADE = datetime(2026, 1, 31, 12, 0, 0, 5, UTC)

VECTOR = b"""{
 "compression_level": 3,
 "created_at": "2026-01-31T12:00:00.000005Z",
 "format": "sendense-dedup",
 "id": "5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f",
 "mac": "32c6af616651520ffe02ce53fa66a2c3fda687c8afdbd260304dd20751eda58c",
 "program": "0.1.0",
 "version": 1
}
"""


def made(level: int | None = 3) -> FragileStore:
    store = FragileStore()
    write_header(store, RING, created_at=MADE, compression_level=level)
    return store


def changed(**fields: object) -> bytes:
    return json.dumps({**json.loads(made().objects[NAME]), **fields}).encode()


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_read_as_written(level):
    store = made(level)
    header = read_header(store)
    check_header(header, RING)
    assert (header.id, header.created_at, header.compression_level) == (ID, MADE, level)
    assert header.program == __version__
    check_header(header, RING.next_epoch())


def test_a_header_never_changes():
    header = parse_header(VECTOR)
    check_header(header, RING)
    assert header.program == "0.1.0"


def test_a_level_that_is_none():
    for level in (0, 20, -1):
        with pytest.raises(Rejected, match="no compression level"):
            made(level)


def test_it_is_written_once():
    store = made()
    with pytest.raises(AlreadyExists, match="memory:test"):
        write_header(store, KeyRing.create(ID), created_at=MADE, compression_level=3)
    assert parse_header(store.objects[NAME]) == read_header(made())


def test_an_answer_that_was_lost_is_no_error():
    store = made()
    write_header(store, RING, created_at=MADE, compression_level=3)


def test_fields_of_a_later_version_are_covered():
    content = json.loads(made().objects[NAME])
    header = parse_header(json.dumps({**content, "later": [1.5, "é\ud800"]}).encode())
    with pytest.raises(Damaged, match="changed"):
        check_header(header, RING)


def test_layout_does_not_matter():
    content = json.loads(made().objects[NAME])
    check_header(parse_header(json.dumps(content, indent=8).encode()), RING)


def test_every_flipped_bit_and_every_cut():
    good = made().objects[NAME]
    for place in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        if bytes(flipped).split() == good.split():
            continue  # another white space
        with pytest.raises((Damaged, Rejected)):
            check_header(parse_header(bytes(flipped)), RING)
    for length in range(len(good) - 1):
        with pytest.raises(Damaged):
            parse_header(good[:length])


def test_another_repository():
    header = read_header(made())
    with pytest.raises(Damaged, match="the key ring is of repository"):
        check_header(header, KeyRing.create("5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e60"))
    with pytest.raises(Damaged, match="changed"):
        check_header(header, KeyRing.create(ID))


def test_a_newer_version_says_who_made_it():
    with pytest.raises(Unsupported, match=r"version 2; known is 1\), made by sendense 9\.1") as e:
        parse_header(changed(version=2, program="9.1"))
    assert e.value.hint
    with pytest.raises(Unsupported, match="unknown version"):
        parse_header(changed(version=2, program="\x1b[31m"))


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"id": "x"},
        {"id": ID.upper()},
        {"id": None},
        {"created_at": "yesterday"},
        {"created_at": 5},
        {"compression_level": 20},
        {"compression_level": True},
        {"compression_level": "3"},
        {"mac": None},
        {"mac": "0"},
        {"mac": "é" * 64},
    ],
)
def test_values_that_cannot_be(fields):
    with pytest.raises(Damaged, match=NAME):
        parse_header(changed(**fields))


@pytest.mark.parametrize("field", ["id", "created_at", "compression_level", "mac", "version"])
def test_a_field_that_is_missing(field):
    content = json.loads(made().objects[NAME])
    del content[field]
    with pytest.raises(Damaged):
        parse_header(json.dumps(content).encode())


@given(st.binary(max_size=100))
def test_any_bytes(data):
    with pytest.raises(SendenseError):
        parse_header(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["format", "version", "id", "created_at", "compression_level", "mac", "program", "other"]
)


@given(st.dictionaries(FIELDS, JSON, min_size=1, max_size=4))
def test_any_json(fields):
    try:
        check_header(parse_header(changed(**fields)), RING)
    except SendenseError:
        return
    assert not (fields.keys() - {"version", "program", "compression_level"})


def test_not_there():
    with pytest.raises(NotFound, match="no repository in memory:test") as caught:
        read_header(FragileStore({"other": b""}))
    assert "repo init" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("sendense-repository.json", b"{}", "QCOW2"),
        ("kopia.repository", b"{}", "Kopia"),
        ("kopia.repository.f", b"{}", "Kopia"),
        ("config", b"[repository]\nversion = 1\n", "Borg"),
        ("config", bytes(155), "restic"),
    ],
)
def test_what_is_there_instead(name, data, what):
    with pytest.raises(Rejected, match=what) as caught:
        read_header(FragileStore({name: data, "keys/x": b""}))
    assert not isinstance(caught.value, NotFound)
    assert caught.value.hint


def test_another_format_under_our_name():
    with pytest.raises(Rejected, match="does not describe a dedup repository"):
        parse_header(changed(format="sendense-repository"))


def test_a_header_that_was_lost():
    slot = {"keys/" + "0" * 32: b"{}"}
    for name in ("packs/00/x", "index/x", "points/x/y"):
        with pytest.raises(Damaged, match="lost its header"):
            read_header(FragileStore({**slot, name: b""}))
    with pytest.raises(NotFound, match="that was begun") as caught:
        read_header(FragileStore(slot))
    assert "keys/*" in (caught.value.hint or "")


def test_a_header_without_end_is_not_read():
    store = FragileStore({NAME: bytes(1024 * 1024 + 1)})
    with pytest.raises(Damaged, match="size"):
        read_header(store)
    assert not any(call.startswith("get") for call in store.calls)


def test_the_mac_is_not_shown():
    header = read_header(made())
    assert header.mac not in repr(header)
