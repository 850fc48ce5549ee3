"""An index object is read as it was written; what no writer makes is damage."""

from __future__ import annotations

import pytest

from sendense.errors import Damaged, SendenseError
from sendense.repository.dedup.entries import PackHead, PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.index_objects import decode_index, encode_index
from tests.support.dedup_records import chunk, closed, leaf, meta_pack, number_id, pack

# The format: if this changes, no repository that was written can be read.
PACKS = [
    PackRecord(PackHead("ab" * 16, PackKind.DATA, 1), 200, (chunk(b"\1" * 32, 24, 1, 100),)),
    PackRecord(PackHead("cd" * 16, PackKind.META, 2), 999, (leaf(b"\2" * 32, 24, (5,), 9),)),
]
INDEX = (
    "ab" * 16 + "01" "0100" "c800000000000000" "01000000"
    + "01" * 32 + "18000000" "64000000" "00000100" "01" "00"
    + "cd" * 16 + "02" "0200" "e703000000000000" "01000000"
    + "02" * 32 + "18000000" "19000000" "09000000" "00" "01" "0500000000000000"
)  # fmt: skip


def test_the_bytes_are_what_they_were():
    assert encode_index(PACKS).hex() == INDEX
    assert decode_index(bytes.fromhex(INDEX)) == PACKS


def test_an_index_object_of_many_packs():
    packs = [pack(n, [number_id(100 * n + m) for m in range(n)]) for n in range(20)]
    packs.append(meta_pack(99, {number_id(n): tuple(range(n % 5)) for n in range(50)}))
    assert decode_index(encode_index(packs)) == packs
    assert decode_index(b"") == []


def test_a_pack_twice_is_damage():
    with pytest.raises(Damaged, match="twice"):
        decode_index(encode_index([PACKS[0], PACKS[0]]))


def test_a_directory_is_looked_at():
    wrong = closed(PACKS[0].head, [chunk(number_id(1), 23)])
    with pytest.raises(Damaged, match="outside"):
        decode_index(encode_index([wrong]))


@pytest.mark.parametrize("length", range(0, len(INDEX) // 2))
def test_a_cut_index_object_is_damage_or_has_whole_packs(length):
    try:
        assert decode_index(bytes.fromhex(INDEX)[:length]) == PACKS[: length // 77]
    except Damaged:
        assert length not in (0, 77)


def test_a_changed_bit_is_damage_or_another_spelling_of_something():
    data = bytearray.fromhex(INDEX)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        try:
            found = decode_index(bytes(data))
        except SendenseError:
            pass
        else:
            assert encode_index(found) == data
        data[bit // 8] ^= 1 << bit % 8
