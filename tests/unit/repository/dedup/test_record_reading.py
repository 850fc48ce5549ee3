"""Which records are fetched together."""

from __future__ import annotations

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Entry, Location, PackHead
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.record_reading import plan_runs
from sendense.units import KIB, MIB

STORED = MIB + fmt.TAG_BYTES


def places(*offsets, pack="aa", stored=STORED):
    head = PackHead(pack * 16, PackKind.DATA, 1)
    return [
        Location(head, Entry(f"{pack}{at}".encode().ljust(32), at, stored, MIB, False))
        for at in offsets
    ]


def test_the_chunks_of_a_leaf_come_by_one_request():
    leaf = places(*(24 + number * STORED for number in range(4)))
    assert [len(run.entries) for run in plan_runs(leaf)] == [4]


def test_the_blocks_of_a_leaf_come_by_one_request():
    stored = fmt.BLOCK + fmt.TAG_BYTES
    leaf = places(*(24 + number * stored for number in range(64)), stored=stored)
    assert [len(run.entries) for run in plan_runs(leaf)] == [64]


def test_a_small_gap_is_fetched_too_and_a_large_one_is_not():
    near, far = 24 + STORED + 64 * KIB, 24 + STORED + 64 * KIB + 1
    assert [len(run.entries) for run in plan_runs(places(24, near))] == [2]
    assert [len(run.entries) for run in plan_runs(places(24, far))] == [1, 1]


def test_packs_are_fetched_one_by_one():
    runs = list(plan_runs([*places(24, pack="bb"), *places(24, pack="aa")]))
    assert [run.pack.id for run in runs] == ["aa" * 16, "bb" * 16]
