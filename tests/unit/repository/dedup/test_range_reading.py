"""Ranges of a disk in a dedup repository: nodes that are lost, and what is read ahead."""

from __future__ import annotations

import secrets

import pytest

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.storage.urls import open_store
from tests.support.dedup import dedup_repository
from tests.support.dedup_damage import flip
from tests.support.points import BLOCK, Write, data, disk, noise, store

VDA = disk("vda")
LEAF = fmt.LEAF_BYTES
SIZE = 70 * LEAF
PLACES = (0, LEAF + BLOCK, 2 * LEAF, 68 * LEAF + 3 * BLOCK)
"""One block in each of four leaves, of which the last has another parent."""


@pytest.fixture
def repository():
    made = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    chunks = tuple(data(place, noise(BLOCK, place // BLOCK)) for place in PLACES)
    store(made, "p1", Write(VDA, SIZE, chunks))
    yield made
    made.close()


def _lose(repository, node):
    """Let a node rot, wherever it is."""
    place = repository.parts.index.find([node])[node]
    flip(repository, place.pack.name, place.entry.offset + 5)


def _node(repository, level, number):
    with repository.open("p1") as reader:
        return reader.disk(VDA.identity).tree().find(level, number)


def test_a_leaf_that_is_lost(repository):
    _lose(repository, _node(repository, 0, 1))
    with repository.open("p1") as reader:
        reading = reader.disk(VDA.identity)
        assert reading.read_at(0, BLOCK) == noise(BLOCK, 0)
        assert reading.read_at(2 * LEAF, BLOCK) == noise(BLOCK, 2 * LEAF // BLOCK)
        for offset in (LEAF, LEAF + BLOCK, 2 * LEAF - 1):
            with pytest.raises(Damaged) as caught:
                reading.read_at(offset, 1)
            assert (caught.value.data["offset"], caught.value.data["length"]) == (LEAF, LEAF)
            assert caught.value.data["disk"] == VDA.identity
        # What cannot be known is not said to be zero.
        assert list(reading.extents(0, 3 * LEAF)) == [
            (0, BLOCK, False),
            (BLOCK, LEAF, True),
            (LEAF, 2 * LEAF + BLOCK, False),
            (2 * LEAF + BLOCK, 3 * LEAF, True),
        ]


def test_an_inner_node_that_is_lost(repository):
    _lose(repository, _node(repository, 1, 0))
    with repository.open("p1") as reader:
        reading = reader.disk(VDA.identity)
        place = PLACES[-1]
        assert reading.read_at(place, BLOCK) == noise(BLOCK, place // BLOCK)
        with pytest.raises(Damaged):
            reading.read_at(0, 1)
        with pytest.raises(Damaged):
            reading.read_at(50 * LEAF, 1)
        assert list(reading.extents(0, SIZE)) == [
            (0, 64 * LEAF, False),
            (64 * LEAF, place, True),
            (place, place + BLOCK, False),
            (place + BLOCK, SIZE, True),
        ]


def test_a_root_that_is_lost(repository):
    _lose(repository, _node(repository, 2, 0))
    with repository.open("p1") as reader:
        reading = reader.disk(VDA.identity)
        assert list(reading.extents(0, SIZE)) == [(0, SIZE, False)]
        with pytest.raises(Damaged):
            reading.read_at(SIZE - 1, 1)


def test_a_leaf_in_the_place_of_an_inner_node_is_damage(repository):
    with repository.open("p1") as reader:
        reading = reader.disk(VDA.identity)
        leaf = reading.tree().find(0, 0)
        reading._ranges._disk = type(reading._ranges._disk)(leaf, SIZE, reading._place.damaged)
        with pytest.raises(Damaged):
            reading.read_at(0, 1)


def test_a_chunk_that_is_lost_is_lost_alone():
    repository = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    store(repository, "p1", Write(VDA, LEAF, (data(0, noise(LEAF)),)))
    with repository.open("p1") as reader:
        reading = reader.disk(VDA.identity)
        leaf = reading.tree().find(0, 0)
        assert leaf is not None
        slot = reading.slots_of(leaf)[20]
    assert slot is not None
    place = repository.parts.index.find([slot.chunk])[slot.chunk]
    flip(repository, place.pack.name, place.entry.offset + 5)
    window = 16 * BLOCK
    with repository.open("p1") as reader:
        reading = reader.disk(VDA.identity)
        with pytest.raises(Damaged) as caught:
            reading.read_at(0, LEAF)
        assert (caught.value.data["offset"], caught.value.data["length"]) == (window, window)
        with pytest.raises(Damaged) as caught:
            reading.read_at(20 * BLOCK, 1)
        assert (caught.value.data["offset"], caught.value.data["length"]) == (20 * BLOCK, BLOCK)
        assert reading.read_at(0, window) == noise(LEAF)[:window]
        assert reading.read_at(2 * window, LEAF - 2 * window) == noise(LEAF)[2 * window :]
    repository.close()


def test_what_comes_next_is_brought(repository):
    content = noise(8 * LEAF, 5)
    store(repository, "p2", Write(VDA, 8 * LEAF, (data(0, content),)))
    with repository.open("p2") as reader:
        reading = reader.disk(VDA.identity)
        step = 256 * 1024
        for offset in range(0, LEAF, step):
            assert reading.read_at(offset, step) == content[offset : offset + step]
        assert reading._ranges._brought.get(1)
        assert not reading._ranges._brought.get(7)
        for offset in range(LEAF, 8 * LEAF, step):
            assert reading.read_at(offset, step) == content[offset : offset + step]


def test_memory_is_bounded(repository):
    size = 100 << 20
    store(repository, "p2", Write(VDA, size, (data(0, noise(size, 6)),)))
    with repository.open("p2") as reader:
        reading = reader.disk(VDA.identity)
        for offset in range(0, size, 1 << 20):
            reading.read_at(offset, 1 << 20)
        held = reader._chunks._held
        assert held.weight <= 64 << 20
        assert len(held) == 64
