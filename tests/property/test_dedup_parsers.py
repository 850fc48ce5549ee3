"""What a store may hand out: every parser of the dedup format takes it, or says that it is bad.

Nothing else may come of it: no other error, and no object that reads differently from what
was written.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.errors import Damaged, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.index_objects import decode_index, encode_index
from sendense.repository.dedup.nodes import (
    Slot,
    decode_inner,
    decode_leaf,
    encode_inner,
    encode_leaf,
    height,
    hooks_of,
    leaf_count,
)
from sendense.repository.dedup.packs import (
    HEADER_BYTES,
    PackCipher,
    decode_directory,
    encode_directory,
    header_bytes,
    parse_header,
    parse_trailer,
    read_directory,
    tail_bytes,
)
from tests.support.dedup_records import FixedKeys, chunk, closed, head, leaf, number_id

REFUSED = (Damaged, Unsupported)
few_ids = st.integers(0, 9).map(number_id)
ids = few_ids | st.binary(min_size=32, max_size=32)
hooks = st.lists(st.integers(0, 2**64 - 1), max_size=fmt.HOOKS).map(tuple)


@st.composite
def slots(draw):
    """A block alone, or one of several in a chunk."""
    digest = draw(ids)
    chunk_of = draw(st.just(digest) | ids)
    number = 0 if chunk_of == digest else draw(st.integers(0, fmt.CHUNK_BLOCKS - 1))
    return Slot(chunk_of, number, digest)


leaves = st.lists(st.none() | slots(), max_size=64).filter(any)
children = st.lists(st.none() | ids, max_size=64).filter(any)


@st.composite
def pack_records(draw, number=1):
    """A pack with a few records, in any distance."""
    kind = draw(st.sampled_from(PackKind))
    offset = HEADER_BYTES
    entries = []
    for record in draw(st.lists(ids, unique=True, max_size=6)):
        offset += draw(st.integers(0, 100))
        if kind is PackKind.META:
            entries.append(leaf(record, offset, draw(hooks), draw(st.integers(1, 4235))))
        else:
            blocks = draw(st.integers(1, fmt.CHUNK_BLOCKS))
            stored = draw(st.none() | st.integers(17, blocks * fmt.BLOCK + 15))
            entries.append(chunk(record, offset, blocks, stored))
        offset += entries[-1].stored
    return closed(head(number, kind, draw(st.integers(1, 65535))), entries)


@st.composite
def indexes(draw):
    return [draw(pack_records(number)) for number in range(draw(st.integers(0, 4)))]


def mutated(data, changes):
    """Change, cut and prolong bytes."""
    made = bytearray(data)
    for kind, place, value in changes:
        at = place % (len(made) + 1)
        if kind == "flip" and at < len(made):
            made[at] ^= 1 << value % 8
        elif kind == "set" and at < len(made):
            made[at] = value
        elif kind == "cut":
            del made[at:]
        elif kind == "add":
            made.insert(at, value)
    return bytes(made)


changes = st.lists(
    st.tuples(
        st.sampled_from(("flip", "set", "set", "cut", "add")),
        st.integers(0, 1 << 16) | st.integers(0, 30),
        st.integers(0, 255),
    ),
    max_size=4,
)


# --- what was written is read ---


@given(leaves)
@settings(deadline=None)
def test_leaves_come_back(told):
    data = encode_leaf(told)
    assert decode_leaf(data) == told + [None] * (64 - len(told))
    assert encode_leaf(decode_leaf(data)) == data
    assert len(hooks_of(told)) == min(4, len({slot.digest for slot in told if slot}))


@given(st.integers(1, fmt.MAX_LEVEL), children)
@settings(deadline=None)
def test_inner_nodes_come_back(level, told):
    data = encode_inner(level, told)
    assert decode_inner(data) == (level, told + [None] * (64 - len(told)))


@given(st.integers(0, 1 << 52))
def test_a_tree_is_no_higher_than_its_disk_needs(size):
    level = height(size)
    assert fmt.FAN_OUT**level >= leaf_count(size)
    assert level == 0 or fmt.FAN_OUT ** (level - 1) < leaf_count(size)
    assert (leaf_count(size) - 1) * fmt.LEAF_BYTES < size <= leaf_count(size) * fmt.LEAF_BYTES or (
        size == leaf_count(size) == 0
    )


@given(pack_records())
@settings(deadline=None)
def test_directories_come_back(record: PackRecord):
    data = encode_directory(record.entries)
    assert tuple(decode_directory(data, len(record.entries))) == record.entries
    assert parse_header(header_bytes(record.head)) == record.head
    cipher = PackCipher(FixedKeys(), record.head)
    tail = tail_bytes(cipher, record.entries)
    assert tuple(read_directory(cipher, record.head, record.size, tail)) == record.entries


@given(indexes())
@settings(deadline=None)
def test_index_objects_come_back(packs):
    assert decode_index(encode_index(packs)) == packs


# --- what was not written is refused, or has one spelling all the same ---


def taken(read, *arguments):
    """Give what a parser makes of something; none where it refuses it."""
    try:
        return read(*arguments)
    except REFUSED:
        return None


def only_what_encoding_gives(data):
    """Ask all parsers of plain bytes."""
    slots_read = taken(decode_leaf, data)
    if slots_read is not None:
        assert encode_leaf(slots_read) == data
    inner = taken(decode_inner, data)
    if inner is not None:
        assert encode_inner(*inner) == data
    packs = taken(decode_index, data)
    if packs is not None:
        assert encode_index(packs) == data
    for count in (0, 1, 2):
        entries = taken(decode_directory, data, count)
        if entries is not None:
            assert encode_directory(entries) == data
    of = taken(parse_header, data)
    if of is not None:
        assert header_bytes(of) == data[:HEADER_BYTES]
    taken(parse_trailer, data)


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_any_bytes(data):
    only_what_encoding_gives(data)


@given(leaves.map(encode_leaf), changes)
@settings(deadline=None, max_examples=300)
def test_changed_leaves(data, how):
    only_what_encoding_gives(mutated(data, how))


@given(st.integers(1, fmt.MAX_LEVEL), children, changes)
@settings(deadline=None)
def test_changed_inner_nodes(level, told, how):
    only_what_encoding_gives(mutated(encode_inner(level, told), how))


@given(indexes().map(encode_index), changes)
@settings(deadline=None, max_examples=300)
def test_changed_index_objects(data, how):
    only_what_encoding_gives(mutated(data, how))


@given(pack_records(), changes)
@settings(deadline=None, max_examples=300)
def test_changed_directories(record, how):
    only_what_encoding_gives(mutated(encode_directory(record.entries), how))


@given(pack_records(), changes)
@settings(deadline=None, max_examples=300)
def test_a_changed_pack_is_damage_or_the_same(record, how):
    cipher = PackCipher(FixedKeys(), record.head)
    tail = tail_bytes(cipher, record.entries)
    changed = mutated(tail, how)
    if len(changed) < 12:
        return
    try:
        found = read_directory(cipher, record.head, record.size, changed)
    except REFUSED:
        assert changed != tail
    except ValueError as error:
        assert "are not the directory" in str(error)  # noqa: PT017 - less than the trailer says
    else:
        assert tuple(found) == record.entries
        assert changed.endswith(tail)


@given(st.binary(min_size=1, max_size=60), changes)
@settings(deadline=None)
def test_a_changed_record_is_damage_or_the_same(content, how):
    entry = leaf(number_id(1), HEADER_BYTES, length=len(content))
    cipher = PackCipher(FixedKeys(), head(1, PackKind.META))
    pack = bytearray(HEADER_BYTES + entry.stored)
    cipher.encrypt_into(entry, content, memoryview(pack))
    stored = bytes(pack[HEADER_BYTES:])
    changed = mutated(stored, how)
    target = bytearray(len(content))
    if changed == stored:
        cipher.read_into(entry, changed, memoryview(target))
        assert target == content
    else:
        with pytest.raises(Damaged):
            cipher.read_into(entry, changed, memoryview(target))
