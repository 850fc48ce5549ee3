"""Collections of garbage against backups and restores of other processes, on one directory.

Packs are small, no grace time is given, and nothing is left alone for being young: so a pack is
condemned and removed as soon as nobody seems to need it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from sendense.errors import Busy, Damaged, NotFound, SendenseError, Unavailable
from sendense.model.decision import Method
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting import index_plan, plan
from sendense.repository.dedup.collecting.plan import CollectOptions
from sendense.repository.dedup.collecting.running import collect
from sendense.repository.dedup.lease import Timing
from sendense.repository.dedup.leases import Leases
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import VerifyLevel
from sendense.storage.local import LocalStore
from tests.support.collecting import AT_ONCE, quick_repository
from tests.support.points import BLOCK, Write, data, disk, noise, restored, store

SECONDS = 4.0
WINDOWS = 10
POOL = [noise(4 * BLOCK, seed) for seed in range(14)]
UUIDS = [f"6f2d3f4e-0000-4000-8000-00000000000{number}" for number in (1, 2)]
OFTEN = CollectOptions(grace=timedelta(0), live_ratio=0.9)

pytestmark = pytest.mark.slow


class Site:
    """A repository in a directory, and what its points must hold."""

    def __init__(self, folder: Path, *, shared_cache: bool) -> None:
        self.folder = folder
        self.cache = folder / "cache.sqlite" if shared_cache else None
        (folder / "expected").mkdir()
        made = quick_repository(LocalStore(folder / "store"))
        self.ring, self.header = made.parts.ring, made.header
        made.close()

    def open(self) -> DedupRepository:
        """Open it in this process."""
        held = LocalStore(self.folder / "store")
        leases = Leases(held, self.ring, timing=Timing(renewal_s=0.1, retry_s=0.1))
        index = LocalIndex(self.cache, repository=self.header.id)
        return DedupRepository(Parts(held, self.ring, index, leases, None), self.header)

    def expect(self, point: str, content: bytes) -> None:
        """Note what a point will hold, if it comes to be."""
        path = self.folder / "expected" / point
        path.with_suffix(".new").write_bytes(blake3(content).digest())
        path.with_suffix(".new").rename(path)

    def is_right(self, point: str, content: bytes) -> bool:
        """Tell whether that is what a point must hold."""
        return (self.folder / "expected" / point).read_bytes() == blake3(content).digest()


@pytest.fixture(params=[False, True], ids=["own-index", "shared-index"])
def site(request, tmp_path, monkeypatch):
    monkeypatch.setattr(fmt, "PACK_BYTES", 600 << 10)
    monkeypatch.setattr(plan, "SMALL", 0)
    monkeypatch.setattr(plan, "UNDER_WAY", timedelta(0))
    monkeypatch.setattr(index_plan, "MOST_SMALL", 4)
    return Site(tmp_path, shared_cache=request.param)


def start(action: Callable[[], object]) -> int:
    """Run in a process of its own; 0 is its end if all went well."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        action()
        status = 0
    except BaseException:  # noqa: BLE001 - told, and counted by the parent
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def finish(*children: int) -> None:
    """Wait for processes; each has to end well."""
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def for_seconds(action: Callable[[int], object], seconds: float = SECONDS) -> Callable[[], None]:
    """Give what does something again and again."""

    def act() -> None:
        end = time.monotonic() + seconds
        number = 0
        # Twice at least, however long once takes here.
        while time.monotonic() < end or number < 2:
            action(number)
            number += 1

    return act


def backups(site: Site, uuid: str, refused: tuple[type[SendenseError], ...] = ()):
    """Give what makes a point, or deletes an older one."""
    source = random.Random(uuid)
    opened: list[DedupRepository] = []
    content = bytearray(WINDOWS * fmt.WINDOW_BYTES)

    def act(number: int) -> None:
        if not opened or number % 7 == 0:
            opened[:] = [site.open()]
        repository = opened[0]
        points = repository.points(uuid)
        if len(points) > 2:
            with suppress(Busy):
                repository.delete([source.choice(points[:-1]).id])
        for window in source.sample(range(WINDOWS), 3 if number else WINDOWS):
            new = source.choice(POOL)
            content[window * fmt.WINDOW_BYTES : window * fmt.WINDOW_BYTES + len(new)] = new
        name = f"{uuid[-1]}-{number}"
        site.expect(name, bytes(content))
        method = source.choice([Method.EVERYTHING, Method.COMPARE])
        write = Write(disk(), len(content), (data(0, bytes(content)),), method)
        if not points:
            write = Write(disk(), len(content), (data(0, bytes(content)),))
        with suppress(*refused):
            store(repository, name, write, uuid=uuid)

    return act


