"""Collections of garbage: what they give back, and what they leave alone."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sendense import clock, steps
from sendense.errors import Busy, NotAllowed
from sendense.model.decision import Method
from sendense.model.hold import Hold, HoldKind
from sendense.model.progress import Progress
from sendense.model.secret import Secret
from sendense.repository.dedup import condemning, damages, indexing, opening, writing
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting import index_plan, plan
from sendense.repository.dedup.collecting.plan import Action, CollectOptions
from sendense.repository.dedup.collecting.running import collect, plan_collection
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.local_index import LocalIndex
from sendense.storage.local import LocalStore
from tests.support.collecting import AT_ONCE, HOUR, check_all, packs, quick_repository
from tests.support.dedup import reopened
from tests.support.points import BLOCK, Write, data, disk, noise, restored, store
from tests.support.timed_store import TimedStore, nothing

WINDOW = fmt.WINDOW_BYTES


@pytest.fixture
def held():
    return TimedStore()


@pytest.fixture
def repository(held):
    made = quick_repository(held)
    yield made
    held.before = held.after = nothing
    made.close()


@pytest.fixture
def small_packs(monkeypatch):
    """Let a pack hold five chunks of four blocks, in the order of the disk."""
    monkeypatch.setattr(fmt, "PACK_BYTES", 3 << 19)
    monkeypatch.setattr(plan, "SMALL", 0)
    monkeypatch.setattr(writing, "writing_threads", lambda: 1)


def windows(*seeds: int) -> bytes:
    """Give a disk of which each window begins with four blocks of noise: a chunk by its number."""
    return b"".join(noise(4 * BLOCK, seed).ljust(WINDOW, b"\0") for seed in seeds)


def back_up(repository, name, content, method=Method.EVERYTHING):
    store(repository, name, Write(disk(), len(content), (data(0, content),), method))
    return content


# --- what goes, and when ---


def test_what_only_a_deleted_point_used_goes_in_two_steps(repository, held):
    kept = back_up(repository, "p1", windows(1, 2))
    before = packs(held)
    back_up(repository, "p2", windows(1, 3, 4, 5))
    repository.delete(["p2"])
    first = collect(repository, HOUR)
    assert (first.removed_packs, first.waiting_packs) == (0, 2)
    assert first.next_in == timedelta(hours=1)
    assert len(packs(held)) == len(before) + 2
    early = collect(repository, HOUR)
    assert (early.removed_packs, early.waiting_packs) == (0, 2)
    held.pass_time(hours=1)
    second = collect(repository, HOUR)
    assert (second.removed_packs, second.waiting_packs, second.next_in) == (2, 0, None)
    assert second.freed_bytes > 3 * 4 * BLOCK
    assert packs(held) == before
    assert held.names(fmt.CONDEMNED) == held.names(fmt.LEASES) == []
    check_all(repository, {"p1": kept})


def test_without_a_grace_time_it_goes_at_once(repository, held):
    back_up(repository, "p1", windows(1, 2))
    repository.delete(["p1"])
    done = collect(repository, AT_ONCE)
    assert done.removed_packs == 2
    assert done.next_in is None
    assert packs(held) == held.names(fmt.INDEX) == held.names(fmt.CONDEMNED) == []


def test_an_empty_repository(repository, held):
    before = held.names()
    done = collect(repository)
    assert (done.points, done.removed_packs, done.waiting_packs) == (0, 0, 0)
    assert held.names() == before


def test_a_look_changes_nothing(repository, held, small_packs):
    back_up(repository, "p1", windows(*range(10)))
    back_up(repository, "p2", windows(*range(0, 20, 2)))
    repository.delete(["p1"])
    before = dict(held.objects)
    found = plan_collection(repository, AT_ONCE)
    assert held.objects == before
    assert found.of(Action.REWRITE)
    assert found.of(Action.CONDEMN)
    done = collect(repository, AT_ONCE)
    assert set(done.plan.verdicts) == set(found.verdicts)
    assert done.copied_bytes == found.to_copy


def test_the_clock_of_this_machine_does_not_matter(repository, held, monkeypatch):
    back_up(repository, "p1", windows(1))
    repository.delete(["p1"])
    for year in (1990, 2090):
        monkeypatch.setattr(clock, "now", lambda year=year: datetime(year, 1, 1, tzinfo=UTC))
        assert collect(repository, HOUR).waiting_packs == 2
    held.pass_time(hours=1)
    assert collect(repository, HOUR).removed_packs == 2


# --- rewriting ---


def test_live_records_move_out_of_worn_packs(repository, held, small_packs):
    back_up(repository, "p1", windows(*range(10)))
    kept = back_up(repository, "p2", windows(0, 5, 20))
    repository.delete(["p1"])
    size = sum(len(held.objects[name][0]) for name in packs(held))
    done = collect(repository, AT_ONCE)
    assert done.copied_bytes == 2 * (4 * BLOCK + fmt.TAG_BYTES)
    assert done.new_packs == 1
    assert done.freed_bytes > 10 * 4 * BLOCK
    assert sum(len(held.objects[name][0]) for name in packs(held)) < size - 7 * 4 * BLOCK
    check_all(repository, {"p2": kept})
    check_all(reopened(held, repository), {"p2": kept})
    again = collect(repository, AT_ONCE)
    assert (again.copied_bytes, again.removed_packs, again.index_objects) == (0, 0, 0)


def test_small_packs_become_one(repository, held):
    contents = {}
    for number in range(6):
        contents[f"p{number}"] = back_up(repository, f"p{number}", windows(number))
    assert len(packs(held)) == 12
    done = collect(repository, AT_ONCE)
    assert len(packs(held)) == 2
    assert done.freed_bytes > done.copied_bytes
    check_all(repository, contents)
    assert collect(repository, AT_ONCE).copied_bytes == 0


def test_a_compressed_frame_and_the_hooks_of_a_leaf_stay_as_they_are(held):
    repository = quick_repository(held)
    repository.parts = replace(repository.parts, compression_level=3)
    content = b"".join((noise(1000, seed) * 66)[:BLOCK] for seed in range(64))
    back_up(repository, "p1", content)
    before = entries(repository)
    for number in range(3):
        back_up(repository, f"q{number}", windows(number))
    collect(repository, AT_ONCE)
    after = entries(repository)
    for record, entry in before.items():
        assert replace(after[record], offset=entry.offset) == entry
    assert any(entry.compressed for entry in before.values())
    assert any(entry.hooks for entry in before.values())
    check_all(repository, {"p1": content, **{f"q{number}": windows(number) for number in range(3)}})
    repository.close()


def entries(repository):
    index = repository.parts.index
    return {entry.id: entry for item in index.packs() for entry in index.entries_of(item.head.id)}


def test_what_is_copied_is_encrypted_by_the_newest_key(repository, held):
    contents = {
        f"p{number}": back_up(repository, f"p{number}", windows(number)) for number in range(4)
    }
    old = repository.parts.ring
    ring = KeyRing(old.repository_id, old.identity, {**old.epochs, 2: Secret(b"n" * 32)})
    rotated = opening.open_unlocked(held, ring, repository.header, cache=None)
    collect(rotated, AT_ONCE)
    assert {item.head.epoch for item in rotated.parts.index.packs()} == {2}
    check_all(rotated, contents)


def test_progress_goes_up_to_its_end(repository, small_packs):
    back_up(repository, "p1", windows(*range(10)))
    back_up(repository, "p2", windows(0, 5))
    repository.delete(["p1"])
    reports: list[Progress] = []
    collect(repository, AT_ONCE, reports.append)
    for subject in ("nodes", "copy"):
        told = [report for report in reports if report.subject == subject]
        done = [report.done for report in told]
        assert done == sorted(done)
        assert told[-1].done == told[-1].total > 0


# --- index objects ---


def test_many_small_index_objects_become_one(repository, held, monkeypatch):
    monkeypatch.setattr(plan, "SMALL", 0)
    contents = {}
    for number in range(index_plan.MOST_SMALL + 1):
        name = f"p{number}"
        contents[name] = back_up(repository, name, windows(number % 3, 100 + number))
    other = reopened(held, repository)
    other.info()
    assert len(held.names(fmt.INDEX)) == 17
    assert collect(repository, HOUR).index_objects == 17
    assert len(held.names(fmt.INDEX)) == 1
    for opened in (repository, other, reopened(held, repository)):
        check_all(opened, contents)


def test_an_index_object_and_its_successor_become_one(repository, held):
    content = back_up(repository, "p1", windows(1))
    (name,) = held.names(fmt.INDEX)
    indexing.put_index(repository.parts, indexing.read_index(repository.parts, name))
    assert collect(repository, HOUR).index_objects == 2
    assert len(held.names(fmt.INDEX)) == 1
    check_all(reopened(held, repository), {"p1": content})


def test_which_index_objects_are_replaced(monkeypatch):
    monkeypatch.setattr(index_plan, "MOST_SMALL", 2)
    monkeypatch.setattr(index_plan, "SMALL_ENTRIES", 10)
    large, small = [("a", 6), ("b", 6)], [("c", 3)]
    replaced = index_plan.replaced_objects
    assert replaced({}, frozenset()) == ()
    assert replaced({"i1": large, "i2": small, "i3": [("d", 1)]}, frozenset()) == ()
    assert replaced({"i1": large, "i2": small}, frozenset("b")) == ("i1",)
    assert replaced({"i1": large, "i2": small, "i3": [("a", 6)]}, frozenset()) == ("i1", "i3")
    assert replaced({"i1": large, "i2": []}, frozenset()) == ("i2",)
    many = {f"i{number}": [(str(number), 3)] for number in range(3)}
    assert replaced({**many, "large": large}, frozenset()) == ("i0", "i1", "i2")


# --- what others have left ---


def test_what_a_writer_that_died_has_left(repository, held):
    content = back_up(repository, "p1", windows(1))
    before, indexed = packs(held), set(held.names(fmt.INDEX))
    back_up(repository, "p2", windows(2, 3))
    held.delete([name for name in held.names(fmt.POINTS) if name.endswith("p2")])
    held.delete([name for name in held.names(fmt.INDEX) if name not in indexed])
    young = collect(repository, HOUR)
    assert (young.removed_packs, young.waiting_packs) == (0, 0)
    held.pass_time(hours=1)
    assert collect(repository, HOUR).waiting_packs == 2
    held.pass_time(hours=1)
    assert collect(repository, HOUR).removed_packs == 2
    assert packs(held) == before
    check_all(repository, {"p1": content})


def test_what_belongs_to_points_that_are_gone(repository, held):
    content = back_up(repository, "p1", windows(1))
    there = {item.head.id for item in repository.parts.index.packs()}
    back_up(repository, "p2", windows(2))
    for name in ("p1", "p2"):
        repository.hold(Hold(name, HoldKind.PIN, None, "", datetime(2026, 1, 1, tzinfo=UTC)))
        damages.put(
            repository.parts, points=frozenset([name]), records=frozenset(), packs=frozenset()
        )
    kept_by_its_pack = damages.put(
        repository.parts,
        points=frozenset(["p2"]),
        records=frozenset([(bytes(32), min(there))]),
        packs=frozenset(),
    )
    held.delete([name for name in held.names(fmt.POINTS) if name.endswith("p2")])
    assert collect(repository, HOUR).leftovers == 0, "they may be of a point that just came"
    held.pass_time(hours=1)
    assert collect(repository, HOUR).leftovers == 2
    assert [hold.point_id for hold in repository.holds()] == ["p1"]
    assert kept_by_its_pack.name in held.names(fmt.DAMAGE)
    assert len(held.names(fmt.DAMAGE)) == 2
    assert restored(repository, "p1") == content


def test_a_condemnation_that_cannot_be_read_is_given_up(repository, held):
    content = back_up(repository, "p1", windows(1))
    name = f"{fmt.CONDEMNED}{condemning.condemn(repository.parts, ['a' * 32])}"
    held.objects[name] = (held.objects[name][0][:-1] + b"?", held.objects[name][1])
    assert collect(repository, HOUR).leftovers == 1
    assert held.names(fmt.CONDEMNED) == []
    check_all(repository, {"p1": content})


def test_half_written_files_are_swept(tmp_path):
    repository = quick_repository(LocalStore(tmp_path))
    content = back_up(repository, "p1", windows(1))
    old, young = tmp_path / "packs/.tmp-old", tmp_path / "packs/.tmp-young"
    for path in (old, young):
        path.write_bytes(b"half")
    two_hours_ago = clock.now().timestamp() - 7201
    os.utime(old, (two_hours_ago, two_hours_ago))
    assert collect(repository, AT_ONCE).leftovers == 1
    assert not old.exists()
    assert young.exists()
    check_all(repository, {"p1": content})
    repository.close()


# --- who is at work ---


def test_only_one_collects(repository, held):
    other = reopened(held, repository)
    for kind in (LeaseKind.GC, LeaseKind.CHECK):
        with (
            other.parts.leases.acquire(Wish(kind, "something else")),
            pytest.raises(Busy, match="something else"),
        ):
            collect(repository)
    collect(repository)


def test_a_lease_that_is_lost_ends_it_before_anything_is_removed(repository, held):
    back_up(repository, "p1", windows(1))
    repository.delete(["p1"])
    collect(repository, HOUR)
    held.pass_time(hours=2)
    before = packs(held)

    def break_lease(step):
        if step == "gc:marked":
            leases = held.names(fmt.LEASES)
            held.delete(leases)
            lease = next(iter(repository.parts.leases._held.values()))
            assert not lease.still_there()

    steps.listen(break_lease)
    try:
        with pytest.raises(Busy, match="removed by somebody else"):
            collect(repository, HOUR)
    finally:
        steps.unlisten()
    assert packs(held) == before


def test_what_the_store_does_not_let_go_stays_condemned(repository, held):
    back_up(repository, "p1", windows(1, 2))
    repository.delete(["p1"])
    locked = packs(held)[0]

    def refuse(verb, name):
        if verb == "delete" and name == locked:
            raise NotAllowed(f"{name} is locked")

    held.before = refuse
    done = collect(repository, AT_ONCE)
    assert done.removed_packs == 1
    assert packs(held) == [locked]
    (left,) = condemning.read_all(repository.parts)
    assert {f"{fmt.PACKS}{pack[:2]}/{pack}" for pack in left.packs} == {locked}
    held.before = nothing
    assert collect(repository, AT_ONCE).removed_packs == 1
    assert held.names(fmt.CONDEMNED) == packs(held) == []


class FakeLocks:
    """Locks of objects, in a dict."""

    def __init__(self):
        self.dates = {}

    def extend(self, name, until):
        self.dates[name] = max(until, self.dates.get(name, until))

    def until(self, name):
        return self.dates.get(name)


def test_what_the_store_has_locked_is_not_copied_and_its_index_stays_locked(
    repository, held, small_packs
):
    back_up(repository, "p1", windows(*range(10)))
    kept = back_up(repository, "p2", windows(0, 5))
    held.locks = FakeLocks()
    until = held.now + timedelta(days=9)
    for name in (*packs(held), *held.names(fmt.INDEX)):
        held.locks.extend(name, until)
    repository.delete(["p1"])
    done = collect(repository, AT_ONCE)
    assert done.copied_bytes == 0
    assert any("the store keeps it until" in item.reason for item in done.plan.verdicts)
    assert {held.locks.until(name) for name in held.names(fmt.INDEX)} == {until}
    held.pass_time(days=10)
    assert collect(repository, AT_ONCE).copied_bytes > 0
    check_all(repository, {"p2": kept})


def test_another_process_on_this_host_keeps_the_shared_index_up_to_date(held, tmp_path):
    repository = quick_repository(held, cache=tmp_path)
    contents = {}
    for number in range(20):
        contents[f"p{number}"] = back_up(repository, f"p{number}", windows(number, number // 2))
    gone = list(contents)[::3]
    repository.delete(gone)
    path = next(tmp_path.rglob("*.sqlite"))
    other = opening.open_unlocked(held, repository.parts.ring, repository.header, cache=tmp_path)
    assert next(tmp_path.rglob("*.sqlite")) == path

    def refresh(step):
        if step.startswith("gc:"):
            indexing.refresh(other.parts)

    steps.listen(refresh)
    try:
        collect(repository, AT_ONCE)
        collect(repository, AT_ONCE)
    finally:
        steps.unlisten()
    left = {name: content for name, content in contents.items() if name not in gone}
    check_all(other, left)
    with LocalIndex(path, repository=repository.header.id) as index:
        assert index.names() == frozenset(held.names(fmt.INDEX))
    other.close()
    repository.close()


def test_options_of_the_settings(repository, held, small_packs):
    back_up(repository, "p1", windows(*range(10)))
    back_up(repository, "p2", windows(0, 1, 5, 6))
    repository.delete(["p1"])
    lazy = CollectOptions(grace=timedelta(0), live_ratio=0.3)
    assert collect(repository, lazy).copied_bytes == 0
    bounded = CollectOptions(grace=timedelta(0), most_rewrite=9 * BLOCK)
    assert collect(repository, bounded).copied_bytes == 2 * (4 * BLOCK + fmt.TAG_BYTES)
    assert collect(repository, AT_ONCE).copied_bytes > 0
    check_all(repository, {"p2": windows(0, 1, 5, 6)})
