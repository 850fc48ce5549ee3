"""Several disks of a point at once: what one of them suffers does no harm to the others."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace

import pytest

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.buffers import BufferPool
from sendense.repository.dedup.packs import PackCipher
from sendense.repository.dedup.writing import writing_threads
from sendense.storage.urls import open_store
from sendense.storage.wrapper import Wrapper
from tests.support.dedup import dedup_repository, reopened
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    data,
    disk,
    draft,
    machine,
    noise,
    restored,
    spec_for,
    store,
)

PATIENCE_S = 20.0


@pytest.fixture
def repository():
    made = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
    yield made
    made.close()


def finish(writer):
    writer.finish(read_bytes=0, sampled_blocks=0, seconds=0.0)


def test_disks_that_failed_do_not_keep_another_waiting(repository):
    disks = [disk(f"vd{number}") for number in range(writing_threads() + 4)]

    def run():
        with repository.begin(machine(MACHINE_UUID, *disks), "p1") as point:
            specs = [spec_for(repository, Write(item, BLOCK, ()), MACHINE_UUID) for item in disks]
            *others, last = [point.disk(spec) for spec in specs]
            for writer in others:
                writer.write(0, noise(BLOCK))
            last.write(0, noise(BLOCK))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_what_a_disk_stores_that_is_discarded_another_may_refer_to(repository, monkeypatch):
    """The point is put after the last byte that it needs."""
    encrypt_into, begun, go_on = PackCipher.encrypt_into, threading.Event(), threading.Event()

    def slowly(*given):
        if not begun.is_set():
            begun.set()
            go_on.wait(PATIENCE_S)
        encrypt_into(*given)

    monkeypatch.setattr(PackCipher, "encrypt_into", slowly)
    stored = []
    put = repository.parts.store.put

    def note(name, parts, **options):
        put(name, parts, **options)
        stored.append(name.split("/")[0] + "/")

    monkeypatch.setattr(repository.parts.store, "put", note)
    first, second = disk("vda"), disk("vdb")
    owner = machine(MACHINE_UUID, first, second)
    content = noise(BLOCK)
    with repository.begin(owner, "p1") as point:
        gone = point.disk(spec_for(repository, Write(first, 8 * BLOCK * 64, ()), MACHINE_UUID))
        gone.write(0, content)
        gone.write(fmt.LEAF_BYTES, content)
        assert begun.wait(PATIENCE_S)
        threading.Timer(0.5, go_on.set).start()
        gone.discard()
        kept = point.disk(spec_for(repository, Write(second, BLOCK, ()), MACHINE_UUID))
        kept.write(0, content)
        finish(kept)
        point.commit(draft(owner))
        order = [name for name in stored if name in (fmt.PACKS, fmt.POINTS)]
    assert order == [fmt.PACKS, fmt.PACKS, fmt.POINTS]
    assert restored(reopened(repository.parts.store, repository), "p1", "serial:serial-vdb") == (
        content
    )


def test_what_one_disk_failed_to_store_no_other_refers_to(repository, monkeypatch):
    encrypt_into = PackCipher.encrypt_into
    failing = iter([MemoryError("no room")])

    def once(*given):
        for error in failing:
            raise error
        encrypt_into(*given)

    monkeypatch.setattr(PackCipher, "encrypt_into", once)
    first, second = disk("vda"), disk("vdb")
    owner = machine(MACHINE_UUID, first, second)

    def go_on():
        with repository.begin(owner, "p1") as point:
            gone = point.disk(spec_for(repository, Write(first, BLOCK, ()), MACHINE_UUID))
            gone.write(0, noise(BLOCK))
            with pytest.raises(MemoryError):
                finish(gone)
            gone.discard()
            kept = point.disk(spec_for(repository, Write(second, BLOCK, ()), MACHINE_UUID))
            kept.write(0, noise(BLOCK))
            finish(kept)
            point.commit(draft(owner))

    with pytest.raises(MemoryError):
        go_on()
    assert repository.points() == ()
    assert repository.parts.index.totals().data.entries == 0


def test_a_pool_is_widened_once():
    pool = BufferPool(16, 1)
    pool.take()
    for _ in range(3):
        pool.widen(2)
    pool.take()

    def full():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        pool.take(full)


def test_what_is_sent_to_a_bucket_is_a_copy(monkeypatch):
    """Its buffer is filled with the next pack meanwhile."""
    monkeypatch.setattr(fmt, "PACK_BYTES", fmt.LEAF_BYTES)
    sent = []

    class Bucket(Wrapper):
        def put(self, name, parts, *, create=False):
            if name.startswith(fmt.PACKS):
                sent.append((name, parts))
            super().put(name, parts, create=create)

    bucket = Bucket(open_store(f"memory:{secrets.token_hex(4)}"))
    bucket.traits = replace(bucket.traits, kind="s3")
    repository = dedup_repository(bucket)
    content = noise(5 * fmt.LEAF_BYTES)
    store(repository, "p1", Write(disk(), len(content), (data(0, content),)))
    assert len(sent) > 5
    assert all(bucket.get(name) == parts for name, parts in sent)
    assert restored(repository, "p1") == content
    repository.close()
