"""What is stored, and what is only referred to."""

from __future__ import annotations

import random
import secrets

import pytest

from sendense.model.decision import Method
from sendense.repository.dedup import format as fmt
from sendense.repository.protocol import VerifyLevel
from sendense.storage.urls import open_store
from sendense.units import KIB, MIB
from tests.support.dedup import dedup_repository
from tests.support.dedup_damage import damage_chunk, flip, locate
from tests.support.points import (
    BLOCK,
    Write,
    data,
    disk,
    noise,
    restored,
    store,
    zeroes,
)

VDA = disk("vda")
LEAF = fmt.LEAF_BYTES


@pytest.fixture
def repository():
    made = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    yield made
    made.close()


def stored_bytes(repository):
    return sum(item.size for item in repository.parts.store.list(fmt.PACKS))


def whole(content, method=Method.EVERYTHING):
    """Give a disk as the stream brings it: in pieces of 512 KiB."""
    step = 512 * KIB
    pieces = [data(at, content[at : at + step]) for at in range(0, len(content), step)]
    return Write(VDA, len(content), tuple(pieces), method)


def changed(content, places, seed):
    """Give ``content`` with 4 KiB written into each of some blocks."""
    result = bytearray(content)
    for number, place in enumerate(places):
        result[place * BLOCK : place * BLOCK + 4 * KIB] = noise(4 * KIB, seed + number)
    return bytes(result)


def test_a_second_full_stores_nothing(repository):
    content = noise(17 * MIB + 4096)
    store(repository, "p1", whole(content))
    before = stored_bytes(repository)
    made = store(repository, "p2", whole(content))
    assert stored_bytes(repository) == before
    assert (made.disks[0].data_bytes, made.disks[0].stored_bytes) == (0, 0)
    assert restored(repository, "p2") == content


@pytest.fixture
def looks(repository, monkeypatch):
    """Give what the index is asked for, look by look."""
    index = repository.parts.index
    stored, asked = index.stored, []

    def look(ids):
        asked.append(ids)
        return stored(ids)

    monkeypatch.setattr(index, "stored", look)
    return asked


def test_how_often_the_index_is_asked(repository, looks):
    content = noise(4 * LEAF)
    leaves, inner_node = 4, 1
    store(repository, "p1", whole(content))
    its_chunks_and_itself = 2
    assert len(looks) == its_chunks_and_itself * leaves + inner_node
    looks.clear()
    store(repository, "p2", whole(content))
    assert len(looks) == leaves + inner_node


@pytest.mark.parametrize("method", [Method.EVERYTHING, Method.BITMAP])
def test_zeroes_over_a_leaf_that_nobody_knows_to_be_damaged(repository, method):
    size = 2 * LEAF
    store(repository, "p1", whole(noise(size)))
    with repository.open("p1") as reader:
        leaf = reader.disk(VDA.identity).tree().find(0, 1)
    place = repository.parts.index.find([leaf])[leaf]
    flip(repository, place.pack.name, place.entry.offset + 5)
    zero = zeroes(0, size) if method is Method.BITMAP else data(0, bytes(size))
    store(repository, "p2", Write(VDA, size, (zero,), method))
    assert restored(repository, "p2") == bytes(size)


