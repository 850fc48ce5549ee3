"""Collections of garbage where something is damaged: nothing is removed on incomplete knowledge."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sendense.errors import Damaged
from sendense.repository.dedup import condemning, damages, indexing
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting import plan
from sendense.repository.dedup.collecting.plan import Action, CollectOptions
from sendense.repository.dedup.collecting.running import collect, plan_collection
from sendense.repository.dedup.entries import PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.nodes import decode_inner, decode_leaf
from sendense.repository.dedup.record_reading import Records
from sendense.repository.protocol import VerifyLevel
from tests.support.collecting import AT_ONCE, HOUR, check_all, packs, quick_repository
from tests.support.dedup import reopened
from tests.support.points import BLOCK, MACHINE_UUID, Write, data, disk, noise, restored, store
from tests.support.timed_store import TimedStore

WINDOW = fmt.WINDOW_BYTES
OTHER_UUID = MACHINE_UUID[:-1] + "2"


@pytest.fixture
def held():
    return TimedStore()


@pytest.fixture
def repository(held):
    made = quick_repository(held)
    yield made
    made.close()


def windows(*seeds: int) -> bytes:
    """Give a disk of which each window begins with four blocks of noise: a chunk by its number."""
    return b"".join(noise(4 * BLOCK, seed).ljust(WINDOW, b"\0") for seed in seeds)


def back_up(repository, name, content, uuid=MACHINE_UUID):
    store(repository, name, Write(disk(), len(content), (data(0, content),)), uuid=uuid)
    return content


def flip(held, name, place):
    content, modified = held.objects[name]
    held.objects[name] = (
        content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
        (modified),
    )


def manifest(held, point):
    (name,) = (name for name in held.names(fmt.POINTS) if name.endswith(point))
    return name


def root_of(repository, point):
    (stored,) = (item for item in repository.stored_points() if item.point.id == point)
    (root,) = stored.roots.values()
    return root


def leaves_of(repository, point):
    """Give the leaves of a point that has an inner node as its root."""
    children = decode_inner(Records(repository.parts).node(root_of(repository, point)))[1]
    return [child for child in children if child is not None]


def place_of(repository, record):
    return repository.parts.index.find([record])[record]


def chunks_of(repository, point):
    """Give the chunks of a point of one leaf, in their order."""
    slots = decode_leaf(Records(repository.parts).node(root_of(repository, point)))
    return list(dict.fromkeys(slot.chunk for slot in slots if slot is not None))


def damage(repository, held, record):
    """Flip a bit of a record, where it lies best."""
    place = place_of(repository, record)
    flip(held, place.pack.name, place.entry.offset + 3)
    return place.pack


# --- what cannot be read ---


def refuses(repository, held, match, **options):
    before = dict(held.objects)
    with pytest.raises(Damaged, match=match) as caught:
        collect(repository, CollectOptions(grace=timedelta(0), **options))
    assert held.objects == before
    return caught.value


def test_a_point_whose_object_is_damaged_stops_it(repository, held):
    back_up(repository, "p1", windows(1))
    kept = back_up(repository, "p2", windows(2))
    flip(held, manifest(held, "p1"), 40)
    fresh = reopened(held, repository)
    error = refuses(fresh, held, "point p1 cannot be read to its end, so nothing is removed")
    assert "--ignore p1" in (error.hint or "")
    assert error.data["point"] == "p1"
    fresh.delete(["p1"])
    assert collect(fresh, AT_ONCE).removed_packs == 2
    check_all(fresh, {"p2": kept})


def test_or_is_given_up_by_name(repository, held):
    back_up(repository, "p1", windows(1))
    kept = back_up(repository, "p2", windows(2))
    flip(held, manifest(held, "p1"), 40)
    options = CollectOptions(grace=timedelta(0), ignore=frozenset({"p1"}))
    assert collect(reopened(held, repository), options).removed_packs == 2
    assert restored(repository, "p2") == kept


def large_point(repository, name, *seeds):
    """Make a point with an inner node as its root."""
    return back_up(repository, name, windows(*seeds, *[99] * (8 - len(seeds))))


def test_a_node_that_is_damaged_stops_it(repository, held):
    large_point(repository, "p1", 1, 2, 3, 4, 5)
    leaves = leaves_of(repository, "p1")
    damage(repository, held, leaves[0])
    error = refuses(reopened(held, repository), held, "point p1 cannot be read to its end")
    assert error.data["record"] == leaves[0].hex()


def test_of_a_point_that_is_given_up_what_can_be_read_is_kept(repository, held):
    content = large_point(repository, "p1", 1, 2, 3, 4, 5)
    back_up(repository, "p2", windows(50))
    repository.delete(["p2"])
    leaves = leaves_of(repository, "p1")
    damage(repository, held, leaves[1])
    options = CollectOptions(grace=timedelta(0), ignore=frozenset({"p1"}))
    fresh = reopened(held, repository)
    assert collect(fresh, options).removed_packs >= 2
    with fresh.open("p1") as reader:
        half = list(reader.disk("serial:serial-vda").read(0, 4 * WINDOW))
        assert b"".join(bytes(c.data or bytes(c.length)) for c in half) == content[: 4 * WINDOW]


def test_a_point_that_shares_with_one_that_is_given_up_still_stops_it(repository, held):
    large_point(repository, "p1", 1, 2, 3, 4, 5)
    large_point(repository, "q1", 7)
    back_up(repository, "p2", windows(1, 2, 3, 4, 5, *[99] * 3), OTHER_UUID)
    leaves = leaves_of(repository, "p1")
    damage(repository, held, leaves[1])
    refuses(reopened(held, repository), held, "point p2 cannot be read", ignore=frozenset({"p1"}))


def test_what_is_in_the_place_of_points_and_is_none_stops_it(repository, held):
    back_up(repository, "p1", windows(1))
    held.put(f"{fmt.POINTS}notes.txt", b"?")
    refuses(repository, held, "in the place of a point, and is none")


def test_an_index_object_that_is_damaged_stops_it(repository, held):
    back_up(repository, "p1", windows(1))
    flip(held, held.names(fmt.INDEX)[0], 40)
    refuses(reopened(held, repository), held, "is not what was stored")


def test_an_index_object_that_is_lost_stops_it(repository, held):
    """Its packs would be taken for garbage."""
    content = back_up(repository, "p1", windows(1))
    (index,) = held.names(fmt.INDEX)
    records = indexing.read_index(repository.parts, index)
    meta = [record for record in records if record.head.kind is PackKind.META]
    held.delete([index])
    refuses(reopened(held, repository), held, "cannot be read to its end")
    indexing.put_index(repository.parts, meta)
    refuses(reopened(held, repository), held, "points refer to 1 records that no index names")
    indexing.put_index(repository.parts, records)
    fresh = reopened(held, repository)
    collect(fresh, AT_ONCE)
    check_all(fresh, {"p1": content})


def test_what_is_known_to_be_lost_does_not_stop_it(repository, held):
    content = back_up(repository, "p1", windows(1, 2))
    back_up(repository, "p2", windows(3))
    repository.delete(["p2"])
    lost = chunks_of(repository, "p1")[0]
    place = place_of(repository, lost)
    forget(repository, held, place.pack.id, lost)
    fresh = reopened(held, repository)
    refuses(fresh, held, "points refer to 1 records that no index names")
    damages.put(
        fresh.parts,
        points=frozenset(["p1"]),
        records=frozenset([(lost, place.pack.id)]),
        packs=frozenset(),
    )
    assert collect(fresh, AT_ONCE).removed_packs == 2
    held.pass_time(hours=3)
    assert collect(fresh, AT_ONCE).leftovers == 0, "the note is still needed"
    with fresh.open("p1") as reader:
        rest = list(reader.disk("serial:serial-vda").read(WINDOW, 2 * WINDOW))
        assert b"".join(bytes(c.data or bytes(c.length)) for c in rest) == content[WINDOW:]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("already", [False, True], ids=["", "condemned before"])
def test_what_a_check_has_noted_as_missing_may_be_in_a_pack_without_index(
    repository, held, already, broken
):
    """A repair would find it there."""
    content = back_up(repository, "p1", windows(1, 2))
    kept = back_up(repository, "p2", windows(3))
    missing = chunks_of(repository, "p1")
    pack = place_of(repository, missing[0]).pack
    for name in held.names(fmt.INDEX):
        records = indexing.read_index(repository.parts, name)
        held.delete([name])
        indexing.put_index(repository.parts, [item for item in records if item.head != pack])
    damages.put(
        repository.parts,
        points=frozenset(["p1"]),
        records=frozenset((record, "") for record in missing),
        packs=frozenset(),
    )
    if already:
        condemning.condemn(repository.parts, [pack.id])
    if broken:
        flip(held, pack.name, len(held.objects[pack.name][0]) - 40)
    fresh = reopened(held, repository)
    for _ in range(3):
        held.pass_time(hours=30)
        collect(fresh, AT_ONCE)
    assert pack.name in packs(held)
    assert restored(fresh, "p2") == kept
    if not broken:
        assert restored(reopened(held, repository), "p1") == content


def forget(repository, held, pack, record):
    """Take a record out of the index, as a repair does with what is nowhere."""
    for name in held.names(fmt.INDEX):
        records = indexing.read_index(repository.parts, name)
        held.delete([name])
        kept = [
            PackRecord(
                item.head, item.size, tuple(entry for entry in item.entries if entry.id != record)
            )
            for item in records
        ]
        indexing.put_index(repository.parts, kept)


# --- packs that are missing or bad ---


def test_a_pack_that_is_missing_is_kept_in_the_index_while_points_need_it(repository, held):
    back_up(repository, "p1", windows(1))
    kept = back_up(repository, "p2", windows(2))
    back_up(repository, "p3", windows(3))
    repository.delete(["p3"])
    missing = place_of(repository, chunks_of(repository, "p1")[0]).pack
    held.delete([missing.name])
    fresh = reopened(held, repository)
    done = collect(fresh, AT_ONCE)
    assert done.removed_packs == 2
    (told,) = (item for item in done.plan.verdicts if item.pack == missing.id)
    assert told.action is Action.KEEP
    assert told.reason.startswith("missing from the store, and points refer to 1 record")
    assert fresh.verify("p1", VerifyLevel.STRUCTURE).findings
    assert restored(fresh, "p2") == kept
    fresh.delete(["p1"])
    collect(fresh, AT_ONCE)
    assert missing.id not in {item.head.id for item in fresh.parts.index.packs()}


def twice(repository, held, name, content):
    """Store a chunk a second time, as after damage; give the chunk and its first place."""
    back_up(repository, name, content)
    (chunk,) = chunks_of(repository, name)
    first = place_of(repository, chunk)
    note = damages.put(
        repository.parts,
        points=frozenset(),
        records=frozenset([(chunk, first.pack.id)]),
        packs=frozenset(),
    )
    back_up(repository, f"{name}-again", content)
    held.delete([note.name])
    return chunk, first


@pytest.mark.parametrize("how", ["noted record", "noted pack", "missing"])
def test_the_last_whole_copy_is_rescued(repository, held, how):
    content = windows(1)
    chunk, first = twice(repository, held, "p1", content)
    indexing.refresh(repository.parts)
    second = place_of(repository, chunk)
    assert second.pack != first.pack
    condemning.condemn(repository.parts, [first.pack.id])
    held.pass_time(hours=2)
    if how == "missing":
        held.delete([second.pack.name])
    else:
        flip(held, second.pack.name, second.entry.offset + 3)
        damages.put(
            repository.parts,
            points=frozenset(),
            records=frozenset([(chunk, second.pack.id)] if how == "noted record" else []),
            packs=frozenset([second.pack.id] if how == "noted pack" else []),
        )
    fresh = reopened(held, repository)
    assert collect(fresh, HOUR).rescued_packs == 1
    held.pass_time(hours=2)
    collect(fresh, HOUR)
    assert restored(fresh, "p1") == content


@pytest.fixture
def small_packs(monkeypatch):
    monkeypatch.setattr(fmt, "PACK_BYTES", 3 << 19)
    monkeypatch.setattr(plan, "SMALL", 0)


def worn_pack(repository):
    """Make a pack of which less than half is live; give its live chunks."""
    back_up(repository, "p1", windows(0, 1, 2, 3))
    back_up(repository, "p2", windows(0, 3))
    repository.delete(["p1"])
    return chunks_of(repository, "p2")


def test_a_record_that_cannot_be_copied_keeps_its_pack(repository, held, small_packs):
    chunk, other = worn_pack(repository)
    pack = damage(repository, held, chunk)
    fresh = reopened(held, repository)
    done = collect(fresh, AT_ONCE)
    assert list(done.unreadable) == [pack.id]
    assert pack.name in packs(held)
    (note,) = damages.read_all(fresh.parts)
    assert note.records == {(chunk, pack.id)}
    again = collect(fresh, AT_ONCE)
    assert again.copied_bytes == 0
    (told,) = (item for item in again.plan.verdicts if item.pack == pack.id)
    assert told.reason == "1 record in it cannot be copied: damaged"
    assert place_of(fresh, other).pack != pack
    # The next backup that brings it stores it again, and the pack can go.
    kept = back_up(fresh, "p3", windows(0, 3))
    assert collect(fresh, AT_ONCE).removed_packs > 0
    assert pack.name not in packs(held)
    check_all(fresh, {"p2": kept, "p3": kept})


def test_a_record_that_is_whole_elsewhere_is_copied_from_there(repository, held, small_packs):
    chunk, _ = worn_pack(repository)
    first = place_of(repository, chunk).pack
    note = damages.put(
        repository.parts,
        points=frozenset(),
        records=frozenset([(chunk, first.id)]),
        packs=frozenset(),
    )
    kept = back_up(repository, "q1", windows(0), OTHER_UUID)
    held.delete([note.name])
    # Both are thought to be whole, and the one that is taken is not.
    fresh = reopened(held, repository)
    while indexing.refresh(fresh.parts).condemnations or place_of(fresh, chunk).pack != first:
        for name in held.names(fmt.INDEX):
            indexing.put_index(fresh.parts, indexing.read_index(fresh.parts, name))
            held.delete([name])
        fresh = reopened(held, repository)
    damage(fresh, held, chunk)
    done = collect(fresh, CollectOptions(grace=timedelta(0), live_ratio=1))
    assert not done.unreadable
    assert first.name not in packs(held)
    check_all(reopened(held, repository), {"p2": windows(0, 3), "q1": kept})


def test_a_pack_that_is_cut_gives_what_is_left_of_it(repository, held, small_packs):
    chunk, other = worn_pack(repository)
    where = sorted(
        (place_of(repository, item) for item in (chunk, other)), key=lambda p: p.entry.offset
    )
    content, modified = held.objects[where[1].pack.name]
    held.objects[where[1].pack.name] = (content[: where[1].entry.offset + 9], modified)
    fresh = reopened(held, repository)
    done = collect(fresh, AT_ONCE)
    assert list(done.unreadable) == [where[1].pack.id]
    assert done.copied_bytes == where[0].entry.stored
    assert place_of(fresh, where[0].entry.id).pack != where[0].pack


def test_a_look_says_so_too(repository, held):
    back_up(repository, "p1", windows(1))
    flip(held, manifest(held, "p1"), 40)
    with pytest.raises(Damaged, match="point p1 cannot be read"):
        plan_collection(reopened(held, repository), AT_ONCE)
    assert held.names(fmt.LEASES) == []
