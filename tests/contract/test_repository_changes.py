"""What every repository promises of :meth:`DiskReader.changes`: what differs, and nothing else."""

from __future__ import annotations

import random

import pytest

from sendense.errors import Damaged
from sendense.model.decision import Method
from sendense.model.point import PointState
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import VerifyLevel
from tests.contract.repository_content import SIZE, TAIL, VDA, content, damage, full
from tests.support.dedup_damage import damage_chunk
from tests.support.memory_repository import MemoryRepository
from tests.support.points import BLOCK, Write, data, noise, store, zeroes

LARGE = 90 * BLOCK
"""More than one leaf of a tree."""


def change(write, *chunks, size=None):
    return Write(VDA, size or write.size, chunks, Method.BITMAP)


def chain_of(repository, *writes):
    """Store writes, each over the one before; gives the content of each, by its point."""
    contents = {}
    last = b""
    for number, write in enumerate(writes, start=1):
        store(repository, f"p{number}", write)
        last = content(write, b"" if write.method is Method.EVERYTHING else last)
        contents[f"p{number}"] = last
    return contents


def changes(repository, point, base, block_size=BLOCK):
    """Give copies of the chunks, held to their order."""
    with repository.open(point) as reader, repository.open(base) as other:
        disk = reader.disk(VDA.identity)
        found = disk.changes(other.disk(VDA.identity), block_size=block_size)
        assert found is not None
        taken = [
            (chunk.offset, chunk.end, None if chunk.data is None else bytes(chunk.data))
            for chunk in found
        ]
    position = 0
    for start, end, piece in taken:
        assert position <= start < end <= disk.image.size
        assert piece is None or len(piece) == end - start <= 1 << 20
        position = end
    for start, end in runs(taken):
        assert start % block_size == 0
        assert end % block_size == 0 or end == disk.image.size
    return taken


def runs(taken):
    """Join chunks that follow each other."""
    joined: list[list[int]] = []
    for start, end, _ in taken:
        if joined and joined[-1][1] == start:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return joined


