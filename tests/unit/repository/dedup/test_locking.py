"""Locks that the store enforces, on a bucket with object lock."""

from __future__ import annotations

import secrets
from datetime import timedelta

import pytest

from sendense import clock
from sendense.errors import Held, Unsupported
from sendense.model.hold import Hold, HoldKind
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.opening import open_dedup
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.opening import Access
from sendense.repository.protocol import VerifyLevel
from sendense.storage.urls import open_store
from sendense.workflows.undelete import undelete
from tests.support.dedup import PASSPHRASE, dedup_repository
from tests.support.points import Write, data, disk, noise, restored, store
from tests.support.s3_servers import CREDENTIALS, moto_server

SIZE = 9 << 20
CONTENT = noise(SIZE)


@pytest.fixture(scope="module")
def server():
    with moto_server() as started:
        yield started


@pytest.fixture
def repository(server):
    bucket = f"locked-{secrets.token_hex(4)}"
    server.make_bucket(bucket, locks=True)
    url = server.url(bucket, object_lock="true")
    made = dedup_repository(open_store(url, CREDENTIALS))
    yield made
    made.close()


def lock_for(point_id, days):
    end = clock.now().replace(microsecond=0) + timedelta(days=days)
    return Hold(point_id, HoldKind.LOCK, end, "", clock.now().replace(microsecond=0))


def full(content=CONTENT):
    return Write(disk(), len(content), (data(0, content),))


def dates(repository):
    names = [item.name for item in repository.parts.store.list("")]
    return {name: repository.parts.store.locks.until(name) for name in names}


def test_a_lock_covers_all_that_a_restore_takes(repository):
    store(repository, "p1", full())
    lock = lock_for("p1", 30)
    repository.hold(lock)
    locked = {name for name, until in dates(repository).items() if until == lock.until}
    folders = {name.partition("/")[0] for name in locked}
    assert folders == {"sendense-repository", "keys", "packs", "index", "points", "holds"}
    assert {name for name in dates(repository) if name.startswith(fmt.PACKS)} <= locked


def test_a_shared_pack_keeps_the_later_date(repository):
    store(repository, "p1", full())
    store(repository, "p2", full())
    later = lock_for("p1", 30)
    repository.hold(later)
    repository.hold(lock_for("p2", 3))
    packs = [until for name, until in dates(repository).items() if name.startswith(fmt.PACKS)]
    assert set(packs) == {later.until}
    with pytest.raises(Held):
        repository.delete(["p2"])


def test_who_deletes_and_overwrites_everything_destroys_nothing_that_is_locked(repository):
    store(repository, "p1", full())
    repository.hold(lock_for("p1", 30))
    held = repository.parts.store
    names = [item.name for item in held.list("")]
    held.delete(names[::2])
    for name in names[1::2]:
        held.put(name, b"ransom")
    access = Access(credentials=CREDENTIALS)
    done = undelete(held.location, access)
    # Leases that ended come back too: they are dead.
    assert done.removed >= len(names[::2])
    assert done.overwritten >= len(names[1::2])
    again: DedupRepository = open_dedup(held, lambda: PASSPHRASE, cache=None)
    assert restored(again, "p1") == CONTENT
    assert again.verify("p1", VerifyLevel.DATA).sound


def test_a_directory_keeps_nothing_that_is_removed(tmp_path):
    with pytest.raises(Unsupported):
        undelete(str(tmp_path), Access())
