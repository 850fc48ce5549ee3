"""Collections of garbage while others write, read and delete: at the moments that matter.

The others are repository objects of their own.  They act from inside a call of the collection to
the store.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from sendense.errors import Busy, SendenseError, Unavailable
from sendense.model.decision import Method
from sendense.repository.dedup import condemning, indexing, pack_writing
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting import plan
from sendense.repository.dedup.collecting.plan import Action, CollectOptions
from sendense.repository.dedup.collecting.running import collect, plan_collection
from sendense.repository.dedup.lease import Timing
from sendense.repository.dedup.leases import Leases
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.repository import DedupRepository
from tests.support.collecting import AT_ONCE, HOUR, check_all, packs, quick_repository
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    content_of,
    data,
    disk,
    draft,
    machine,
    noise,
    restored,
    spec_for,
    store,
)
from tests.support.timed_store import TimedStore, nothing

WINDOW = fmt.WINDOW_BYTES
OTHER_UUID = MACHINE_UUID[:-1] + "2"
VDA = disk()


class World:
    """One store, and processes that work on it."""

    def __init__(self) -> None:
        self.store = TimedStore()
        self.seconds = 1000.0
        self.first = quick_repository(self.store)
        self.opened = [self.first]

    def process(self) -> DedupRepository:
        """Open the repository as another process does."""
        of = self.first.parts
        timing = Timing(boottime=lambda: self.seconds, pause=lambda _: None)
        leases = Leases(self.store, of.ring, timing=timing)
        parts = Parts(self.store, of.ring, LocalIndex(), leases, None)
        self.opened.append(DedupRepository(parts, self.first.header))
        return self.opened[-1]

    def pass_time(self, hours: float) -> None:
        """Let all clocks go on together."""
        self.store.pass_time(hours=hours)
        self.seconds += hours * 3600

    def once(self, verb: str, name: str, act: Callable[[], None]) -> None:
        """Act once, before the first such call on a name that begins so."""

        def hook(called: str, what: str) -> None:
            if called == verb and what.startswith(name):
                self.store.before = nothing
                act()

        self.store.before = hook


@pytest.fixture
def world():
    made = World()
    yield made
    made.store.before = made.store.after = nothing
    for repository in made.opened:
        repository.close()


class Backup:
    """A backup that has written its disk, and is not committed."""

    def __init__(self, repository, name, content, method=Method.EVERYTHING, uuid=MACHINE_UUID):
        self.name, self.content = name, content
        self.owner = machine(uuid, VDA)
        self.writer = repository.begin(self.owner, name)
        start = len(content) - WINDOW if method is Method.BITMAP else 0
        write = Write(VDA, len(content), (data(start, content[start:]),), method)
        disk_writer = self.writer.disk(spec_for(repository, write, uuid))
        disk_writer.write(start, content[start:])
        disk_writer.finish(read_bytes=0, sampled_blocks=0, seconds=0)

    def commit(self):
        try:
            self.writer.commit(draft(self.owner))
        finally:
            self.end()

    def end(self):
        self.writer.__exit__(None, None, None)


def windows(*seeds: int) -> bytes:
    """Give a disk of which each window begins with four blocks of noise: a chunk by its number."""
    return b"".join(noise(4 * BLOCK, seed).ljust(WINDOW, b"\0") for seed in seeds)


def back_up(repository, name, content, uuid=MACHINE_UUID):
    store(repository, name, Write(VDA, len(content), (data(0, content),)), uuid=uuid)
    return content


def condemn_all(world):
    condemning.condemn(world.first.parts, [name.rpartition("/")[2] for name in packs(world.store)])


# --- the order of looking ---


def test_packs_then_leases_then_points_then_the_index(world):
    content = back_up(world.first, "p1", windows(1))
    calls: list[tuple[str, str]] = []
    world.store.before = lambda verb, name: calls.append((verb, name))
    collect(world.process(), HOUR)
    looked = [name for verb, name in calls if verb == "list"]
    # Once before, to take the lease.
    looked = looked[looked.index(fmt.PACKS) :]
    firsts = [looked.index(folder) for folder in (fmt.PACKS, fmt.LEASES, fmt.POINTS, fmt.INDEX)]
    assert firsts == sorted(firsts)
    check_all(world.first, {"p1": content})


def test_a_base_that_goes_while_its_heir_comes(world):
    """The heir takes over what its base refers to, without a look at what is condemned."""
    back_up(world.first, "p1", windows(1, 2, 3))
    condemn_all(world)
    world.pass_time(2)
    heir = Backup(world.process(), "p2", windows(1, 2, 4), Method.BITMAP)

    def act():
        heir.commit()
        world.first.delete(["p1"])

    world.once("get", fmt.POINTS, act)
    done = collect(world.process(), HOUR)
    assert done.rescued_packs > 0
    check_all(world.process(), {"p2": heir.content})


def test_a_base_that_goes_between_two_listings(world):
    back_up(world.first, "p1", windows(1, 2, 3))
    condemn_all(world)
    world.pass_time(2)
    heir = Backup(world.process(), "p2", windows(1, 2, 4), Method.BITMAP)
    listed: list[str] = []

    class Unsteady(TimedStore):
        """A listing that misses what goes and what comes while it is made."""

        def list(self, prefix):
            found = list(super().list(prefix))
            if prefix == fmt.POINTS and not listed:
                listed.append(prefix)
                heir.commit()
                world.first.delete(["p1"])
                found = []
            yield from found

    world.store.__class__ = Unsteady
    collect(world.process(), HOUR)
    world.store.__class__ = TimedStore
    check_all(world.process(), {"p2": heir.content})


# --- writers ---


def test_packs_of_a_backup_under_way_are_left_alone(world, monkeypatch):
    monkeypatch.setattr(fmt, "PACK_BYTES", 3 << 19)
    backup = Backup(world.process(), "p1", windows(*range(12)))
    uploaded = packs(world.store)
    assert uploaded
    for _ in range(3):
        done = collect(world.process(), AT_ONCE)
        assert (done.removed_packs, done.waiting_packs) == (0, 0)
    backup.commit()
    assert set(uploaded) < set(packs(world.store))
    check_all(world.process(), {"p1": backup.content})


def test_a_backup_of_more_than_a_day_keeps_what_is_condemned_under_its_hands(world, monkeypatch):
    monkeypatch.setattr(fmt, "PACK_BYTES", 3 << 19)
    monkeypatch.setattr(plan, "UNDER_WAY", timedelta(0))
    backup = Backup(world.process(), "p1", windows(*range(12)))
    done = collect(world.process(), AT_ONCE)
    assert done.removed_packs == 0
    assert done.waiting_packs > 0
    assert done.blockers == (done.plan.blockers or done.blockers)
    assert "a backup of" in done.blockers[0]
    backup.commit()
    done = collect(world.process(), AT_ONCE)
    assert (done.rescued_packs > 0, done.waiting_packs) == (True, 0)
    assert world.store.names(fmt.CONDEMNED) == []
    check_all(world.process(), {"p1": backup.content})


@pytest.mark.parametrize("ends", ["committed", "given up", "later"])
def test_a_backup_that_refers_to_the_garbage_of_a_worn_pack(world, monkeypatch, ends):
    """It began before the pack was condemned, and refers to what is not copied."""
    monkeypatch.setattr(fmt, "PACK_BYTES", 3 << 19)
    monkeypatch.setattr(plan, "SMALL", 0)
    back_up(world.first, "p1", windows(*range(10)))
    kept = {"p2": back_up(world.first, "p2", windows(0, 5))}
    world.first.delete(["p1"])
    world.pass_time(30)
    backup = Backup(world.process(), "q1", windows(*range(3, 9)), uuid=OTHER_UUID)
    if ends != "later":
        end = backup.commit if ends == "committed" else backup.end
        world.once("list", fmt.CONDEMNED, lambda: world.once("put", fmt.CONDEMNED, end))
    done = collect(world.process(), AT_ONCE)
    assert done.plan.of(Action.REWRITE)
    if ends == "given up":
        assert done.waiting_packs == 0
        check_all(world.process(), kept)
        return
    assert (done.rescued_packs > 0) == (ends == "committed")
    if ends == "later":
        assert done.waiting_packs > 0
        backup.commit()
    kept["q1"] = backup.content
    check_all(world.process(), kept)
    world.pass_time(30)
    collect(world.process(), AT_ONCE)
    check_all(world.process(), kept)


def test_what_is_condemned_is_not_referred_to_by_who_begins_then(world):
    content = windows(1, 2)
    back_up(world.first, "p1", content)
    world.first.delete(["p1"])
    collect(world.process(), HOUR)
    before = packs(world.store)
    back_up(world.first, "p2", content)
    world.pass_time(2)
    assert collect(world.process(), HOUR).removed_packs == len(before)
    assert not set(before) & set(packs(world.store))
    check_all(world.process(), {"p2": content})


@pytest.mark.parametrize(
    "moment",
    [
        ("put", fmt.INDEX),
        ("delete", fmt.INDEX),
        ("delete", fmt.PACKS),
        ("delete", fmt.CONDEMNED),
    ],
    ids=" ".join,
)
def test_who_begins_while_packs_go_refers_to_none_of_them(world, moment):
    content = windows(1, 2)
    back_up(world.first, "p1", content)
    kept = back_up(world.first, "p2", windows(3))
    world.first.delete(["p1"])
    both = packs(world.store)
    indexing.put_index(world.first.parts, index_of(world))
    collect(world.process(), HOUR)
    world.pass_time(2)
    world.once(*moment, lambda: back_up(world.process(), "q1", content, OTHER_UUID))
    assert collect(world.process(), HOUR).removed_packs == len(both) // 2
    assert world.store.before is nothing, "the moment came"
    check_all(world.process(), {"p2": kept, "q1": content})


def index_of(world):
    """Give what all index objects say, for one more that names everything."""
    parts = world.first.parts
    return [
        record
        for name in world.store.names(fmt.INDEX)
        for record in indexing.read_index(parts, name)
    ]


def test_a_backup_that_is_suspended_before_its_point_is_put_makes_none(world):
    """Nobody waits for its lease any more, and its point comes too late to be seen."""
    back_up(world.first, "p1", windows(1))
    world.first.delete(["p1"])
    backup = Backup(world.process(), "p2", windows(1, 2))

    def sleep():
        world.pass_time(30)
        assert collect(world.process(), AT_ONCE).removed_packs > 0

    world.once("put", fmt.POINTS, sleep)
    with pytest.raises(Busy, match="lease of this backup ended"):
        backup.commit()
    assert world.first.points() == ()
    back_up(world.process(), "p3", windows(1, 2))
    check_all(world.process(), {"p3": windows(1, 2)})


def test_a_backup_that_was_suspended_refuses_to_go_on(world):
    backup = Backup(world.process(), "p1", windows(1))
    world.pass_time(30)
    collect(world.process(), AT_ONCE)
    with pytest.raises(SendenseError) as caught:
        backup.commit()
    assert isinstance(caught.value, (Busy, Unavailable))
    assert world.first.points() == ()


def test_what_a_backup_that_failed_has_not_named_is_not_referred_to(world, monkeypatch):
    """The next one of the same process knew those packs, and nobody else ever would."""
    content = windows(1, 2)

    def fail(*_: object) -> str:
        raise Unavailable("nothing can be written")

    monkeypatch.setattr(pack_writing, "put_index", fail)
    with pytest.raises(Unavailable):
        back_up(world.first, "p1", content)
    monkeypatch.undo()
    assert packs(world.store)
    assert list(world.first.parts.index.packs()) == []
    back_up(world.first, "p2", content)
    assert collect(world.process(), AT_ONCE).removed_packs == 2
    assert collect(world.first, AT_ONCE).removed_packs == 0
    check_all(world.process(), {"p2": content})


# --- readers ---


def test_a_reader_is_waited_for(world):
    content = back_up(world.first, "p1", windows(1, 2))
    back_up(world.first, "p2", windows(3))
    world.first.delete(["p2"])
    with world.process().open("p1") as reader:
        done = collect(world.process(), AT_ONCE)
        assert done.removed_packs == 0
        assert "a reader of point p1" in done.blockers[0]
        assert content_of(reader.disk(VDA.identity)) == content
    assert collect(world.process(), AT_ONCE).removed_packs > 0


def test_a_reader_whose_lease_is_overlooked_finds_what_moved(world):
    contents = {}
    for number in range(5):
        contents[f"p{number}"] = back_up(world.first, f"p{number}", windows(number))
    with world.process().open("p1") as reader:
        content_of(reader.disk(VDA.identity))
        world.store.delete(world.store.names(fmt.LEASES))
        assert collect(world.process(), AT_ONCE).removed_packs == 10
        assert content_of(reader.disk(VDA.identity)) == contents["p1"]
    check_all(world.process(), contents)


def test_a_look_for_garbage_does_not_stand_in_the_way(world):
    back_up(world.first, "p1", windows(1))
    world.first.delete(["p1"])
    collect(world.process(), HOUR)
    world.pass_time(2)
    looked = []

    def look():
        looked.append(plan_collection(world.process(), HOUR))

    world.once("put", fmt.INDEX, look)
    back_up(world.first, "p2", windows(2))
    assert len(looked[0].of(Action.KEEP)) == 2, "the backup is waited for"
    assert len(plan_collection(world.process(), HOUR).of(Action.REMOVE)) == 2


def test_points_that_come_and_go_all_the_time(world):
    """Every call of a collection sees another backup of another machine, or a deletion."""
    contents = {"p0": back_up(world.first, "p0", windows(0, 1, 2))}
    busy = world.process()
    numbers = iter(range(1, 12))

    def act(verb: str, name: str) -> None:
        if verb != "list":
            return
        world.store.before = nothing
        number = next(numbers, None)
        if number is not None:
            contents[f"p{number}"] = back_up(
                busy, f"p{number}", windows(number % 4, 9, number), uuid=OTHER_UUID
            )
            if number > 2:
                busy.delete([f"p{number - 2}"])
                del contents[f"p{number - 2}"]
        world.store.before = act

    for _ in range(4):
        world.store.before = act
        collect(world.process(), CollectOptions(grace=timedelta(0), live_ratio=1))
        world.store.before = nothing
        for name, content in contents.items():
            assert restored(world.first, name) == content