def named(taken):
    """Give the blocks that hold data."""
    return sorted(
        {
            place
            for start, end, piece in taken
            if piece
            for place in range(start // BLOCK, -(-end // BLOCK))
        }
    )


def applied(base, size, taken):
    result = bytearray(base[:size].ljust(size, b"\0"))
    for start, end, piece in taken:
        result[start:end] = piece or bytes(end - start)
    return bytes(result)


def test_of_itself_nothing(repository):
    chain_of(repository, full())
    assert changes(repository, "p1", "p1") == []


def test_what_a_point_wrote_and_nothing_else(repository):
    first = full(LARGE)
    second = change(first, data(2 * BLOCK, noise(BLOCK, 9)), data(80 * BLOCK, noise(2 * BLOCK, 8)))
    contents = chain_of(repository, first, second)
    taken = changes(repository, "p2", "p1")
    assert named(taken) == [2, 80, 81]
    assert applied(contents["p1"], LARGE, taken) == contents["p2"]


def test_backwards_and_over_several_points(repository):
    first = full(LARGE)
    writes = [
        first,
        change(first, data(BLOCK, noise(BLOCK, 9)), zeroes(3 * BLOCK, BLOCK)),
        change(first, data(70 * BLOCK, noise(BLOCK, 8))),
        change(first, data(BLOCK, noise(BLOCK, 7))),
    ]
    contents = chain_of(repository, *writes)
    for point in contents:
        for base in contents:
            taken = changes(repository, point, base)
            assert applied(contents[base], LARGE, taken) == contents[point]
    assert named(changes(repository, "p4", "p2")) == [1, 70]
    assert named(changes(repository, "p1", "p4")) == [1, 3]


def test_what_was_written_as_it_was_is_no_change(repository):
    first = full(LARGE)
    writes = [first, change(first, data(0, noise(4 * BLOCK, 1))), full(LARGE)]
    contents = chain_of(repository, *writes)
    assert contents["p1"] == contents["p2"] == contents["p3"]
    assert named(changes(repository, "p2", "p1")) == []
    assert named(changes(repository, "p3", "p1")) == []
    assert named(changes(repository, "p1", "p3")) == []


@pytest.mark.parametrize("other", [SIZE, SIZE + 512, 21 * BLOCK, LARGE, 70 * 64 * BLOCK + 512])
def test_disks_of_different_sizes(repository, other):
    """One more level of a tree, some more leaves, or a few bytes of the last block."""
    first = full()
    extra = (data(other - other % BLOCK, noise(BLOCK, 4)[: other % BLOCK or BLOCK]),)
    if other % BLOCK == 0:
        extra = (data(other - BLOCK, noise(BLOCK, 4)),)
    contents = chain_of(repository, first, change(first, *extra, size=other))
    for point, base in (("p2", "p1"), ("p1", "p2")):
        taken = changes(repository, point, base)
        assert applied(contents[base], len(contents[point]), taken) == contents[point]


@pytest.mark.parametrize("block_size", [4096, BLOCK, 2 * BLOCK, 16 * BLOCK])
def test_whole_blocks_of_the_size_that_is_asked_for(repository, block_size):
    first = full(LARGE + 512)
    contents = chain_of(
        repository,
        first,
        change(first, zeroes(0, BLOCK), data(3 * BLOCK, noise(BLOCK, 9))),
        change(first, data(63 * BLOCK, noise(2 * BLOCK)), data(LARGE, noise(512, 9))),
    )
    for point, base in (("p2", "p1"), ("p3", "p1"), ("p1", "p3")):
        taken = changes(repository, point, base, block_size)
        assert applied(contents[base], len(contents[point]), taken) == contents[point]


def test_everything_that_went_is_zero(repository):
    contents = chain_of(repository, full(LARGE), Write(VDA, LARGE, ()), full(LARGE))
    taken = changes(repository, "p2", "p1")
    assert named(taken) == []
    assert applied(contents["p1"], LARGE, taken) == bytes(LARGE)
    assert applied(bytes(LARGE), LARGE, changes(repository, "p3", "p2")) == contents["p3"]
    assert named(changes(repository, "p3", "p1")) == []


def test_fine_layers(repository):
    """A chain keeps blocks of 4 KiB apart, which cover each other in part."""
    first = full(LARGE)
    fine = [
        Write(VDA, LARGE, chunks, Method.BITMAP, BLOCK if coarse else 4096)
        for chunks, coarse in (
            ((data(0, noise(BLOCK, 3)),), True),
            ((data(BLOCK, noise(BLOCK, 4)), zeroes(2 * BLOCK, BLOCK)), False),
        )
    ]
    contents = chain_of(repository, first, *fine)
    for point in contents:
        for base in contents:
            taken = changes(repository, point, base)
            assert applied(contents[base], LARGE, taken) == contents[point]


def test_damage_in_what_differs(repository):
    first = full()
    chain_of(repository, first, change(first, data(2 * BLOCK, noise(BLOCK, 9))))
    offset = damage(repository, "p1", 0)
    assert named(changes(repository, "p2", "p1")) == [2]
    if isinstance(repository, MemoryRepository):
        return
    store(repository, "p3", Write(VDA, SIZE, ()))
    with pytest.raises(Damaged) as caught:
        changes(repository, "p1", "p3")
    assert int(caught.value.data["offset"]) == offset


def test_a_disk_of_another_repository(repository):
    store(repository, "p1", full())
    other = MemoryRepository()
    store(other, "p1", full())
    if isinstance(repository, MemoryRepository):
        return
    with repository.open("p1") as reader, other.open("p1") as elsewhere:
        assert reader.disk(VDA.identity).changes(elsewhere.disk(VDA.identity)) is None


def test_it_may_be_left_in_the_middle(repository):
    chain_of(repository, Write(VDA, LARGE, ()), Write(VDA, LARGE, (data(0, noise(LARGE)),)))
    with repository.open("p2") as reader, repository.open("p1") as other:
        found = reader.disk(VDA.identity).changes(other.disk(VDA.identity))
        assert next(found).offset == 0
        found.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_pairs(repository, seed):
    source = random.Random(seed)
    size = source.choice([SIZE, LARGE, TAIL])
    writes = [full(size, seed)]
    for _ in range(4):
        size += source.choice([0, 0, 512, BLOCK, 70 * BLOCK]) if size % BLOCK == 0 else 0
        places = sorted(source.sample(range(size // BLOCK), 5))
        chunks = [
            zeroes(place * BLOCK, BLOCK)
            if source.random() < 0.3
            else data(place * BLOCK, noise(BLOCK, source.randrange(3)))
            for place in places
        ]
        writes.append(Write(VDA, size, tuple(chunks), Method.BITMAP, source.choice([4096, BLOCK])))
    contents = chain_of(repository, *writes)
    for _ in range(6):
        point, base = source.choice(list(contents)), source.choice(list(contents))
        step = source.choice([4096, BLOCK, 4 * BLOCK])
        taken = changes(repository, point, base, step)
        assert applied(contents[base], len(contents[point]), taken) == contents[point]


# --- verifying what is new ---


def two_points(repository):
    first = full()
    chain_of(repository, first, change(first, data(2 * BLOCK, noise(BLOCK, 9))))


@pytest.mark.parametrize("level", VerifyLevel)
def test_what_is_new_is_sound(repository, level):
    two_points(repository)
    for point in ("p1", "p2"):
        assert repository.verify(point, level, only_new=True).sound
    repository.delete(["p1"])
    assert repository.verify("p2", level, only_new=True).sound


def test_damage_in_what_is_new_is_found(repository):
    two_points(repository)
    if isinstance(repository, MemoryRepository):
        damage(repository, "p2", 2 * BLOCK)
    elif isinstance(repository, DedupRepository):
        damage_chunk(repository, "p2", VDA.identity, 2 * BLOCK)
    else:
        damage(repository, "p2", 0)  # The first block that its layer holds.
    found = repository.verify("p2", VerifyLevel.DATA, only_new=True)
    assert [item.offset for item in found.findings] == [2 * BLOCK]
    assert repository.point("p2").state is PointState.DAMAGED


def test_a_look_at_what_is_new_does_not_take_a_mark_off(repository):
    two_points(repository)
    damage(repository, "p1", 0)
    assert not repository.verify("p2", VerifyLevel.DATA).sound or isinstance(
        repository, MemoryRepository
    )
    repository.verify("p2", VerifyLevel.DATA, only_new=True)
    states = {point.id: point.state for point in repository.points()}
    assert states["p2"] is PointState.DAMAGED or isinstance(repository, MemoryRepository)
