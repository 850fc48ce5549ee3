"""Blocks, chunks and nodes have names that only the keys give."""

from __future__ import annotations

import os

import pytest
from blake3 import blake3

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.identity import chunk_id, digest_blocks, node_id
from tests.support.dedup_records import KEY

ONE = bytes([1]) * fmt.BLOCK
# The format: if one of these changes, no repository that was written can be read.
ONE_DIGEST = "0d9e16a22657771ae23eba3ec8368aad61c93149a66783f5c612afa4ae33563a"
PADDED_DIGEST = "f49c35373ebcd0e4bb7e16ad3dcc63ce676c3d7eae9b5c46e9f0c24d6526f2e3"
CHUNK = "84493d3de87acc8172439ca44179571b68227d85d04d29c9da9e04456f22e192"
NODE = "1f0f67539535e53c9ddd3d17143e65dc291033fae06c91885455b5a93ccc40ba"


def test_names_are_what_they_were():
    one, padded = digest_blocks(KEY, memoryview(ONE + b"end"))
    assert one is not None
    assert padded is not None
    assert one.hex() == ONE_DIGEST
    assert padded.hex() == PADDED_DIGEST
    assert chunk_id(KEY, [one, padded]).hex() == CHUNK
    assert node_id(KEY, b"node").hex() == NODE


def test_a_digest_is_the_keyed_hash_of_the_block():
    blocks = [os.urandom(fmt.BLOCK) for _ in range(5)]
    found = digest_blocks(KEY, memoryview(b"".join(blocks)))
    assert found == [blake3(block, key=KEY).digest() for block in blocks]


def test_another_key_gives_other_names():
    assert digest_blocks(bytes(32), memoryview(ONE)) != digest_blocks(KEY, memoryview(ONE))
    assert chunk_id(bytes(32), [KEY, KEY]) != chunk_id(KEY, [KEY, KEY])
    assert node_id(bytes(32), b"") != node_id(KEY, b"")


@pytest.mark.parametrize("place", [0, 1, fmt.BLOCK // 2, fmt.BLOCK - 1])
def test_a_block_is_zero_only_with_every_byte(place):
    block = bytearray(fmt.BLOCK)
    assert digest_blocks(KEY, memoryview(block)) == [None]
    block[place] = 1
    assert digest_blocks(KEY, memoryview(block)) == [blake3(block, key=KEY).digest()]


@pytest.mark.parametrize("length", [1, 511, fmt.BLOCK - 1])
def test_the_last_block_of_a_disk_is_filled_up_with_zeroes(length):
    data = os.urandom(length - 1) + b"x"
    padded = data + bytes(fmt.BLOCK - length)
    cut = digest_blocks(KEY, memoryview(bytes(fmt.BLOCK) + data))
    assert cut == [None, *digest_blocks(KEY, memoryview(padded))]
    assert digest_blocks(KEY, memoryview(bytes(length))) == [None]


def test_nothing_has_no_digests():
    assert digest_blocks(KEY, memoryview(b"")) == []


def test_a_buffer_of_any_kind_will_do():
    assert digest_blocks(KEY, memoryview(bytearray(ONE))) == digest_blocks(KEY, memoryview(ONE))
    numbers = memoryview(ONE).cast("Q")
    assert digest_blocks(KEY, numbers) == digest_blocks(KEY, memoryview(ONE))


def test_a_chunk_of_one_block_has_its_name():
    assert chunk_id(KEY, [ONE[:32]]) == ONE[:32]


def test_a_chunk_has_the_order_of_its_blocks_in_its_name():
    assert chunk_id(KEY, [bytes(32), KEY]) != chunk_id(KEY, [KEY, bytes(32)])


@pytest.mark.parametrize("count", [0, fmt.CHUNK_BLOCKS + 1])
def test_no_chunk_has_more_blocks_than_a_window(count):
    with pytest.raises(ValueError, match="blocks"):
        chunk_id(KEY, [KEY] * count)
