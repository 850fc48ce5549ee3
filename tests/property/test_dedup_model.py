"""Random histories of large, sparse disks in a dedup repository, against a dict of blocks.

The disks span several leaves and levels of the tree; ranges of data and zeroes cross their
borders at any place.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendense.model.decision import Method
from sendense.model.stream import Chunk
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import VerifyLevel
from sendense.storage.urls import open_store
from tests.support.dedup import dedup_repository
from tests.support.points import BLOCK, Write, disk, store

LEAF = fmt.LEAF_BLOCKS
TAIL = 512


def content(seed):
    """Give a block that is cheap to make; seed 0 is zeroes."""
    return seed.to_bytes(4, "little") * (BLOCK // 4)


@dataclass
class Machine:
    """A disk of some blocks and a bit, and the points that were made of it."""

    repository: DedupRepository
    blocks: int
    now: dict[int, int] = field(default_factory=dict)
    points: dict[str, tuple[int, dict[int, int]]] = field(default_factory=dict)

    @property
    def size(self):
        return self.blocks * BLOCK + TAIL

    def apply(self, ranges):
        """Change the disk; gives the chunks that tell so."""
        chunks = []
        for first, count, seed in ranges:
            end = min(first + count, self.blocks)
            for place in range(first, end):
                if seed:
                    self.now[place] = seed + place % 3
                else:
                    self.now.pop(place, None)
            if first < end:
                chunks.append(self.chunk(first, end, seed))
        return chunks

    def chunk(self, first, end, seed):
        if not seed:
            return Chunk(first * BLOCK, (end - first) * BLOCK, None)
        payload = b"".join(content(self.now[place]) for place in range(first, end))
        return Chunk(first * BLOCK, len(payload), payload)

    def backup(self, ranges, method):
        changes = self.apply(ranges)
        chunks = changes if method is Method.BITMAP else self.whole()
        name = f"p{len(self.points)}"
        store(self.repository, name, Write(disk(), self.size, tuple(chunks), method))
        self.points[name] = self.size, dict(self.now)

    def whole(self):
        """Name the whole disk: data in runs, the rest as zeroes."""
        position = 0
        for place in sorted(self.now):
            if place > position:
                yield Chunk(position * BLOCK, (place - position) * BLOCK, None)
            yield self.chunk(place, place + 1, self.now[place])
            position = place + 1
        yield Chunk(position * BLOCK, self.size - position * BLOCK, None)

    def check(self, name):
        size, blocks = self.points[name]
        found, position = {}, 0
        with self.repository.open(name) as reader:
            for chunk in reader.disk(disk().identity).chunks():
                assert chunk.offset == position
                position = chunk.end
                if chunk.data is not None:
                    data = bytes(chunk.data)
                    for at in range(0, len(data), BLOCK):
                        block = data[at : at + BLOCK]
                        if any(block):
                            seed = int.from_bytes(block[:4], "little")
                            assert block == content(seed)[: len(block)]
                            found[(chunk.offset + at) // BLOCK] = seed
        assert position == size
        assert found == blocks


@st.composite
def ranges(draw):
    """Give ranges in ascending order: (first block, blocks, seed or 0 for zeroes)."""
    found, position = [], 0
    for _ in range(draw(st.integers(0, 6))):
        position += draw(st.one_of(st.integers(0, 3), st.integers(0, 5 * LEAF)))
        seed = draw(st.one_of(st.just(0), st.integers(1, 1000)))
        most = 3 * LEAF if seed == 0 else LEAF + 5
        count = draw(st.one_of(st.integers(1, 5), st.integers(1, most)))
        if seed == 0 and draw(st.booleans()):
            count *= LEAF
        found.append((position, count, seed))
        position += count
    return found


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(
    blocks=st.sampled_from([1, LEAF - 1, LEAF, LEAF + 1, 10 * LEAF, 70 * LEAF + 3]),
    steps=st.lists(
        st.tuples(
            ranges(), st.sampled_from([Method.BITMAP, Method.BITMAP, *Method]), st.integers(0, 90)
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_every_point_holds_what_the_dict_says(blocks, steps):
    repository = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    machine = Machine(repository, blocks)
    machine.backup(steps[0][0], Method.EVERYTHING)
    for changes, method, growth in steps:
        machine.blocks += growth * (growth > 60)
        machine.backup(changes, method)
    for name in machine.points:
        machine.check(name)
        assert repository.verify(name, VerifyLevel.STRUCTURE).sound
    repository.close()
