"""An overlay behaves as a disk would, and leaves the disk below and the folder as they were."""

from __future__ import annotations

import errno
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.errors import Damaged, NotAllowed, NotFound
from sendense.serving.overlay import BLOCK, Overlay
from tests.support.memory_folder import memory_folder
from tests.support.memory_repository import MemoryRepository
from tests.support.points import Write, data, disk, noise, store

VDA = disk("vda")
SIZE = 6 * BLOCK + 1536
BASE = (noise(2 * BLOCK) + bytes(2 * BLOCK) + noise(BLOCK, 1)).ljust(SIZE, b"\0")


def _below(repository=None):
    repository = repository or MemoryRepository()
    chunks = (data(0, BASE[: 2 * BLOCK]), data(4 * BLOCK, BASE[4 * BLOCK : 5 * BLOCK]))
    store(repository, "p1", Write(VDA, SIZE, chunks))
    return repository.open("p1").disk(VDA.identity)


@pytest.fixture
def overlay(tmp_path):
    made = Overlay(_below(), tmp_path)
    yield made
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_written_is_the_disk_below(overlay):
    assert overlay.read_at(0, SIZE) == BASE
    assert overlay.read_at(BLOCK - 5, 10) == BASE[BLOCK - 5 : BLOCK + 5]
    assert list(overlay.extents(0, SIZE)) == [
        (0, 2 * BLOCK, False),
        (2 * BLOCK, 4 * BLOCK, True),
        (4 * BLOCK, 5 * BLOCK, False),
        (5 * BLOCK, SIZE, True),
    ]


def test_what_is_written_is_read(overlay):
    overlay.write(100, memoryview(b"hello"))
    overlay.write(3 * BLOCK - 2, memoryview(b"over a border"))
    overlay.zero(BLOCK, BLOCK)
    overlay.zero(SIZE - 10, 10)
    expected = bytearray(BASE)
    expected[100:105] = b"hello"
    expected[3 * BLOCK - 2 : 3 * BLOCK + 11] = b"over a border"
    expected[BLOCK : 2 * BLOCK] = bytes(BLOCK)
    assert overlay.read_at(0, SIZE) == expected
    assert list(overlay.extents(0, SIZE)) == [
        (0, BLOCK, False),
        (BLOCK, 2 * BLOCK, True),
        (2 * BLOCK, 5 * BLOCK, False),
        (5 * BLOCK, 6 * BLOCK, True),
        (6 * BLOCK, SIZE, False),
    ]


def test_the_end_of_a_disk_is_a_block_as_well(overlay):
    overlay.zero(6 * BLOCK, 1536)
    overlay.write(SIZE - 1, memoryview(b"x"))
    assert overlay.read_at(6 * BLOCK, 1536) == bytes(1535) + b"x"
    overlay.write(6 * BLOCK, memoryview(noise(1536, 5)))
    assert overlay.read_at(6 * BLOCK, 1536) == noise(1536, 5)


@pytest.mark.parametrize(("offset", "length"), [(SIZE, 1), (-1, 1), (0, SIZE + 1)])
def test_what_is_not_in_the_disk_is_refused(overlay, offset, length):
    for work in (
        overlay.read_at,
        overlay.zero,
        lambda at, n: overlay.write(at, memoryview(bytes(n))),
    ):
        with pytest.raises(ValueError, match="is no range"):
            work(offset, length)


WRITES = st.lists(
    st.tuples(
        st.sampled_from(["write", "zero"]),
        st.integers(0, SIZE - 1),
        st.sampled_from([1, 512, 4096, BLOCK, BLOCK + 1, 3 * BLOCK]),
        st.integers(0, 255),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(writes=WRITES)
def test_it_is_a_disk(writes):
    with memory_folder() as folder:
        overlay = Overlay(_below(), folder)
        expected = bytearray(BASE)
        for kind, offset, length, value in writes:
            length = min(length, SIZE - offset)
            content = bytes([value]) * length if kind == "write" else bytes(length)
            if kind == "write":
                overlay.write(offset, memoryview(content))
            else:
                overlay.zero(offset, length)
            expected[offset : offset + length] = content
        assert overlay.read_at(0, SIZE) == expected
        for start, end, zero in overlay.extents(0, SIZE):
            assert not (zero and any(expected[start:end]))
        overlay.close()


def test_neighbours_in_a_block_do_not_lose_each_other(overlay):
    """Each thread owns a part of every block, and all begin at the same moment."""
    part = BLOCK // 8
    barrier = threading.Barrier(8)

    def write(number):
        rng = random.Random(number)
        for _ in range(20):
            for block in range(6):
                barrier.wait(10)
                at = block * BLOCK + number * part
                content = rng.randbytes(part)
                overlay.write(at, memoryview(content))
                assert overlay.read_at(at, part) == content
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, range(8)))


def test_a_part_of_a_block_that_cannot_be_read_cannot_be_written(tmp_path):
    repository = MemoryRepository()
    below = _below(repository)
    repository.damage("p1", VDA.identity, BLOCK)
    below = repository.open("p1").disk(VDA.identity)
    overlay = Overlay(below, tmp_path)
    with pytest.raises(Damaged):
        overlay.write(BLOCK + 1, memoryview(b"x"))
    with pytest.raises(Damaged):
        overlay.read_at(BLOCK, 1)
    overlay.write(BLOCK, memoryview(noise(BLOCK, 3)))
    assert overlay.read_at(BLOCK, BLOCK) == noise(BLOCK, 3)
    overlay.close()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(NotFound):
        Overlay(_below(), tmp_path / "gone")


def test_a_folder_that_takes_no_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotAllowed):
        Overlay(_below(), tmp_path)


def test_a_file_system_without_nameless_files(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, flags, *rest):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    overlay = Overlay(_below(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    overlay.write(0, memoryview(b"x"))
    assert overlay.read_at(0, 2) == b"x" + BASE[1:2]
    overlay.close()
