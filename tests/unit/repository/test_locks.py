"""Locks say who holds them, and go with their holder."""

from __future__ import annotations

import os

import pytest

from sendense.errors import Busy
from sendense.repository.chain import locks


def test_the_holder_is_named(tmp_path):
    path = tmp_path / ".lock"
    with locks.exclusive(path, "a backup"):
        with pytest.raises(Busy, match=rf"a backup \(process {os.getpid()} on ") as caught:
            locks.exclusive(path, "another")
        assert caught.value.retryable
        with pytest.raises(Busy):
            locks.shared(path, "a reader")
    locks.exclusive(path, "another").release()


def test_readers_share(tmp_path):
    path = tmp_path / ".readers"
    first = locks.shared(path, "one")
    second = locks.shared(path, "two")
    with pytest.raises(Busy):
        locks.exclusive(path, "a deletion")
    for lock in (first, second):
        assert lock is not None
        lock.release()
        lock.release()
    locks.exclusive(path, "a deletion").release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 100, b'{"pid": 1}'])
def test_a_holder_that_cannot_be_read(tmp_path, content):
    path = tmp_path / ".lock"
    with locks.exclusive(path, "a backup"):
        path.write_bytes(content)
        with pytest.raises(Busy, match="somebody else"):
            locks.exclusive(path, "another")


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / ".lock"
    child = os.fork()
    if child == 0:
        locks.exclusive(path, "a child that dies")
        os._exit(0)
    os.waitpid(child, 0)
    locks.exclusive(path, "another").release()
