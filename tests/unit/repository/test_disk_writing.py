"""How fine a layer's blocks are, and that only what differs is stored."""

from __future__ import annotations

import pytest

from sendense.model.decision import Method
from sendense.repository.chain.disk_writing import block_size_for
from sendense.repository.opening import create_repository
from sendense.repository.protocol import DiskSpec
from sendense.units import KIB, MIB, TIB
from tests.support.points import BLOCK, Write, data, decision, disk, noise, store, zeroes


@pytest.mark.parametrize(
    ("method", "granularity", "size", "expected"),
    [
        (Method.EVERYTHING, 4 * KIB, MIB, 64 * KIB),
        (Method.COMPARE, 4 * KIB, MIB, 64 * KIB),
        (Method.BITMAP, 64 * KIB, MIB, 64 * KIB),
        (Method.BITMAP, 4 * KIB, MIB, 4 * KIB),
        (Method.BITMAP, 512, MIB, 4 * KIB),
        (Method.BITMAP, 16 * MIB, MIB, 64 * KIB),
        (Method.BITMAP, 24 * KIB, MIB, 16 * KIB),
        (Method.BITMAP, 4 * KIB, 2 * TIB, 4 * KIB),
        (Method.BITMAP, 4 * KIB, 3 * TIB, 8 * KIB),
        (Method.BITMAP, 4 * KIB, 64 * TIB, 32 * KIB),
        (Method.EVERYTHING, 64 * KIB, 2048 * TIB, 128 * KIB),
    ],
)
def test_block_size(method, granularity, size, expected):
    spec = DiskSpec(disk(), size, (), decision("vda", method, "p1"), granularity)
    assert block_size_for(spec) == expected


SIZE = 16 * BLOCK


@pytest.fixture
def repository(tmp_path):
    made = create_repository(f"qcow2:{tmp_path}")
    store(made, "p1", Write(disk(), SIZE, (data(0, noise(8 * BLOCK)),)))
    return made


@pytest.mark.parametrize(
    ("chunks", "stored", "zeroed"),
    [
        ((data(0, noise(8 * BLOCK)), zeroes(8 * BLOCK, 8 * BLOCK)), 0, 0),
        ((data(0, noise(8 * BLOCK)), data(8 * BLOCK, bytes(8 * BLOCK))), 0, 0),
        ((zeroes(0, SIZE),), 0, 8),
        ((data(0, bytes(SIZE)),), 0, 8),
        ((data(0, noise(2 * BLOCK, 5)),), 2, 0),
        ((data(7 * BLOCK, noise(2 * BLOCK, 5)),), 2, 0),
        ((zeroes(2 * BLOCK, 2 * BLOCK), zeroes(6 * BLOCK, 4 * BLOCK)), 0, 4),
    ],
)
def test_a_comparison_stores_what_differs(repository, chunks, stored, zeroed):
    made = store(repository, "p2", Write(disk(), SIZE, chunks, Method.COMPARE))
    image = made.disks[0]
    assert (image.data_bytes // BLOCK, image.zero_bytes // BLOCK) == (stored, zeroed)
    assert image.stored_bytes < (stored + 8) * BLOCK


def test_a_comparison_sees_through_finer_layers(repository):
    change = (data(BLOCK + 8 * KIB, noise(4 * KIB, 3)), zeroes(3 * BLOCK, 4 * KIB))
    store(repository, "p2", Write(disk(), SIZE, change, Method.BITMAP, 4 * KIB))
    whole = bytearray(noise(8 * BLOCK))
    whole[BLOCK + 8 * KIB : BLOCK + 12 * KIB] = noise(4 * KIB, 3)
    whole[3 * BLOCK : 3 * BLOCK + 4 * KIB] = bytes(4 * KIB)
    same = store(repository, "p3", Write(disk(), SIZE, (data(0, bytes(whole)),), Method.COMPARE))
    assert same.disks[0].data_bytes == 0
    whole[BLOCK] ^= 1
    whole[3 * BLOCK + 100] = 1
    other = store(repository, "p4", Write(disk(), SIZE, (data(0, bytes(whole)),), Method.COMPARE))
    assert other.disks[0].data_bytes == 2 * BLOCK


def test_zero_granules_of_a_bitmap_are_stated_and_not_stored(repository):
    chunks = (data(0, bytes(BLOCK)), zeroes(BLOCK, BLOCK), data(2 * BLOCK, noise(BLOCK)))
    image = store(repository, "p2", Write(disk(), SIZE, chunks, Method.BITMAP)).disks[0]
    assert (image.data_bytes, image.zero_bytes) == (BLOCK, 2 * BLOCK)
