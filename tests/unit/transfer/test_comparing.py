"""Two readings of one disk compare equal however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.model.stream import Chunk
from sendense.transfer.comparing import compared, first_difference


@st.composite
def readings(draw, content):
    """Cut a content into chunks, and state some of its zeroes."""
    position = 0
    chunks = []
    while position < len(content):
        length = draw(st.integers(1, len(content) - position))
        part = content[position : position + length]
        stated = not any(part) and draw(st.booleans())
        chunks.append(Chunk(position, length, None if stated else memoryview(part)))
        position += length
    return chunks


CONTENTS = st.lists(st.sampled_from([b"\0\0\0", b"ab", b"\0", b"c"]), max_size=12).map(b"".join)


@given(st.data(), CONTENTS)
def test_the_same_content(data, content):
    left, right = data.draw(readings(content)), data.draw(readings(content))
    assert first_difference(iter(left), iter(right)) is None


@given(st.data(), CONTENTS.filter(bool))
def test_one_byte_differs(data, content):
    where = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[where] ^= 1
    left, right = data.draw(readings(content)), data.draw(readings(bytes(changed)))
    found = first_difference(iter(left), iter(right))
    assert found is not None
    assert found <= where


def test_one_is_longer_or_has_a_gap():
    one = [Chunk(0, 4, b"abcd")]
    assert first_difference(iter(one), iter([*one, Chunk(4, 1, None)])) == 4
    gap = [Chunk(0, 2, b"ab"), Chunk(3, 1, b"d")]
    assert first_difference(iter(one), iter(gap)) == 2


@given(st.data(), CONTENTS, CONTENTS, st.integers(1, 4))
def test_what_is_told_to_differ_makes_one_the_other(data, wanted, found, block):
    length = min(len(wanted), len(found))
    wanted, found = wanted[:length], bytearray(found[:length])
    left, right = data.draw(readings(wanted)), data.draw(readings(bytes(found)))
    position = 0
    for item in compared(iter(left), iter(right), block_size=block):
        assert item.offset == position
        assert item.length > 0
        position, start = item.offset + item.length, item.offset
        if item.same:
            assert item.data is None
            assert found[start:position] == wanted[start:position]
        else:
            # No block is written that is the same.
            assert found[start:position] != wanted[start:position]
            found[start:position] = item.data if item.data is not None else bytes(item.length)
    assert position == length
    assert found == wanted


@pytest.mark.parametrize(
    "other", [[Chunk(0, 4, b"abcd"), Chunk(4, 1, None)], [Chunk(0, 2, b"ab"), Chunk(3, 1, b"d")]]
)
def test_readings_that_part_are_no_reading(other):
    with pytest.raises(ValueError, match="part at"):
        list(compared(iter([Chunk(0, 4, b"abcd")]), iter(other), block_size=2))


def test_a_zero_as_large_as_a_disk_is_one_step():
    zero = [Chunk(0, 1 << 40, None)]
    assert len(list(compared(iter(zero), iter(zero), block_size=65536))) == 1
