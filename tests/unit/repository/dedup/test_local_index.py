"""The local index knows what lies where, what of it counts, and what of it is live."""

from __future__ import annotations

import threading

import pytest

from sendense.errors import Busy
from sendense.repository.dedup.entries import Location
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.local_index import KindTotals, LocalIndex
from tests.support.dedup_records import meta_pack, number_id, pack

A, B, C, D, E = map(number_id, range(5))
ONE, TWO, THREE = pack(1, [A, B]), pack(2, [B, C], stored=100), pack(3, [C, D], blocks=16)
NOBODY = number_id(99)


@pytest.fixture(params=["file", "temporary"])
def path(request, tmp_path):
    return tmp_path / "cache/index" if request.param == "file" else None


@pytest.fixture
def index(path):
    with LocalIndex(path) as made:
        yield made


def place(record, number=0):
    return Location(record.head, record.entries[number])


def test_an_empty_index(index):
    assert index.names() == frozenset()
    assert index.stored([A]) == set()
    assert index.stored([]) == set()
    assert index.find([A]) == {}
    assert index.locations(A) == []
    assert list(index.packs()) == []
    assert index.entries_of(ONE.head.id) == []
    assert index.totals().stored_bytes == 0
    assert index.similar_leaf([1, 2]) is None


def test_what_index_objects_name_is_found(index):
    index.apply([("index/1", [ONE, TWO]), ("index/2", [THREE])], [])
    assert index.names() == {"index/1", "index/2"}
    assert index.stored([A, NOBODY, C, A]) == {A, C}
    found = index.find([A, NOBODY, D, A])
    assert found == {A: place(ONE), D: place(THREE, 1)}
    assert index.locations(B) in (
        [place(ONE, 1), place(TWO)],
        [place(TWO), place(ONE, 1)],
    )
    for record in (ONE, TWO, THREE):
        assert index.entries_of(record.head.id) == list(record.entries)
    summaries = {item.head.id: item for item in index.packs()}
    assert summaries[TWO.head.id].size == TWO.size
    assert summaries[TWO.head.id].entries == 2
    assert summaries[TWO.head.id].stored == 200


def test_totals_are_by_kind(index):
    meta = meta_pack(9, {E: (1,)})
    index.apply([("index/1", [ONE, meta])], [])
    index.add_own(TWO)
    totals = index.totals()
    plain = sum(entry.length for pack in (ONE, TWO) for entry in pack.entries)
    assert totals.data == KindTotals(2, 4, ONE.size + TWO.size, plain)
    assert totals.meta == KindTotals(1, 1, meta.size, meta.entries[0].length)
    assert totals.stored_bytes == ONE.size + TWO.size + meta.size


def test_a_pack_is_known_as_long_as_one_index_object_names_it(index):
    index.apply([("index/1", [ONE, TWO]), ("index/2", [TWO])], [])
    assert len(index.locations(B)) == 2
    index.apply([("index/3", [ONE])], ["index/1"])
    assert index.stored([A, B, C]) == {A, B, C}
    index.apply([], ["index/2", "index/never"])
    assert index.stored([A, B, C]) == {A, B}
    assert index.entries_of(TWO.head.id) == []
    index.apply([], ["index/3"])
    assert index.stored([A, B, C]) == set()
    assert list(index.packs()) == []
    assert index.names() == frozenset()


def test_an_index_object_comes_only_once(index):
    index.apply([("index/1", [ONE])], [])
    index.apply([("index/1", [ONE, TWO])], [])
    assert [item.head for item in index.packs()] == [ONE.head]


def test_a_pack_comes_again_after_it_went(index):
    for _ in range(3):
        index.apply([("index/1", [ONE])], [])
        index.apply([("index/2", [TWO])], ["index/1"])
        assert index.stored([A, C]) == {C}
        index.apply([("index/1", [ONE])], ["index/2"])
        assert index.stored([A, C]) == {A}
        index.apply([], ["index/1"])


def test_an_empty_pack_is_a_pack(index):
    empty, other = pack(5, []), pack(6, [])
    index.apply([("index/1", [empty, other, ONE])], [])
    assert len(list(index.packs())) == 3
    assert index.entries_of(empty.head.id) == []
    index.apply([("index/2", [other])], ["index/1"])
    assert [item.head for item in index.packs()] == [other.head]


