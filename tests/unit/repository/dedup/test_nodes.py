"""A node is read as it was written, and has exactly one spelling."""

from __future__ import annotations

import pytest

from sendense.errors import Damaged, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.nodes import (
    LARGEST_NODE,
    Slot,
    decode_inner,
    decode_leaf,
    encode_inner,
    encode_leaf,
    height,
    hooks_of,
    leaf_count,
    node_level,
)
from sendense.units import GIB, MIB, TIB
from tests.support.dedup_records import number_id

A, B, C, D = (bytes([letter]) * 32 for letter in b"ABCD")
X, Y, Z = (bytes([letter]) * 32 for letter in b"XYZ")

# The format: if one of these changes, no repository that was written can be read.
SLOTS = [Slot(X, 3, A), None, Slot(B, 0, B), Slot(Y, 0, C), Slot(X, 4, D)]
LEAF = (
    "01" "00" "1d00000000000000" "02" + "58" * 32 + "59" * 32
    + "0003" + "41" * 32 + "ff00" + "42" * 32 + "0100" + "43" * 32 + "0004" + "44" * 32
)  # fmt: skip
INNER = "01020500000000000080" + "41" * 32 + "42" * 32 + "43" * 32


def test_nodes_are_spelled_as_they_were():
    assert encode_leaf(SLOTS).hex() == LEAF
    children = [A, None, B, *[None] * 60, C]
    assert encode_inner(2, children).hex() == INNER
    assert decode_leaf(bytes.fromhex(LEAF)) == SLOTS + [None] * 59
    assert decode_inner(bytes.fromhex(INNER)) == (2, children)


def test_hooks_are_what_they_were():
    low = bytes([0, 1, 2, 3, 4, 5, 6, 7]) + bytes(24)
    slots = [Slot(digest, 0, digest) for digest in (D, A, low, B, A, C)]
    assert hooks_of([None, *slots]) == (
        0x0706050403020100, 0x4141414141414141, 0x4242424242424242, 0x4343434343434343,
    )  # fmt: skip
    assert hooks_of([None, Slot(X, 1, A)]) == (0x4141414141414141,)
    assert hooks_of([None]) == ()


def test_a_full_leaf_of_windows_and_one_of_scattered_blocks():
    windows = [
        Slot(number_id(place // 16), place % 16, number_id(99 + place)) for place in range(64)
    ]
    assert decode_leaf(encode_leaf(windows)) == windows
    scattered = [Slot(number_id(place), 15, number_id(99 + place)) for place in range(64)]
    assert decode_leaf(encode_leaf(scattered)) == scattered
    assert len(encode_leaf(scattered)) == LARGEST_NODE


@pytest.mark.parametrize(
    "slots",
    [
        [],
        [None] * 64,
        [Slot(A, 0, A)] * 65,
        [Slot(X, 16, A)],
        [Slot(X, -1, A)],
        [Slot(A, 1, A)],
        [Slot(X[:31], 0, A)],
        [Slot(X, 0, A[:31])],
        [Slot(b"", 0, b"")],
    ],
)
def test_what_is_no_leaf_is_not_written(slots):
    with pytest.raises(ValueError, match=r"leaf|block"):
        encode_leaf(slots)


@pytest.mark.parametrize(
    ("level", "children"),
    [(0, [A]), (6, [A]), (1, []), (1, [None] * 64), (1, [A] * 65), (1, [A[:31]])],
)
def test_what_is_no_inner_node_is_not_written(level, children):
    with pytest.raises(ValueError, match="inner node"):
        encode_inner(level, children)


def leaf(present, ids, *slots, version=1, level=0, chunks=None):
    head = bytes([version, level]) + present.to_bytes(8, "little")
    head += bytes([len(ids) if chunks is None else chunks])
    return head + b"".join(ids) + b"".join(bytes([n, b]) + digest for n, b, digest in slots)


OWN = fmt.OWN_CHUNK


@pytest.mark.parametrize(
    "data",
    [
        leaf(0, []),
        leaf(1, [], (OWN, 1, A)),  # the only block of a chunk has number 0
        leaf(1, [A], (0, 0, A)),  # has a shorter spelling
        leaf(1, [X], (OWN, 0, A)),  # a chunk that is not used
        leaf(1, [X], (1, 0, A)),  # a chunk that is not there
        leaf(1, [X], (0, 16, A)),
        leaf(3, [X, Y], (1, 0, A), (0, 0, B)),  # not in the order of use
        leaf(3, [X, X], (0, 0, A), (1, 0, B)),  # a chunk that is there twice
        leaf(3, [X], (0, 0, A)),
        leaf(1, [X], (0, 0, A), (0, 1, B)),
        leaf(1, [X], (0, 0, A)) + b"\0",
        leaf(1, [X], (0, 0, A))[:-1],
        leaf(1, [X], (0, 0, A), chunks=2),
        leaf(1, [], (OWN, 0, A), chunks=65),
        leaf(1, [X], (0, 0, A), level=1),
        leaf(1, [X], (0, 0, A), version=0),
        leaf(1, [])[:10],
        b"\1\0",
        b"\1",
        b"",
    ],
)
def test_a_leaf_with_another_spelling_is_damage(data):
    with pytest.raises(Damaged):
        decode_leaf(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\1\1" + bytes(8),
        b"\1\1" + b"\1" + bytes(7) + A[:31],
        b"\1\1" + b"\1" + bytes(7) + A + b"\0",
        b"\1\1" + b"\3" + bytes(7) + A,
        b"\1\0" + b"\1" + bytes(7) + A,
        b"\1\6" + b"\1" + bytes(7) + A,
        b"\0\1" + b"\1" + bytes(7) + A,
        b"\1\1\1",
        b"",
    ],
)
def test_an_inner_node_with_another_spelling_is_damage(data):
    with pytest.raises(Damaged):
        decode_inner(data)


def test_a_node_of_a_newer_program_is_not_damage():
    for data in (b"\2\0", b"\2\x09more", b"\xff\1"):
        for read in (node_level, decode_leaf, decode_inner):
            with pytest.raises(Unsupported, match="newer program"):
                read(data)


@pytest.mark.parametrize(
    ("size", "leaves", "level"),
    [
        (0, 0, 0),
        (1, 1, 0),
        (4 * MIB, 1, 0),
        (4 * MIB + 1, 2, 1),
        (256 * MIB, 64, 1),
        (256 * MIB + 512, 65, 2),
        (16 * GIB, 4096, 2),
        (16 * GIB + 512, 4097, 3),
        (TIB, 64**3, 3),
        (64 * TIB, 64**4, 4),
        (4096 * TIB, 64**5, 5),
    ],
)
def test_the_height_is_the_smallest_that_reaches_over_the_disk(size, leaves, level):
    assert leaf_count(size) == leaves
    assert height(size) == level


def test_a_disk_that_no_tree_reaches_over_is_refused():
    with pytest.raises(Unsupported, match="larger"):
        height(4096 * TIB + 1)
