"""What every repository promises of disks that are read here and there."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from sendense.errors import Damaged
from sendense.model.decision import Method
from tests.contract.repository_content import (
    SIZE,
    TAIL,
    VDA,
    VDB,
    content,
    damage,
    finest_block,
    full,
)
from tests.support.memory_repository import MemoryRepository
from tests.support.points import BLOCK, Write, data, noise, store, zeroes

MIB = 1 << 20
LARGE = 9 * MIB + 5 * BLOCK + 512
"""Of several leaves, the last of them cut."""
RANGES = [
    (0, 0),
    (0, 1),
    (0, 4096),
    (511, 3),
    (BLOCK - 1, 2),
    (BLOCK, BLOCK),
    (3 * BLOCK - 7, 2 * BLOCK),
    (4 * BLOCK, BLOCK),
    (TAIL - 1, 2),
    (TAIL, 1536),
    (SIZE - 1, 1),
    (SIZE, 0),
    (0, SIZE),
]


def _large(seed=3):
    """Data of all sizes between holes, at both ends, and over the borders of 1 and 4 MiB."""
    tail = LARGE - LARGE % BLOCK
    places = [(0, 1), (2, 3), (14, 4), (32, 16), (60, 8), (100, 1), (tail // BLOCK - 2, 2)]
    chunks = [data(at * BLOCK, noise(n * BLOCK, seed + at)) for at, n in places]
    return Write(VDA, LARGE, (*chunks, data(tail, noise(LARGE - tail, seed))))


def _incremental(repository):
    """Changes as fine as the repository takes them, and a range that became zero."""
    fine = finest_block(repository, 4096)
    chunks = (
        data(fine, noise(fine, 40)),
        zeroes(2 * BLOCK, BLOCK),
        data(40 * BLOCK, noise(fine, 41)),
        data(110 * BLOCK, noise(BLOCK, 42)),
    )
    return Write(VDA, LARGE, chunks, Method.BITMAP, fine)


@pytest.mark.parametrize(("offset", "length"), RANGES)
def test_a_range(repository, offset, length):
    store(repository, "p1", full())
    with repository.open("p1") as reader:
        got = reader.disk(VDA.identity).read_at(offset, length)
    assert bytes(got) == content(full())[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(SIZE, 1), (SIZE - 1, 2), (-1, 1), (0, SIZE + 1)])
def test_a_range_that_is_not_in_the_disk(repository, offset, length):
    store(repository, "p1", full())
    with repository.open("p1") as reader:
        disk = reader.disk(VDA.identity)
        with pytest.raises(ValueError, match="is no range"):
            disk.read_at(offset, length)
        with pytest.raises(ValueError, match="is no range"):
            list(disk.extents(offset, offset + length))


def test_ranges_here_and_there(repository):
    base = content(_large())
    whole = content(_incremental(repository), base)
    store(repository, "p1", _large())
    store(repository, "p2", _incremental(repository))
    rng = random.Random(7)
    with repository.open("p1") as older, repository.open("p2") as newer:
        disks = [(older.disk(VDA.identity), base), (newer.disk(VDA.identity), whole)]
        for _ in range(150):
            disk, expected = rng.choice(disks)
            length = rng.choice([1, 512, 4096, BLOCK, 300_000, 5 * MIB])
            offset = rng.randrange(LARGE - min(length, LARGE) + 1)
            assert disk.read_at(offset, length) == expected[offset : offset + length]


def test_ranges_in_order(repository):
    store(repository, "p1", _large())
    with repository.open("p1") as reader:
        disk = reader.disk(VDA.identity)
        step = 96 * 1024
        got = [disk.read_at(at, min(step, LARGE - at)) for at in range(0, LARGE, step)]
    assert b"".join(got) == content(_large())


def test_ranges_from_many_threads(repository):
    other = full(seed=20, target=VDB)
    store(repository, "p1", _large(), other)
    disks = {VDA.identity: content(_large()), VDB.identity: content(other)}

    def read(seed):
        rng = random.Random(seed)
        for _ in range(40):
            name = rng.choice(list(readers))
            expected = disks[name]
            offset = rng.randrange(len(expected))
            length = min(rng.choice([512, 4096, 256 * 1024]), len(expected) - offset)
            assert readers[name].read_at(offset, length) == expected[offset : offset + length]
        return True

    with repository.open("p1") as reader, ThreadPoolExecutor(8) as pool:
        readers = {name: reader.disk(name) for name in disks}
        assert all(pool.map(read, range(8)))


def test_a_range_that_touches_damage(repository):
    store(repository, "p1", full())
    bad = damage(repository, "p1", 2 * BLOCK)
    whole = content(full())
    with repository.open("p1") as reader:
        disk = reader.disk(VDA.identity)
        for offset, length in ((bad, 1), (bad + BLOCK - 1, 1), (0, SIZE), (bad, SIZE - bad)):
            with pytest.raises(Damaged) as caught:
                disk.read_at(offset, length)
            assert int(caught.value.data["offset"]) == bad
        assert disk.read_at(4 * BLOCK, SIZE - 4 * BLOCK) == whole[4 * BLOCK :]
        assert disk.read_at(TAIL, 1536) == whole[TAIL:]
        if bad:
            assert disk.read_at(0, bad) == whole[:bad]


def test_extents_of_a_full(repository):
    store(repository, "p1", full())
    with repository.open("p1") as reader:
        disk = reader.disk(VDA.identity)
        found = list(disk.extents(0, SIZE))
        assert found == [
            (0, 4 * BLOCK, False),
            (4 * BLOCK, TAIL, True),
            (TAIL, SIZE, False),
        ]
        assert list(disk.extents(5, 9)) == [(5, 9, False)]
        assert list(disk.extents(4 * BLOCK - 1, 4 * BLOCK + 1)) == [
            (4 * BLOCK - 1, 4 * BLOCK, False),
            (4 * BLOCK, 4 * BLOCK + 1, True),
        ]
        assert list(disk.extents(7, 7)) == []


def test_extents_never_call_data_zero(repository):
    store(repository, "p1", _large())
    store(repository, "p2", _incremental(repository))
    whole = content(_incremental(repository), content(_large()))
    rng = random.Random(3)
    with repository.open("p2") as reader:
        disk = reader.disk(VDA.identity)
        for _ in range(20):
            start = rng.randrange(LARGE)
            end = rng.randrange(start, LARGE) + 1
            position = start
            for extent in disk.extents(start, end):
                assert extent.start == position < extent.end
                if extent.zero:
                    assert not any(whole[extent.start : extent.end])
                position = extent.end
            assert position == end
        zero = sum(item.end - item.start for item in disk.extents(0, LARGE) if item.zero)
    assert zero > LARGE // 2


def test_an_empty_disk(repository):
    store(repository, "p1", Write(VDA, SIZE, ()))
    with repository.open("p1") as reader:
        disk = reader.disk(VDA.identity)
        assert list(disk.extents(0, SIZE)) == [(0, SIZE, True)]
        assert disk.read_at(100, 5000) == bytes(5000)


def test_a_tebibyte_with_little_in_it(repository):
    size, place = 1 << 40, (1 << 40) - 3 * BLOCK
    write = Write(VDA, size, (data(0, noise(BLOCK)), data(place, noise(BLOCK, 1))))
    store(repository, "p1", write)
    if isinstance(repository, MemoryRepository):
        return  # it goes block by block
    with repository.open("p1") as reader:
        disk = reader.disk(VDA.identity)
        assert list(disk.extents(0, size)) == [
            (0, BLOCK, False),
            (BLOCK, place, True),
            (place, place + BLOCK, False),
            (place + BLOCK, size, True),
        ]
        assert disk.read_at(place + 10, 100) == noise(BLOCK, 1)[10:110]
        assert disk.read_at(1 << 39, 100) == bytes(100)