@pytest.mark.parametrize("count", [15, 16, 17, 1000])
def test_packs_of_any_number_of_records(index, count):
    large = pack(7, [number_id(1000 + n) for n in range(count)], stored=1 << 15)
    nodes = meta_pack(8, {number_id(9000 + n): tuple(range(n % 5)) for n in range(count)})
    index.apply([("index/1", [ONE, large, nodes])], [])
    ids = [entry.id for record in (large, nodes) for entry in record.entries]
    assert index.stored(ids) == set(ids)
    found = index.find(ids)
    for record in (large, nodes):
        assert index.entries_of(record.head.id) == list(record.entries)
        assert [found[entry.id].entry for entry in record.entries] == list(record.entries)


def test_ids_that_begin_alike_are_told_apart(index):
    alike = [A[:8] + bytes([n]) * 24 for n in range(20)]
    index.apply([("index/1", [pack(1, alike[:10])])], [])
    assert index.stored(alike) == set(alike[:10])
    assert set(index.find(alike)) == set(alike[:10])
    index.begin_marking()
    assert index.mark(alike) == alike
    assert sorted(index.strays()) == sorted(alike[10:])


# --- packs of our own ---


def test_our_own_packs_are_found_until_the_file_has_them(index):
    index.add_own(ONE)
    index.add_own(ONE)
    assert index.stored([A, C]) == {A}
    assert index.find([A]) == {A: place(ONE)}
    assert index.entries_of(ONE.head.id) == list(ONE.entries)
    assert [item.head for item in index.packs()] == [ONE.head]
    index.apply([("index/1", [ONE])], [])
    assert index.locations(A) == [place(ONE)]
    assert [item.head for item in index.packs()] == [ONE.head]
    index.add_own(ONE)
    assert index.locations(A) == [place(ONE)]
    index.apply([], ["index/1"])
    assert index.stored([A]) == set()


def test_our_own_packs_are_nobody_elses(tmp_path):
    with LocalIndex(tmp_path / "index") as one, LocalIndex(tmp_path / "index") as other:
        one.add_own(ONE)
        assert other.stored([A]) == set()
        other.apply([("index/1", [ONE])], [])
        assert one.locations(A)
        one.apply([("index/1", [ONE])], [])
        assert one.locations(A) == [place(ONE)]


def test_our_own_packs_can_be_forgotten(index):
    index.apply([("index/1", [ONE])], [])
    for record in (TWO, THREE):
        index.add_own(record)
    index.forget_own([TWO.head.id, ONE.head.id, "f" * 32])
    assert index.stored([A, B, C, D]) == {A, B, C, D}
    assert index.locations(C) == [place(THREE)]
    index.forget_own()
    assert [item.head for item in index.packs()] == [ONE.head]
    assert index.stored([A, B, C, D]) == {A, B}
    for number in range(2000):
        index.add_own(pack(100 + number, []))
    index.forget_own()
    index.forget_own()
    assert [item.head for item in index.packs()] == [ONE.head]


# --- what does not count ---


def test_what_is_condemned_or_bad_does_not_count_as_stored(index):
    index.apply([("index/1", [ONE, TWO])], [])
    for say in (index.set_condemned, index.set_bad_packs):
        say(frozenset({ONE.head.id}))
        assert index.stored([A, B, C]) == {B, C}
        assert index.find([A, B]) == {A: place(ONE), B: place(TWO)}
        assert index.locations(B) == [place(TWO), place(ONE, 1)]
        say(frozenset({TWO.head.id}))
        assert index.stored([A, B, C]) == {A, B}
        assert index.locations(B) == [place(ONE, 1), place(TWO)]
        say(frozenset())
        assert index.stored([A, B, C]) == {A, B, C}


