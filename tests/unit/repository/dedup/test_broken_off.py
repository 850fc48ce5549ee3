"""A point that is given up: what was uploaded of it is found by the next run."""

from __future__ import annotations

import itertools

import pytest

from sendense import clock
from sendense.errors import Unavailable
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import indexing, pack_writing
from sendense.storage.options import StoreOptions
from sendense.storage.urls import wrapped
from sendense.transfer.throttle import Throttle
from sendense.units import MIB
from tests.support.copy_site import memory, quick_dedup
from tests.support.dedup import reopened
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.points import (
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

SIZE = 12 * MIB
CONTENT = noise(SIZE)
WHOLE = Write(disk(), SIZE, tuple(data(at, CONTENT[at : at + MIB]) for at in range(0, SIZE, MIB)))


class GivenUp(Exception):
    """Somebody pressed Ctrl-C, say."""


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr(fmt, "PACK_BYTES", 2 * MIB)


@pytest.fixture
def repository():
    made = quick_dedup(memory(), "broken-off")
    yield made
    made.close()


def write(repository, error=None, *, before=lambda _: None, in_the_middle=False):
    """Write a point; an ``error`` comes before its commit, and ``before`` is called then."""
    with repository.begin(machine(), "p1") as writer:
        writing = writer.disk(spec_for(repository, WHOLE, MACHINE_UUID))
        for chunk in WHOLE.chunks:
            writing.write(chunk.offset, chunk.data)
        if not in_the_middle:
            writing.finish(read_bytes=SIZE, sampled_blocks=0, seconds=0)
        if error is not None:
            before(writer)
            raise error
        return writer.commit(draft(machine()))


def names(repository, prefix):
    return {item.name for item in repository.parts.store.list(prefix)}


def indexed(repository):
    """Give the packs that index objects name."""
    return {
        record.head.name
        for name in names(repository, fmt.INDEX)
        for record in indexing.read_index(repository.parts, name)
    }


def test_what_is_durable_is_named(repository):
    with pytest.raises(GivenUp):
        write(repository, GivenUp())
    packs = names(repository, fmt.PACKS)
    assert len(packs) >= 3
    assert indexed(repository) == packs
    assert len(names(repository, fmt.INDEX)) == 1
    assert repository.points() == ()
    assert names(repository, fmt.LEASES) == set()


def test_the_next_run_stores_the_rest(repository):
    with pytest.raises(GivenUp):
        write(repository, GivenUp())
    before = sum(item.size for item in repository.parts.store.list(fmt.PACKS))
    again = reopened(repository.parts.store, repository)
    made = write(again)
    assert made.disks[0].data_bytes <= SIZE - before + 2 * MIB
    assert restored(again, "p1") == CONTENT
    after = sum(item.size for item in repository.parts.store.list(fmt.PACKS))
    assert after <= SIZE * 1.05
    again.parts.index.close()


def test_a_point_that_comes_through_names_each_pack_once(repository):
    write(repository)
    assert len(names(repository, fmt.INDEX)) == 1
    assert indexed(repository) == names(repository, fmt.PACKS)


def test_a_slow_line_is_indexed_now_and_then(repository, monkeypatch):
    monkeypatch.setattr(pack_writing, "_INDEX_EVERY_S", 0.0)
    write(repository)
    assert len(names(repository, fmt.INDEX)) == len(names(repository, fmt.PACKS))


def failing(repository, wanted, *, after=0):
    """Open the repository in a store that refuses to write some objects."""
    counter = itertools.count()

    def schedule(verb, name):
        refused = verb == "put" and name.startswith(wanted) and next(counter) >= after
        return Fault.REFUSED if refused else Fault.NONE

    return reopened(FaultyStore(repository.parts.store, schedule), repository)


def test_an_index_that_cannot_be_written_ends_the_run(repository, monkeypatch):
    """Else the point would name what nobody finds; the failure comes in an upload's thread."""
    monkeypatch.setattr(pack_writing, "_INDEX_EVERY", 1)
    counter = itertools.count()

    def schedule(verb, name):
        first = verb == "put" and name.startswith(fmt.INDEX) and next(counter) == 0
        return Fault.REFUSED if first else Fault.NONE

    disturbed = reopened(FaultyStore(repository.parts.store, schedule), repository)
    with pytest.raises(Unavailable):
        write(disturbed)
    disturbed.parts.index.close()
    assert repository.points() == ()
    write(repository)
    fresh = reopened(repository.parts.store, repository)
    assert restored(fresh, "p1") == CONTENT
    fresh.parts.index.close()


def test_where_the_store_is_gone_nothing_more_is_tried(repository):
    disturbed = failing(repository, fmt.PACKS, after=2)
    with pytest.raises(Unavailable):
        write(disturbed)
    disturbed.parts.index.close()
    assert names(repository, fmt.INDEX) == set()


def test_a_failure_to_name_it_does_not_hide_the_first(repository):
    disturbed = failing(repository, fmt.INDEX)
    with pytest.raises(GivenUp):
        write(disturbed, GivenUp())
    disturbed.parts.index.close()
    assert names(repository, fmt.LEASES) == set()


def test_without_the_lease_nothing_is_named(repository):
    """Who took us for dead may have collected the packs."""

    def lose_it(writer):
        (lease,) = [record.id for record in repository.parts.leases.active()]
        repository.parts.leases.break_lease(lease)
        assert not writer._lease.still_there()

    with pytest.raises(GivenUp):
        write(repository, GivenUp(), before=lose_it)
    assert names(repository, fmt.INDEX) == set()


def test_it_ends_at_once_though_uploads_wait_for_their_turn(repository):
    slow = StoreOptions(upload=Throttle(MIB // 4))
    throttled = reopened(wrapped(repository.parts.store, slow), repository)
    began = []

    def note(_writer):
        began.append(clock.monotonic())

    with pytest.raises(GivenUp):
        write(throttled, GivenUp(), before=note, in_the_middle=True)
    assert clock.monotonic() - began[0] < 15  # the uploads alone would take 48 s
    throttled.parts.index.close()


def test_other_points_are_as_they_were(repository):
    store(repository, "p0", Write(disk(), MIB, (data(0, noise(MIB, 5)),)))
    with pytest.raises(GivenUp):
        write(repository, GivenUp())
    assert restored(repository, "p0") == noise(MIB, 5)
