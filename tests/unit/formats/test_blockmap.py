"""A block map is read as it was written; changed or cut it is damage, and nothing else."""

from __future__ import annotations

import tracemalloc

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendense.errors import Damaged, Unsupported
from sendense.formats.blockmap import HASH_SIZE, BlockMap, MapWriter, Run
from sendense.units import KIB, MIB, TIB
from tests.support.memory_folder import memory_folder

BLOCK = 64 * KIB


def digest(number):
    return blake3(number.to_bytes(8, "little")).digest()


def write(path, kinds, *, size=None, block=BLOCK):
    """Write a map: ``d`` a block of data, ``z`` one of zeroes, ``-`` one that is not stated."""
    writer = MapWriter(path, len(kinds) * block if size is None else size, block_size=block)
    for number, kind in enumerate(kinds):
        if kind == "d":
            writer.data(number, digest(number))
        elif kind == "z":
            writer.zero(number, 1)
    return writer.finish()


def told(blocks):
    """Give what a map says, in the letters of :func:`write`."""
    kinds = ["-"] * -(-blocks.size // blocks.block_size)
    for run in blocks.runs():
        for number in range(run.start // blocks.block_size, -(-run.end // blocks.block_size)):
            kinds[number] = "z" if run.zero else "d"
            if not run.zero:
                assert blocks.hashes(number * blocks.block_size, 1) == digest(number)
    return "".join(kinds)


@given(st.text("dz-", max_size=60))
@settings(deadline=None)
def test_a_map_is_read_as_it_was_written(kinds):
    with memory_folder() as folder:
        summary = write(folder / "map", kinds)
        with BlockMap(folder / "map", digest=summary.digest) as blocks:
            assert told(blocks) == kinds
            for number, kind in enumerate(kinds):
                run = blocks.find(number * BLOCK + 5)
                assert (run is None) == (kind == "-")
                assert run is None or run.zero == (kind == "z")
        assert summary.data_bytes == kinds.count("d") * BLOCK
        assert summary.zero_bytes == kinds.count("z") * BLOCK


def test_runs_join_and_are_cut_by_the_disk_end(tmp_path):
    size = 3 * BLOCK + 512
    summary = write(tmp_path / "map", "dd-d", size=size)
    assert summary.data_bytes == 2 * BLOCK + 512
    with BlockMap(tmp_path / "map") as blocks:
        runs = list(blocks.runs())
        assert runs == [Run(0, 2 * BLOCK, False, 0), Run(3 * BLOCK, size, False, 2)]
        assert list(blocks.runs(BLOCK)) == runs
        assert list(blocks.runs(2 * BLOCK)) == runs[1:]
        assert blocks.hashes(0, 2) == digest(0) + digest(1)


@pytest.mark.parametrize("calls", [[(1, 1), (0, 1)], [(0, 5)], [(4, 1)], [(0, 2), (1, 1)]])
def test_blocks_ascend_inside_the_disk(tmp_path, calls):
    writer = MapWriter(tmp_path / "map", 4 * BLOCK, block_size=BLOCK)

    def make():
        for first, count in calls:
            writer.zero(first, count)

    with pytest.raises(ValueError, match="do not follow"):
        make()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_questions_about_nothing(tmp_path):
    write(tmp_path / "map", "dz-")
    with BlockMap(tmp_path / "map") as blocks:
        for offset, count in ((BLOCK, 1), (2 * BLOCK, 1), (0, 2)):
            with pytest.raises(ValueError, match=r"no data|not among"):
                blocks.hashes(offset, count)


def test_another_map_than_the_manifest_names(tmp_path):
    write(tmp_path / "map", "d")
    with pytest.raises(Damaged, match="manifest"):
        BlockMap(tmp_path / "map", digest="00" * HASH_SIZE)
    with pytest.raises(Damaged, match="missing"):
        BlockMap(tmp_path / "other")


def test_a_newer_map(tmp_path):
    write(tmp_path / "map", "d")
    data = bytearray((tmp_path / "map").read_bytes())
    data[8] = 2
    (tmp_path / "map").write_bytes(data)
    with pytest.raises(Unsupported):
        BlockMap(tmp_path / "map")


@pytest.fixture(scope="module")
def folder():
    with memory_folder() as path:
        write(path / "good", "dd-zd--zzd", size=9 * BLOCK + 512)
        yield path


def test_every_flipped_byte_is_found(folder):
    good = (folder / "good").read_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 0x40
        (folder / "bad").write_bytes(data)
        with pytest.raises((Damaged, Unsupported)):
            BlockMap(folder / "bad")


def test_every_cut_is_found(folder):
    good = (folder / "good").read_bytes()
    for length in range(len(good)):
        (folder / "bad").write_bytes(good[:length])
        with pytest.raises(Damaged):
            BlockMap(folder / "bad")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(st.lists(st.tuples(st.integers(0, 1 << 10), st.integers(0, 255)), max_size=10))
def test_a_forged_map_with_a_right_checksum(folder, changes):
    """Somebody who can make the checksum gets damage or a map, and no other error."""
    data = bytearray((folder / "good").read_bytes()[:-HASH_SIZE])
    for place, value in changes:
        data[place % len(data)] = value
    (folder / "bad").write_bytes(bytes(data) + blake3(data).digest())
    try:
        with BlockMap(folder / "bad") as blocks:
            for run in blocks.runs():
                assert run.start < run.end <= blocks.size
                if not run.zero:
                    blocks.hashes(run.start, 1)
    except (Damaged, Unsupported):
        pass


def test_memory_does_not_grow_with_the_disk(tmp_path):
    tracemalloc.start()
    try:
        writer = MapWriter(tmp_path / "map", 16 * TIB, block_size=BLOCK)
        for number in range(0, 400_000, 2):
            writer.data(number, digest(number % 7))
        writer.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    with BlockMap(tmp_path / "map") as blocks:
        assert blocks.hash_count == 200_000
        assert blocks.hashes(399_998 * BLOCK, 1) == digest(399_998 % 7)