def test_what_is_damaged_does_not_count_as_stored_there(index):
    index.apply([("index/1", [ONE, TWO])], [])
    index.set_damaged(frozenset({(A, ONE.head.id), (B, ONE.head.id)}))
    assert index.stored([A, B, C]) == {B, C}
    assert index.find([A, B]) == {A: place(ONE), B: place(TWO)}
    again = pack(8, [A])
    index.add_own(again)
    assert index.stored([A]) == {A}
    assert index.locations(A) == [place(again), place(ONE)]


def test_a_condemned_pack_is_read_before_a_bad_one(index):
    index.apply([("index/1", [ONE, TWO])], [])
    for bad, condemned in ((ONE, TWO), (TWO, ONE)):
        index.set_bad_packs(frozenset({bad.head.id}))
        index.set_condemned(frozenset({condemned.head.id, bad.head.id}))
        assert [item.pack for item in index.locations(B)] == [condemned.head, bad.head]
        assert index.stored([B]) == set()


# --- leaves ---


def test_a_similar_leaf_shares_most_hooks(index):
    high = 1 << 63
    leaves = {A: (high + 1, high + 2), B: (high + 1, high + 2, high + 3), C: (4, 5, 6, 7)}
    index.apply([("index/1", [meta_pack(1, leaves)])], [])
    assert index.similar_leaf([high + 2, high + 3]) == B
    assert index.similar_leaf([4, high + 1, 5]) == C
    assert index.similar_leaf([8, 9]) is None
    assert index.similar_leaf([]) is None
    # The same key, but another hook.
    assert index.similar_leaf([high + 9]) is None


def test_of_leaves_that_are_as_similar_the_newest_is_given(index):
    index.apply([("index/1", [meta_pack(1, {A: (1 << 40,)})])], [])
    index.apply([("index/2", [meta_pack(2, {B: (1 << 40,)})])], [])
    assert index.similar_leaf([1 << 40]) == B
    index.add_own(meta_pack(3, {C: (1 << 40,)}))
    assert index.similar_leaf([1 << 40]) == C


def test_a_similar_leaf_is_one_that_can_be_read(index):
    packs = [meta_pack(n, {record: (1 << 40,)}) for n, record in enumerate((A, B, C, D))]
    for number, record in enumerate(packs):
        index.apply([(f"index/{number}", [record])], [])
    index.set_condemned(frozenset({packs[3].head.id}))
    index.set_bad_packs(frozenset({packs[2].head.id}))
    index.set_damaged(frozenset({(B, packs[1].head.id)}))
    assert index.similar_leaf([1 << 40]) == A
    index.apply([], ["index/0"])
    assert index.similar_leaf([1 << 40]) is None


# --- marking ---


def test_marks_say_what_is_live(index):
    index.apply([("index/1", [ONE, TWO]), ("index/2", [THREE])], [])
    index.begin_marking()
    assert index.mark([A, A, NOBODY]) == [A, NOBODY]
    assert index.mark(iter([NOBODY, D, A])) == [D]
    assert list(index.strays()) == [NOBODY]
    live = {pack_id: counts for pack_id, *counts in index.live_by_pack()}
    assert live == {ONE.head.id: [ONE.entries[0].stored, 1], THREE.head.id: [1048592, 1]}
    assert index.live_entries(THREE.head.id) == [THREE.entries[1]]
    assert index.live_entries(TWO.head.id) == []
    assert index.live_entries("ff" * 16) == []
    index.begin_marking()
    assert list(index.live_by_pack()) == []
    assert list(index.strays()) == []
    index.end_marking()
    index.end_marking()
    with pytest.raises(RuntimeError, match="nothing is being marked"):
        index.live_entries(ONE.head.id)


def test_a_record_in_two_packs_is_live_in_the_better_one(index):
    index.apply([("index/1", [ONE, TWO])], [])
    for condemned, stays in ((ONE, TWO), (TWO, ONE)):
        index.set_condemned(frozenset({condemned.head.id}))
        index.begin_marking()
        assert index.mark([B]) == [B]
        assert [item[0] for item in index.live_by_pack()] == [stays.head.id]


