"""The merging of extents against the plainest possible model: one entry per byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Unavailable
from sendense.model.extents import (
    STATE_DIRTY,
    STATE_ZERO,
    Flagged,
    Piece,
    Status,
    blocks,
    merge,
    pieces,
)

BLOCK_SIZES = st.sampled_from([1, 2, 4, 8])


@st.composite
def answers(draw, size, flag):
    """Give one answer that covers at least ``size`` bytes, and its flag for each byte."""
    runs, total = [], 0
    while total < size:
        run = Status(draw(st.integers(1, 9)), draw(st.sampled_from([0, flag, 1, 4 | flag])))
        runs.append(run)
        total += run.length
    flags = [bool(run.flags & flag) for run in runs for _ in range(run.length)]
    return runs, flags[:size]


@st.composite
def disks(draw):
    """Give a disk's size, both answers, and what each says of each byte."""
    size = draw(st.integers(1, 60))
    allocation, zero = draw(answers(size, STATE_ZERO))
    bits, dirty = draw(answers(size, STATE_DIRTY))
    return size, allocation, bits, zero, dirty


@given(disks())
def test_merge_tells_of_each_byte_what_the_answers_say(disk):
    size, allocation, bits, zero, dirty = disk
    merged = list(merge(0, size, allocation, bits))
    assert [item.start for item in merged] == [0, *(item.end for item in merged[:-1])]
    assert [item.zero for item in merged for _ in range(item.length)] == zero
    assert [item.dirty for item in merged for _ in range(item.length)] == dirty


@given(disks(), BLOCK_SIZES)
def test_pieces_are_whole_blocks_with_one_dirty_byte_or_more(disk, block_size):
    size, allocation, bits, zero, dirty = disk
    found = list(pieces(merge(0, size, allocation, bits), block_size=block_size, size=size))
    expected = {}
    for start in range(0, size, block_size):
        block = range(start, min(start + block_size, size))
        if any(dirty[byte] for byte in block):
            expected.update(dict.fromkeys(block, all(zero[byte] for byte in block)))
    assert {byte: piece.zero for piece in found for byte in range(piece.start, piece.end)} == (
        expected
    )
    for piece in found:
        assert piece.start % block_size == 0
        assert piece.end % block_size == 0 or piece.end == size
    for left, right in pairwise(found):
        assert left.end < right.start or (left.end == right.start and left.zero != right.zero)


@given(disks(), BLOCK_SIZES)
def test_blocks_cover_the_disk_once(disk, block_size):
    size, allocation, bits, _, dirty = disk
    found = list(blocks(merge(0, size, allocation, bits), block_size=block_size, size=size))
    assert [byte for item in found for byte in range(item.start, item.end)] == list(range(size))
    for item in found:
        if not item.dirty:
            assert not any(dirty[item.start : item.end])


@given(disks(), st.integers(1, 20))
def test_windows_change_nothing(disk, window):
    size, allocation, bits, zero, dirty = disk

    def cut(flags, flag, start, end):
        return [Status(1, flag if flags[byte] else 0) for byte in range(start, end)]

    parts: list[Flagged] = []
    for start in range(0, size, window):
        end = min(start + window, size)
        answer = cut(zero, STATE_ZERO, start, end), cut(dirty, STATE_DIRTY, start, end)
        parts += merge(start, end - start, *answer)
    whole = merge(0, size, allocation, bits)
    assert list(pieces(parts, block_size=4, size=size)) == list(
        pieces(whole, block_size=4, size=size)
    )


@given(st.integers(0, 9), st.integers(1, 9), st.booleans(), st.integers(1, 12))
def test_a_piece_that_is_cut_is_still_all_there(start, length, zero, most):
    piece = Piece(start, length, zero)
    first, rest = piece.cut(most)
    assert first == Piece(start, min(length, most), zero)
    assert rest == (Piece(first.end, length - most, zero) if length > most else None)


@given(disks(), st.integers(1, 60), st.booleans())
def test_an_answer_that_stops_short_is_an_error(disk, missing, cut_the_bits):
    size, allocation, bits, _, _ = disk
    keep = max(0, size - missing)
    short = [Status(1, 0)] * keep
    with pytest.raises(Unavailable):
        list(merge(0, size, allocation, short) if cut_the_bits else merge(0, size, short, bits))


def test_a_run_without_length_is_an_error():
    with pytest.raises(Unavailable):
        list(merge(0, 2, [Status(1, 0), Status(0, 0), Status(1, 0)], None))
