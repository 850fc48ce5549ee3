"""Two readings of one disk compare equal however they are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sendense.model.stream import Chunk
from sendense.transfer.comparing import first_difference


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