def test_marks_go_with_our_own_packs_into_the_file(index):
    index.apply([("index/1", [ONE])], [])
    index.add_own(THREE)
    index.begin_marking()
    assert index.mark([A, D]) == [A, D]
    assert {item[0] for item in index.live_by_pack()} == {ONE.head.id, THREE.head.id}
    assert index.live_entries(THREE.head.id) == [THREE.entries[1]]
    index.apply([("index/2", [TWO, THREE])], [])
    assert index.mark([A, D]) == []
    assert {item[0] for item in index.live_by_pack()} == {ONE.head.id, THREE.head.id}
    assert index.live_entries(THREE.head.id) == [THREE.entries[1]]


def test_a_mark_moves_when_its_pack_goes(index):
    index.apply([("index/1", [ONE]), ("index/2", [TWO])], [])
    index.set_condemned(frozenset({TWO.head.id}))
    index.begin_marking()
    index.mark([B])
    assert index.live_entries(ONE.head.id) == [ONE.entries[1]]
    index.apply([], ["index/1"])
    assert index.live_entries(TWO.head.id) == [TWO.entries[0]]
    assert index.mark([B]) == []
    index.apply([], ["index/2"])
    assert list(index.live_by_pack()) == []
    assert list(index.strays()) == [B]


def test_marks_are_refused_when_another_process_takes_packs_away(tmp_path):
    with LocalIndex(tmp_path / "index") as one, LocalIndex(tmp_path / "index") as other:
        one.apply([("index/1", [ONE]), ("index/2", [TWO])], [])
        one.begin_marking()
        one.mark([B])
        other.apply([("index/3", [THREE])], [])
        assert len(list(one.live_by_pack())) == 1
        other.apply([], ["index/3"])
        assert len(list(one.live_by_pack())) == 1, "nothing in it was marked"
        other.apply([], ["index/2"])
        with pytest.raises(Busy, match="left the local index"):
            list(one.live_by_pack())
        with pytest.raises(Busy, match="left the local index"):
            one.live_entries(ONE.head.id)


# --- index objects ---


def test_index_objects_are_told_with_their_packs(index):
    assert list(index.holders()) == []
    index.apply([("index/1", [ONE, TWO]), ("index/2", [TWO]), ("index/3", [])], [])
    index.add_own(THREE)
    told = {name: sorted(packs) for name, packs in index.holders()}
    one, two = (ONE.head.id, 2), (TWO.head.id, 2)
    assert told == {"index/1": sorted([one, two]), "index/2": [two], "index/3": []}
    index.apply([(f"index/more{n}", []) for n in range(150)], ["index/1"])
    assert len(list(index.holders())) == 152


# --- as a whole ---


def test_what_is_cleared_is_forgotten(index):
    index.apply([("index/1", [ONE])], [])
    index.add_own(TWO)
    index.set_condemned(frozenset({ONE.head.id}))
    index.clear()
    assert index.names() == frozenset()
    assert index.stored([A, C]) == {C}
    index.apply([("index/1", [ONE])], [])
    assert index.find([A]) == {A: place(ONE)}
    assert index.stored([A]) == set()


def test_what_is_given_while_packs_come_and_go(index):
    index.apply([(f"index/{n}", [pack(n, [])]) for n in range(2500)], [])
    seen = []
    for summary in index.packs():
        seen.append(summary.head.id)
        if len(seen) == 10:
            index.apply([], [f"index/{n}" for n in range(0, 2500, 2)])
            index.apply([("index/more", [ONE])], [])
    stays = {pack(n, []).head.id for n in range(1, 2500, 2)} | {ONE.head.id}
    assert stays <= set(seen)
    assert len(seen) == len(set(seen))


def test_many_threads_use_one_index(index):
    packs = [pack(n, [number_id(n * 100 + m) for m in range(50)]) for n in range(24)]
    failures = []

    def work(part):
        try:
            for number, record in enumerate(part):
                ids = [entry.id for entry in record.entries]
                index.add_own(record)
                assert index.stored(ids) == set(ids)
                index.apply([(f"index/{record.head.id}", [record])], [])
                assert index.stored(ids) == set(ids)
                if number % 2:
                    index.apply([], [f"index/{record.head.id}"])
                    assert index.stored(ids) == set()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(packs[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert index.totals().data.packs == 12
    assert PackKind.META not in {item.head.kind for item in index.packs()}
