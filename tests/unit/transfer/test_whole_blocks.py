"""Chunks that are cut anywhere become whole blocks, with the same content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.model.stream import Chunk
from sendense.transfer.whole_blocks import whole_blocks

BLOCK = 16


def data(offset, content):
    return Chunk(offset, len(content), content)


def test_whole_blocks_pass_uncopied():
    content = b"a" * 32
    (chunk,) = whole_blocks([data(16, content)], BLOCK)
    assert isinstance(chunk.data, memoryview)
    assert chunk.data.obj is content


def test_zeroes_stay_zeroes():
    chunks = [Chunk(0, 5, None), Chunk(5, 30, None), Chunk(35, 13, None)]
    assert {chunk.data for chunk in whole_blocks(chunks, BLOCK)} == {None}


def test_the_end_of_the_disk_may_be_anywhere():
    chunks = [data(0, b"a" * 20), Chunk(20, 3, None)]
    given_ = [(chunk.offset, chunk.length) for chunk in whole_blocks(chunks, BLOCK)]
    assert given_ == [(0, 16), (16, 7)]


@pytest.mark.parametrize(
    "chunks",
    [[data(5, b"a" * 11)], [data(0, b"a" * 20), data(32, b"b")]],
    ids=["begins inside", "ends inside"],
)
def test_a_border_inside_a_block_is_refused(chunks):
    with pytest.raises(ValueError, match="inside a block"):
        list(whole_blocks(chunks, BLOCK))


@given(
    runs=st.lists(
        st.tuples(
            st.booleans(), st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=6)
        ),
        max_size=3,
    ),
    block_size=st.sampled_from([1, 4, 16]),
)
def test_the_content_is_the_same(runs, block_size):
    chunks, position = [], 0
    for gap, pieces in runs:
        position += -position % 16 + (16 if gap else 0)
        for length, zero in pieces:
            chunks.append(
                Chunk(position, length, None)
                if zero
                else data(position, bytes(97 + n % 26 for n in range(position, position + length)))
            )
            position += length
        if pieces and position % 16:
            chunks.append(data(position, b"z" * (-position % 16)))
    seen = []
    for chunk in whole_blocks(iter(chunks), block_size):
        assert chunk.offset % block_size == 0
        assert chunk.length % block_size == 0
        assert chunk.length > 0
        copy = None if chunk.data is None else bytes(chunk.data)
        seen.append(Chunk(chunk.offset, chunk.length, copy))
    said = [(bytes(item.data) if item.data is not None else bytes(item.length)) for item in seen]
    want = [(bytes(item.data) if item.data is not None else bytes(item.length)) for item in chunks]
    assert b"".join(said) == b"".join(want)
    assert [place for item in seen for place in range(item.offset, item.end)] == [
        place for item in chunks for place in range(item.offset, item.end)
    ]
