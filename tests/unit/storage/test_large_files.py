"""Large files go past the page cache where that is possible, and are whole where it is not."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
from itertools import pairwise

import pytest

from sendense.errors import OutOfSpace
from sendense.storage.local import LocalStore
from sendense.units import KIB, MIB
from tests.support.memory_folder import memory_folder

CONTENT = random.Random(1).randbytes(3 * MIB + 5)


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    if request.param == "disk":
        yield from opened(tmp_path)
    else:
        with memory_folder() as folder:
            yield from opened(folder)


def opened(folder):
    store = LocalStore(folder / "store")
    yield store
    store.close()


def aligned(content, skip=0):
    """Give a buffer that begins ``skip`` bytes behind the beginning of a page."""
    whole = memoryview(mmap.mmap(-1, skip + len(content)))[skip:]
    whole[:] = content
    return whole


def in_parts(content, *ends):
    edges = [0, *ends, len(content)]
    return [aligned(content[low:high]) for low, high in pairwise(edges)]


@pytest.mark.parametrize(
    "parts",
    [
        [aligned(CONTENT)],
        [aligned(CONTENT[: 2 * MIB])],
        [aligned(CONTENT, skip=1)],
        [aligned(CONTENT, skip=512)],
        in_parts(CONTENT, 2 * MIB, 2 * MIB + 3),
        in_parts(CONTENT, 2 * MIB + 7),
        in_parts(CONTENT, 100),
        CONTENT,
    ],
)
def test_what_is_written_is_whole(store, parts):
    store.put("packs/a", parts)
    expected = parts if isinstance(parts, bytes) else b"".join(parts)
    assert store.get("packs/a") == expected


@pytest.fixture
def direct(monkeypatch):
    """Have the writes that go past the cache end as the test says."""
    write = os.write
    seen: list[int] = []
    answers: list[OSError | int] = []

    def call(fd, data):
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
        seen.append(len(data))
        answer = answers.pop(0) if answers else None
        if isinstance(answer, OSError):
            raise answer
        return write(fd, data if answer is None else data[:answer])

    monkeypatch.setattr(os, "write", call)
    return seen, answers


@pytest.mark.parametrize(
    "ends",
    [
        [],
        [OSError(errno.EINVAL, "no such alignment")],
        [MIB],
        [MIB, OSError(errno.EIO, "not now")],
        [64 * KIB, 64 * KIB, 64 * KIB],
    ],
)
def test_what_is_not_written_directly_is_written_all_the_same(store, direct, ends):
    seen, answers = direct
    answers.extend(ends)
    store.put("a", aligned(CONTENT))
    assert store.get("a") == CONTENT
    assert seen[0] == 3 * MIB


def test_a_file_system_that_knows_no_direct_writing(store, direct, monkeypatch):
    change = fcntl.fcntl

    def refuse(fd, command, *value):
        if command == fcntl.F_SETFL and value[0] & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not here")
        return change(fd, command, *value)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    store.put("a", aligned(CONTENT))
    assert store.get("a") == CONTENT
    assert direct[0] == []


def test_small_files_stay_in_the_cache(store, direct):
    store.put("a", aligned(CONTENT[:MIB]))
    assert direct[0] == []


def test_a_full_disk_is_told_of(store, direct, monkeypatch):
    direct[1].append(OSError(errno.ENOSPC, "full"))

    def full(_fd, _pieces):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OutOfSpace):
        store.put("a", aligned(CONTENT))
    assert list(store.list("")) == []
