"""What the conformance tests of repositories write, and what must come back."""

from __future__ import annotations

from sendense.repository.dedup.repository import DedupRepository
from tests.support.dedup_damage import damage_chunk
from tests.support.memory_repository import MemoryRepository
from tests.support.points import BLOCK, MACHINE_UUID, Write, data, disk, noise

VDA = disk("vda")
VDB = disk("vdb")
OTHER_UUID = "6f2d3f4e-0000-4000-8000-000000000002"
SIZE = 20 * BLOCK + 1536
TAIL = 20 * BLOCK


def full(size=SIZE, seed=1, target=VDA):
    """Data at both ends and a hole between."""
    tail = size - size % BLOCK
    return Write(
        target,
        size,
        (data(0, noise(4 * BLOCK, seed)), data(tail, noise(size - tail, seed + 1))),
    )


def content(write, base=b""):
    """Give what a disk holds after a write over ``base``."""
    result = bytearray(base.ljust(write.size, b"\0"))
    for chunk in write.chunks:
        result[chunk.offset : chunk.end] = chunk.data or bytes(chunk.length)
    return bytes(result)


def finest_block(repository, granularity):
    """Give the block size of the writer of an incremental with such a bitmap."""
    return BLOCK if isinstance(repository, DedupRepository) else min(max(granularity, 4096), BLOCK)


def damage(repository, point_id, offset):
    """Let the stored bytes of one block rot; gives the offset that will be found damaged.

    A dedup repository authenticates a chunk as a whole: its first block is named.
    """
    if isinstance(repository, MemoryRepository):
        repository.damage(point_id, VDA.identity, offset)
        return offset
    if isinstance(repository, DedupRepository):
        return damage_chunk(repository, point_id, VDA.identity, offset)
    folder = repository._root / "machines" / MACHINE_UUID / point_id
    image = folder / "vda.qcow2"
    raw = bytearray(image.read_bytes())
    place = BLOCK + 100 + offset
    raw[place] ^= 0xFF
    image.write_bytes(raw)
    return offset
