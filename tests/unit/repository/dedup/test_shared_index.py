"""One local index for several: what others enter into it is not taken on trust."""

from __future__ import annotations

import shutil
from contextlib import closing

import pytest

from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.opening import open_unlocked
from sendense.storage.urls import open_store
from tests.support.collecting import check_all, quick_repository
from tests.support.dedup_records import number_id, pack
from tests.support.points import (
    BLOCK,
    MACHINE_UUID,
    Write,
    data,
    disk,
    draft,
    machine,
    noise,
    spec_for,
    store,
)

A, B, C, D = map(number_id, range(4))
ONE, TWO, THREE = pack(1, [A]), pack(2, [B]), pack(3, [C, D])
OTHER = "6f2d3f4e-0000-4000-8000-000000000002"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache/index"


def test_what_others_enter_later_does_not_count_as_stored(path):
    with LocalIndex(path) as index, LocalIndex(path) as other:
        index.apply([("index/1", [ONE])], [])
        assert index.count_only(frozenset({"index/1"})) == set()
        other.apply([("index/2", [TWO])], [])
        assert index.stored([A, B]) == {A}
        assert B in index.find([B])
        index.set_condemned(frozenset({THREE.head.id}))
        assert index.stored([A, B]) == {A}
        assert index.count_only(frozenset({"index/1", "index/2"})) == set()
        assert index.stored([A, B]) == {A, B}


def test_what_is_our_own_counts_also_when_all_know_it(path):
    with LocalIndex(path) as index:
        index.count_only(frozenset())
        index.add_own(ONE)
        index.add_own(TWO)
        assert index.stored([A, B]) == {A, B}
        index.apply([("index/1", [ONE])], [])
        assert index.stored([A, B]) == {A, B}
        index.set_bad_packs(frozenset({TWO.head.id}))
        assert index.stored([A, B]) == {A}


def test_nothing_counts_that_nobody_has_seen_in_the_store(path):
    with LocalIndex(path) as index, LocalIndex(path) as other:
        other.apply([("index/1", [ONE]), ("index/2", [TWO])], [])
        assert index.count_only(frozenset({"index/1"})) == {"index/2"}
        assert index.stored([A, B]) == set()
        index.apply([], ["index/2"])
        assert index.count_only(frozenset({"index/1"})) == set()
        assert index.stored([A, B]) == {A}


def test_a_mark_goes_to_what_others_entered_later_only_if_it_is_nowhere_else(path):
    again = pack(4, [A])
    with LocalIndex(path) as index, LocalIndex(path) as other:
        index.apply([("index/1", [ONE])], [])
        index.count_only(frozenset({"index/1"}))
        other.apply([("index/2", [again, TWO])], [])
        index.begin_marking()
        assert index.mark([A, B]) == [A, B]
        assert {item[0] for item in index.live_by_pack()} == {ONE.head.id, TWO.head.id}
        assert index.count_only(frozenset({"index/1", "index/2"})) == set()
        assert index.mark([A]) == [A]
        assert again.head.id in {item[0] for item in index.live_by_pack()}


def test_an_index_that_is_made_anew_counts_anew(path):
    with LocalIndex(path) as index:
        index.count_only(frozenset())
        index.clear()
        index.apply([("index/1", [ONE])], [])
        assert index.stored([A]) == {A}


@pytest.mark.parametrize("shared", ["directory", "file"])
def test_two_copies_of_a_repository_at_work_at_once(tmp_path, monkeypatch, shared):
    if shared == "file":  # as with two that are mounted at one place, one after the other
        monkeypatch.setattr("sendense.repository.dedup.opening.index_file_of", lambda _: "index")
    first = quick_repository(open_store(str(tmp_path / "first")), tmp_path / "cache")
    store(first, "p1", Write(disk(), BLOCK, (data(0, noise(BLOCK, 1)),)))
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    place = open_store(str(tmp_path / "second"))
    second = open_unlocked(place, first.parts.ring, first.header, cache=tmp_path / "cache")
    content = noise(BLOCK, 2)
    owner = machine(MACHINE_UUID, disk())
    with closing(first), closing(second):
        with first.begin(owner, "p2") as point:
            store(second, "q1", Write(disk(), BLOCK, (data(0, content),)), uuid=OTHER)
            writer = point.disk(spec_for(first, Write(disk(), BLOCK, ()), MACHINE_UUID))
            writer.write(0, content)
            writer.finish(read_bytes=0, sampled_blocks=0, seconds=0.0)
            point.commit(draft(owner))
        check_all(first, {"p1": noise(BLOCK, 1), "p2": content})
        check_all(second, {"p1": noise(BLOCK, 1), "q1": content})
