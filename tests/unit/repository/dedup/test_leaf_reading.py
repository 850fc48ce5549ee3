"""Leaves are filled in place where that is possible, and right where it is not."""

from __future__ import annotations

import pytest

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.identity import digest_blocks
from sendense.repository.dedup.nodes import Slot
from sendense.repository.dedup.reading import _Filling
from tests.support.points import noise

KEY = bytes(range(32))
CHUNK = b"c" * 32
COUNT = 4
PLAIN = memoryview(noise(COUNT * fmt.BLOCK, 1))
DIGESTS = digest_blocks(KEY, PLAIN)


def _slots(blocks: dict[int, int]) -> list[Slot | None]:
    """Give a leaf that holds these blocks of the chunk at these places."""
    slots: list[Slot | None] = [None] * fmt.LEAF_BLOCKS
    for place, block in blocks.items():
        digest = DIGESTS[block]
        assert digest is not None
        slots[place] = Slot(CHUNK, block, digest)
    return slots


def _filled(blocks: dict[int, int], wanted: list[int]) -> tuple[bytearray, bool]:
    """Fill a leaf as a reader does; tells also whether the chunk was put into its place."""
    leaf = bytearray(fmt.LEAF_BYTES)
    filling = _Filling(KEY, memoryview(leaf), _slots(blocks), wanted)
    room = filling.room(CHUNK, len(PLAIN))
    if room is None:
        filling.take(CHUNK, PLAIN)
    else:
        room[:] = PLAIN
        filling.take(CHUNK, room)
    return leaf, room is not None


@pytest.mark.parametrize(
    ("blocks", "wanted", "in_place"),
    [
        pytest.param({8: 0, 9: 1, 10: 2, 11: 3}, [8, 9, 10, 11], True, id="as-it-is"),
        pytest.param({8: 0, 9: 1, 10: 2, 11: 3}, [9, 10], False, id="some-of-it"),
        pytest.param({8: 0, 9: 1, 10: 2, 11: 3}, [8, 9, 10], False, id="not-its-end"),
        pytest.param({8: 1, 9: 0, 10: 2, 11: 3}, [8, 9, 10, 11], False, id="other-order"),
        pytest.param({8: 0, 9: 1, 10: 2, 12: 3}, [8, 9, 10, 12], False, id="with-a-gap"),
        pytest.param({8: 0, 9: 0, 10: 1, 11: 2}, [8, 9, 10, 11], False, id="one-twice"),
        pytest.param(
            {**{n: n for n in range(COUNT)}, **{32 + n: n for n in range(COUNT)}},
            [*range(COUNT), *range(32, 32 + COUNT)],
            False,
            id="all-twice",
        ),
    ],
)
def test_every_block_comes_to_its_place(blocks, wanted, in_place):
    leaf, put = _filled(blocks, wanted)
    expected = bytearray(fmt.LEAF_BYTES)
    for place in wanted:
        start = blocks[place] * fmt.BLOCK
        expected[place * fmt.BLOCK : (place + 1) * fmt.BLOCK] = PLAIN[start : start + fmt.BLOCK]
    assert leaf == expected
    assert put is in_place


def test_a_longer_chunk_gets_no_room():
    blocks = {place: place for place in range(COUNT)}
    filling = _Filling(KEY, memoryview(bytearray(fmt.LEAF_BYTES)), _slots(blocks), [0, 1, 2, 3])
    assert filling.room(CHUNK, (COUNT + 1) * fmt.BLOCK) is None
    assert filling.room(CHUNK, COUNT * fmt.BLOCK - 1) is None


def test_what_lies_in_its_place_is_checked_there():
    blocks = {place: place for place in range(COUNT)}
    leaf = bytearray(fmt.LEAF_BYTES)
    filling = _Filling(KEY, memoryview(leaf), _slots(blocks), [0, 1, 2, 3])
    room = filling.room(CHUNK, len(PLAIN))
    assert room is not None
    room[:] = PLAIN
    leaf[fmt.BLOCK] ^= 1
    with pytest.raises(Damaged):
        filling.take(CHUNK, room)
