"""What a run had in memory is free when it ends, and not when Python next looks for cycles.

Buffers are large and few, so that is rarely: in a worker it was after several runs.
"""

from __future__ import annotations

import gc
import secrets
import weakref

import pytest

from sendense.repository.dedup import disk_writing, pack_writing, reading
from sendense.repository.dedup.buffers import BufferPool
from sendense.storage.urls import open_store
from sendense.units import MIB
from tests.support.dedup import dedup_repository
from tests.support.points import MACHINE_UUID, Write, data, disk, machine, noise, spec_for, store

VDA = disk("vda")
SIZE = 5 * MIB


@pytest.fixture
def repository():
    made = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    yield made
    made.close()


@pytest.fixture
def made(monkeypatch):
    """Give what of these was made, without keeping any."""
    seen: list[weakref.ref[object]] = []
    for kind in (
        BufferPool,
        pack_writing.PackWriter,
        disk_writing.DedupDiskWriter,
        reading.DedupDiskReader,
    ):

        def begin(self, *arguments, original=kind.__init__, **more):
            seen.append(weakref.ref(self))
            original(self, *arguments, **more)

        monkeypatch.setattr(kind, "__init__", begin)
    gc.collect()
    gc.disable()
    yield seen
    gc.enable()


def pieces():
    content = noise(SIZE)
    return tuple(data(at, content[at : at + MIB]) for at in range(0, SIZE, MIB))


def left_of(made):
    assert made
    return [item() for item in made if item() is not None]


def test_a_backup(repository, made):
    store(repository, "p1", Write(VDA, SIZE, pieces()))
    assert left_of(made) == []


def test_a_backup_that_is_given_up(repository, made):
    with repository.begin(machine(MACHINE_UUID, VDA), "p1") as point:
        writer = point.disk(spec_for(repository, Write(VDA, SIZE, ()), MACHINE_UUID))
        for chunk in pieces():
            writer.write(chunk.offset, chunk.data)
        writer.discard()
    del point, writer
    assert left_of(made) == []


def test_a_restore(repository, made):
    store(repository, "p1", Write(VDA, SIZE, pieces()))
    made.clear()
    with repository.open("p1") as point:
        reader = point.disk(VDA.identity)
        assert sum(chunk.length for chunk in reader.chunks()) == SIZE
        assert reader.read_at(0, 512) == noise(SIZE)[:512]
    del point, reader
    assert left_of(made) == []


def test_a_pool_that_is_closed_keeps_nothing():
    pool = BufferPool(4096, 2)
    first, second = pool.take(), pool.take()
    pool.give(first)
    pool.close()
    held = [weakref.ref(buffer.obj) for buffer in (first, second)]
    pool.give(second)
    del first, second
    assert [item() for item in held] == [None, None]