def test_scattered_writes_grow_the_store_by_their_blocks(repository):
    content = noise(64 * MIB)
    store(repository, "p1", whole(content))
    places = sorted(random.Random(3).sample(range(len(content) // BLOCK), 40))
    after = changed(content, places, 1000)
    chunks = tuple(data(at * BLOCK, after[at * BLOCK : (at + 1) * BLOCK]) for at in places)
    before = stored_bytes(repository)
    store(repository, "p2", Write(VDA, len(content), chunks, Method.BITMAP))
    assert stored_bytes(repository) - before <= 1.1 * len(places) * BLOCK
    assert restored(repository, "p2") == after
    assert restored(repository, "p1") == content


@pytest.mark.parametrize("method", [Method.EVERYTHING, Method.COMPARE])
def test_a_full_after_incrementals_follows_what_is_there(repository, method):
    content = noise(16 * MIB)
    store(repository, "p1", whole(content))
    places = [3, 17, 18, 19, 200]
    after = changed(content, places, 50)
    chunks = tuple(data(at * BLOCK, after[at * BLOCK : (at + 1) * BLOCK]) for at in places)
    store(repository, "p2", Write(VDA, len(content), chunks, Method.BITMAP))
    before = stored_bytes(repository)
    made = store(repository, "p3", whole(after, method))
    assert stored_bytes(repository) == before
    assert made.disks[0].data_bytes == 0
    assert restored(repository, "p3") == after


def test_a_wide_granule_costs_only_the_blocks_that_changed(repository):
    content = noise(16 * MIB)
    store(repository, "p1", whole(content))
    after = changed(content, [5], 50)
    made = store(
        repository, "p2", Write(VDA, len(content), (data(0, after[:MIB]),), Method.BITMAP, MIB)
    )
    assert made.disks[0].data_bytes == BLOCK
    assert restored(repository, "p2") == after


def test_ten_clones_of_a_template_take_little_more_than_one(repository):
    template = noise(64 * MIB)
    rng = random.Random(5)
    one = 0
    for number in range(10):
        blocks = rng.sample(range(len(template) // BLOCK), len(template) // BLOCK // 100)
        own = bytearray(template)
        for place in blocks:
            own[place * BLOCK : (place + 1) * BLOCK] = noise(BLOCK, number * 1000 + place)
        uuid = f"6f2d3f4e-0000-4000-8000-{number:012d}"
        store(repository, f"p{number}", whole(bytes(own)), uuid=uuid)
        assert restored(repository, f"p{number}") == own
        one = one or stored_bytes(repository)
    assert stored_bytes(repository) <= 1.25 * one


def test_a_clone_at_another_offset_is_found_too(repository):
    template = noise(32 * MIB)
    store(repository, "p1", whole(template))
    moved = bytes(8 * MIB) + template
    before = stored_bytes(repository)
    store(repository, "o1", whole(moved), uuid="6f2d3f4e-0000-4000-8000-000000000009")
    assert stored_bytes(repository) - before < MIB
    assert restored(repository, "o1") == moved


def test_zeroes_cost_nothing(repository):
    size = 1 << 40
    store(repository, "p1", Write(VDA, size, (zeroes(0, size),)))
    assert stored_bytes(repository) == 0
    made = store(
        repository, "p2", Write(VDA, size, (data(0, bytes(MIB)), zeroes(MIB, MIB)), Method.BITMAP)
    )
    assert (stored_bytes(repository), made.disks[0].data_bytes) == (0, 0)


def test_what_is_damaged_is_stored_again_and_older_points_are_whole_again(repository):
    content = noise(8 * MIB)
    store(repository, "p1", whole(content))
    damage_chunk(repository, "p1", VDA.identity, 3 * MIB)
    assert not repository.verify("p1", VerifyLevel.DATA).sound
    made = store(repository, "p2", whole(content))
    assert made.disks[0].data_bytes == MIB
    assert restored(repository, "p2") == content
    assert repository.verify("p1", VerifyLevel.DATA).sound
    assert restored(repository, "p1") == content
    assert store(repository, "p3", whole(content)).disks[0].data_bytes == 0


def test_the_chunk_of_an_incremental_heals_by_a_full(repository):
    content = noise(8 * MIB)
    store(repository, "p1", whole(content))
    places = [20, 22]
    after = changed(content, places, 50)
    chunks = tuple(data(at * BLOCK, after[at * BLOCK : (at + 1) * BLOCK]) for at in places)
    store(repository, "p2", Write(VDA, len(content), chunks, Method.BITMAP))
    damage_chunk(repository, "p2", VDA.identity, 20 * BLOCK)
    assert not repository.verify("p2", VerifyLevel.DATA).sound
    made = store(repository, "p3", whole(after))
    assert made.disks[0].data_bytes == 2 * BLOCK
    assert repository.verify("p2", VerifyLevel.DATA).sound
    assert restored(repository, "p2") == after


def test_a_missing_pack_heals_as_far_as_its_content_comes_by(repository):
    content = noise(8 * MIB)
    store(repository, "p1", whole(content))
    _, location = locate(repository, "p1", VDA.identity, 0)
    repository.parts.store.delete([location.pack.name])
    assert not repository.verify("p1", VerifyLevel.STRUCTURE).sound
    store(repository, "p2", whole(content))
    assert restored(repository, "p2") == content
    assert repository.verify("p1", VerifyLevel.DATA).sound


def test_a_small_disk_that_became_a_large_one(repository):
    first, second = noise(3 * BLOCK, 1), noise(BLOCK, 2)
    store(repository, "p1", Write(VDA, 3 * BLOCK, (data(0, first),)))
    grown = Write(VDA, 300 * MIB, (data(299 * MIB, second),), Method.BITMAP)
    store(repository, "p2", grown)
    with repository.open("p2") as reader:
        chunks = list(reader.disk("serial:serial-vda").chunks())
    found = [(chunk.offset, chunk.length) for chunk in chunks if chunk.data is not None]
    assert found == [(0, 3 * BLOCK), (299 * MIB, BLOCK)]
    assert repository.verify("p2", VerifyLevel.DATA).sound
