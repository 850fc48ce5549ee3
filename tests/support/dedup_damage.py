"""Rot in the objects of a dedup repository, put where a test wants it."""

from __future__ import annotations

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Location
from sendense.repository.dedup.repository import DedupRepository


def damage_chunk(repository: DedupRepository, point_id: str, disk: str, offset: int) -> int:
    """Flip a byte in the chunk that holds an offset; gives the offset of its first block."""
    leaf, location = locate(repository, point_id, disk, offset)
    flip(repository, location.pack.name, location.entry.offset + 5)
    places = [
        place
        for place, slot in enumerate(leaf)
        if slot is not None and slot.chunk == location.entry.id
    ]
    base = offset - offset % fmt.LEAF_BYTES
    return base + places[0] * fmt.BLOCK


def locate(repository: DedupRepository, point_id: str, disk: str, offset: int):
    """Give the slots of the leaf at an offset, and where the chunk there lies."""
    with repository.open(point_id) as reader:
        reading = reader.disk(disk)
        node = reading.tree().find(0, offset // fmt.LEAF_BYTES)
        assert node is not None
        leaf = reading.slots_of(node)
    slot = leaf[offset % fmt.LEAF_BYTES // fmt.BLOCK]
    assert slot is not None
    location: Location = repository.parts.index.find([slot.chunk])[slot.chunk]
    return leaf, location


def flip(repository: DedupRepository, name: str, place: int) -> None:
    """Flip one bit of an object."""
    data = bytearray(repository.parts.store.get(name))
    data[place] ^= 1
    repository.parts.store.put(name, data)