def collections(site: Site):
    """Give what collects garbage, sometimes in a new process' place."""
    opened: list[DedupRepository] = []

    def act(number: int) -> None:
        if not opened or number % 5 == 0:
            opened[:] = [site.open()]
        with suppress(Busy):
            collect(opened[0], OFTEN)

    return act


def restores(site: Site):
    """Give what restores a point."""
    opened: list[DedupRepository] = []

    def act(number: int) -> None:
        if not opened:
            opened.append(site.open())
        points = opened[0].points()
        if not points:
            time.sleep(0.05)
            return
        chosen = random.Random(number).choice(points)
        with suppress(NotFound, Busy):  # deleted meanwhile
            assert site.is_right(chosen.id, restored(opened[0], chosen.id))

    return act


def check(site: Site, *, points: bool = True) -> None:
    """Hold all that is there against what it must be; then let all of it go."""
    repository = site.open()
    found = repository.points()
    assert bool(found) == points
    for point in found:
        assert repository.verify(point.id, VerifyLevel.DATA).findings == ()
        assert site.is_right(point.id, restored(repository, point.id))
    collect(repository, AT_ONCE)
    for point in found:
        assert site.is_right(point.id, restored(repository, point.id))
    repository.delete([point.id for point in found])
    for _ in range(2):
        collect(repository, AT_ONCE)
    left = {item.name.partition("/")[0] for item in repository.parts.store.list("")}
    assert left <= {fmt.HEADER, "sequences"}
    repository.close()


def test_backups_and_restores_and_collections(site):
    children = [
        *(start(for_seconds(backups(site, uuid))) for uuid in UUIDS),
        start(for_seconds(restores(site))),
        start(for_seconds(collections(site))),
    ]
    finish(*children)
    check(site)


def test_two_collections(site):
    """One of two is told that somebody else is at work, and each point stays whole."""
    children = [
        start(for_seconds(backups(site, UUIDS[0]))),
        start(for_seconds(collections(site))),
        start(for_seconds(collections(site))),
    ]
    finish(*children)
    check(site)


def test_a_collection_that_is_killed_again_and_again(site):
    writer = start(for_seconds(backups(site, UUIDS[0])))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        collector = start(for_seconds(collections(site), seconds=60))
        time.sleep(random.uniform(0.05, 0.6))
        os.kill(collector, signal.SIGKILL)
        os.waitpid(collector, 0)
    finish(writer)
    check(site)


@pytest.mark.parametrize("expires", [False, True], ids=["is-waited-for", "is-given-up"])
def test_a_backup_that_is_stopped_while_garbage_is_collected(site, monkeypatch, expires):
    """It commits a whole point or refuses, whether its lease is waited for or expired."""
    if expires:
        monkeypatch.setattr(fmt, "LEASE_EXPIRY_S", 1.0)
        monkeypatch.setattr(fmt, "LEASE_COMMIT_S", 0.5)
    # Without expiry nothing may be refused: a lease of this host is kept while its process lives.
    refused = (Busy, Unavailable) if expires else ()
    writer = start(for_seconds(backups(site, UUIDS[0], refused), seconds=2 * SECONDS))
    collector = site.open()
    end = time.monotonic() + 1.5 * SECONDS
    while time.monotonic() < end:
        time.sleep(random.uniform(0.01, 0.3))
        os.kill(writer, signal.SIGSTOP)
        if expires:
            time.sleep(1.2)
        # A point that came too late is there until its writer has looked, and so may be seen.
        with suppress(Busy, *((Damaged,) if expires else ())):
            collect(collector, OFTEN)
        os.kill(writer, signal.SIGCONT)
    finish(writer)
    collector.close()
    if expires:
        time.sleep(1.2)
    check(site)
