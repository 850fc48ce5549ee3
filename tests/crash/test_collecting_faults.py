"""A collection of garbage that is broken off at every single call to the store.

The site has something for each of its steps: packs to remove, to rescue, to join, to rewrite and
to condemn, packs that no index names, index objects to join, holds and notes of points that are
gone, and the lease of somebody who died.
"""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from sendense.errors import Unavailable
from sendense.model.hold import Hold, HoldKind
from sendense.repository.dedup import condemning, damages, indexing
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting import index_plan, plan
from sendense.repository.dedup.collecting.plan import Action, CollectOptions
from sendense.repository.dedup.collecting.running import collect, plan_collection
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.repository import DedupRepository
from sendense.storage.local import LocalStore
from sendense.storage.store import Store
from tests.crash.repository_site import killed_at
from tests.support.collecting import check_all, names, packs, quick_repository
from tests.support.dedup import copied, reopened
from tests.support.points import BLOCK, Write, data, disk, machine, noise, restored, spec_for, store
from tests.support.timed_store import TimedStore, nothing

PACK = 3 << 19
WINDOWS = 14
AT_ONCE = CollectOptions(grace=timedelta(0))
PATIENT = CollectOptions(grace=timedelta(hours=1))


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(fmt, "PACK_BYTES", PACK)
    monkeypatch.setattr(plan, "SMALL", PACK // 8)
    monkeypatch.setattr(index_plan, "MOST_SMALL", 3)
    monkeypatch.setattr(index_plan, "MOST_ENTRIES", 40)


def join_windows(windows: dict[int, bytes]) -> bytes:
    """Give the disk with these beginnings of its windows."""
    return b"".join(windows[place].ljust(fmt.WINDOW_BYTES, b"\0") for place in sorted(windows))


def fill(target: TimedStore) -> tuple[DedupRepository, dict[str, bytes]]:
    """Make the site; give it, and what its points hold."""
    repository = quick_repository(target)
    contents = {}
    windows = {number: noise(4 * BLOCK, number) for number in range(WINDOWS)}
    for number in range(6):
        # What is of p0 and p1 only goes with them; of p0's packs little is left.
        for place in range(number % 3, WINDOWS, 5):
            windows[place] = noise(4 * BLOCK, 100 * number + place)
        chunks = [data(place * fmt.WINDOW_BYTES, windows[place]) for place in windows]
        write = Write(disk(), WINDOWS * fmt.WINDOW_BYTES, tuple(chunks))
        contents[f"p{number}"] = join_windows(windows)
        store(repository, f"p{number}", write)
    repository.hold(Hold("p0", HoldKind.PIN, None, "", target.now))
    parts = repository.parts
    damages.put(parts, points=frozenset(["p1"]), records=frozenset(), packs=frozenset(["f" * 32]))
    rotten = f"{fmt.CONDEMNED}{'e' * 32}"
    target.put(rotten, b"rotten")
    _leave_packs(repository)
    for number in range(4):
        target.delete([name for name in target.names(fmt.POINTS) if name.endswith(f"p{number}")])
        del contents[f"p{number}"]
    _condemn_some(repository)
    target.pass_time(hours=3)
    return repository, contents


def _leave_packs(repository: DedupRepository) -> None:
    """Upload packs that no index object will name, and leave a lease."""
    of = machine("6f2d3f4e-0000-4000-8000-00000000000f")
    write = Write(disk(), 30 * BLOCK, (data(0, noise(30 * BLOCK, 99)),))
    writer = repository.begin(of, "never")
    disk_writer = writer.disk(spec_for(repository, write, of.uuid))
    disk_writer.write(0, noise(30 * BLOCK, 99))
    disk_writer.finish(read_bytes=0, sampled_blocks=0, seconds=0)
    lease_objects = {
        name: repository.parts.store.get(name) for name in _names(repository, fmt.LEASES)
    }
    indexed = set(_names(repository, fmt.INDEX))
    writer.__exit__(None, None, None)
    named = [name for name in _names(repository, fmt.INDEX) if name not in indexed]
    repository.parts.store.delete(named)
    for name, content in lease_objects.items():
        repository.parts.store.put(name, content)


def _condemn_some(repository: DedupRepository) -> None:
    """Condemn, as an earlier run did, what has no use, and what is referred to again."""
    found = plan_collection(repository, AT_ONCE)
    chosen = []
    for action in (Action.CONDEMN, Action.KEEP):
        of_data = [item for item in found.of(action) if item.kind is PackKind.DATA]
        chosen.append(of_data[0].pack)
    condemning.condemn(repository.parts, chosen)


def _names(repository: DedupRepository, prefix: str) -> list[str]:
    return [item.name for item in repository.parts.store.list(prefix)]


class Site:
    """The site, as often as it is needed."""

    def __init__(self) -> None:
        self.store = TimedStore()
        self.repository, self.contents = fill(self.store)
        self._objects, self._now = dict(self.store.objects), self.store.now

    def again(self) -> DedupRepository:
        """Put everything back, and open it as a new process."""
        self.store.before = self.store.after = nothing
        self.store.objects, self.store.now = dict(self._objects), self._now
        return reopened(self.store, self.repository)


@pytest.fixture
def site():
    return Site()


def calls_of(site: Site, options: CollectOptions) -> int:
    """Count the calls of a collection that nothing disturbs."""
    repository = site.again()
    calls = []
    site.store.before = lambda verb, name: calls.append((verb, name))
    result = collect(repository, options)
    site.store.before = nothing
    assert result.removed_packs
    assert result.rescued_packs
    assert result.copied_bytes
    assert result.index_objects
    assert result.leftovers == 3
    check_all(repository, site.contents)
    return len(calls)


def collect_dying(site: Site, options: CollectOptions, call: int, *, done: bool) -> None:
    """Collect until a call; from then on nothing reaches the store."""
    left = [call]

    def die(verb: str, name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Unavailable("the process is dead")

    repository = site.again()
    if done:
        site.store.after = die
    else:
        site.store.before = die
    try:
        collect(repository, options)
    except Unavailable:
        pass
    finally:
        site.store.before = site.store.after = nothing


def check_the_rest(site: Site, held: Store) -> None:
    """All points restore, and the next runs do the rest, with nothing left over."""
    repository = reopened(held, site.repository)
    for point, content in site.contents.items():
        assert restored(repository, point) == content
    site.store.pass_time(hours=3)  # the lease of the dead
    for _ in range(3):
        collect(repository, AT_ONCE)
    check_all(repository, site.contents)
    folders = {name.partition("/")[0] for name in names(held, "")}
    assert folders == {fmt.HEADER, "packs", "index", "points"}
    again = collect(reopened(held, site.repository), AT_ONCE)
    assert (again.removed_packs, again.copied_bytes, again.waiting_packs) == (0, 0, 0)
    repository.delete(list(site.contents))
    collect(repository, AT_ONCE)
    assert packs(held) == []
    assert indexing.refresh(repository.parts).condemnations == frozenset()


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("options", [AT_ONCE, PATIENT], ids=["at-once", "patient"])
def test_at_every_call(site, options, done, caplog):
    caplog.set_level("CRITICAL", "sendense")
    for call in range(calls_of(site, options)):
        collect_dying(site, options, call, done=done)
        check_the_rest(site, site.store)


@pytest.mark.slow
def test_killed_at_every_step_in_a_directory(site, tmp_path, caplog):
    """The process is gone, with what it had half written; its lease is known to be dead at once."""
    caplog.set_level("CRITICAL", "sendense")
    site.again()
    number, killed = 0, True
    while killed:
        number += 1
        folder = tmp_path / str(number)
        held = LocalStore(folder)
        copied(site.store, held)

        def act(held: Store = held) -> None:
            collect(reopened(held, site.repository), AT_ONCE)

        killed = killed_at(number, act)
        check_the_rest(site, held)
        shutil.rmtree(folder)
    assert number > 50
