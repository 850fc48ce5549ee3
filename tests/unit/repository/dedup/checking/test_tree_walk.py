"""The walk over all trees: each node once, and the right points are blamed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.model.decision import Method
from sendense.repository.dedup.checking.blame import Blame, Cause
from sendense.repository.dedup.checking.findings import What
from sendense.repository.dedup.checking.tree_walk import TreeWalk
from sendense.repository.dedup.checking.walk_ledger import Ledger
from sendense.repository.dedup.nodes import decode_inner, decode_leaf, node_level
from sendense.repository.dedup.record_reading import Records
from sendense.units import MIB
from tests.support.dedup import dedup_repository
from tests.support.dict_store import DictStore
from tests.support.points import BLOCK, Write, data, disk, noise, store

VDA = disk("vda")
SIZE = 300 * MIB
"""Two levels of inner nodes."""


def build():
    """Make points that share much: each changes one block of the one before."""
    repository = dedup_repository(DictStore())
    places = (0, 70, 200, 4097, 4700)
    chunks = tuple(data(at * BLOCK, noise(BLOCK, at)) for at in places)
    store(repository, "p0", Write(VDA, SIZE, chunks))
    for number, place in enumerate((70, 4700, 71), start=1):
        change = (data(place * BLOCK, noise(BLOCK, 100 + number)),)
        store(repository, f"p{number}", Write(VDA, SIZE, change, Method.BITMAP))
    return repository


REPOSITORY = build()
POINTS = {item.point.id: item for item in REPOSITORY.stored_points()}


def trees_of(stored):
    return [(root, size) for _, root, size in stored.trees()]


def everything_of(stored):
    """Give all nodes and chunks of a point, found in the plainest way."""
    records = Records(REPOSITORY.parts)
    waiting = [root for root, _ in trees_of(stored) if root is not None]
    found = set()
    while waiting:
        node = waiting.pop()
        found.add(node)
        content = records.node(node)
        if node_level(content):
            waiting += [child for child in decode_inner(content)[1] if child is not None]
        else:
            found |= {slot.chunk for slot in decode_leaf(content) if slot is not None}
    return found


NEEDED = {point: everything_of(stored) for point, stored in POINTS.items()}
ALL = sorted(set.union(*NEEDED.values()))


def walk(blame):
    """Give the causes of each point."""
    with TreeWalk(REPOSITORY.parts, blame) as walking:
        return {point: walking.trees(trees_of(stored)) for point, stored in POINTS.items()}


def location(record):
    return REPOSITORY.parts.index.find([record])[record]


def test_nothing_is_wrong():
    assert set(walk(Blame(REPOSITORY.parts.index)).values()) == {frozenset()}


def test_each_node_is_read_once(monkeypatch):
    read: Counter[bytes] = Counter()
    inner = Records.read

    def counted(self, ids, take):
        read.update(ids)
        inner(self, ids, take)

    monkeypatch.setattr(Records, "read", counted)
    walk(Blame(REPOSITORY.parts.index))
    nodes = {record for record in ALL if location(record).pack.kind.name == "META"}
    assert set(read) == nodes
    assert set(read.values()) == {1}


@settings(deadline=None, max_examples=60)
@given(bad=st.sets(st.sampled_from(ALL), max_size=6))
def test_who_uses_what_is_bad_is_touched_and_nobody_else(bad):
    blame = Blame(REPOSITORY.parts.index)
    for record in bad:
        pack = location(record).pack
        blame.bad(pack.id, pack.name, [record], "bad")
    touched = {point for point, causes in walk(blame).items() if causes}
    assert touched == {point for point, needed in NEEDED.items() if needed & bad}


@settings(deadline=None, max_examples=30)
@given(gone=st.sets(st.sampled_from(sorted({location(item).pack.id for item in ALL}))))
def test_who_uses_a_pack_that_is_gone_is_touched_and_nobody_else(gone):
    blame = Blame(REPOSITORY.parts.index)
    for pack in gone:
        blame.pack(pack, Cause(What.PACK_MISSING, pack, f"{pack} is missing"))
    touched = {point for point, causes in walk(blame).items() if causes}
    assert touched == {
        point
        for point, needed in NEEDED.items()
        if any(location(item).pack.id in gone for item in needed)
    }


def test_a_tree_of_another_height_is_not_taken():
    """The root of a small disk as that of a large one: somebody mixed them up."""
    root = trees_of(POINTS["p0"])[0][0]
    blame = Blame(REPOSITORY.parts.index)
    with TreeWalk(REPOSITORY.parts, blame) as walking:
        assert walking.trees([(root, SIZE)]) == frozenset()
        assert walking.trees([(root, 100 * SIZE)])
        assert walking.trees([(root, MIB)])


def test_the_ledger_keeps_what_was_entered():
    ledger = Ledger()
    causes = [Cause(What.PACK_RECORDS, str(n), "") for n in range(3)]
    ids = [bytes([n]) * 32 for n in range(250)]
    ledger.enter(0, [(node, frozenset(causes[: node[0] % 4])) for node in ids])
    known = ledger.known([*ids, b"\xff" * 32])
    assert known == {node: (0, frozenset(causes[: node[0] % 4])) for node in ids}
    assert ledger.count == len(ids)
    ledger.close()


def test_the_walk_ends_when_it_is_told_to():
    def stop():
        raise InterruptedError

    blame = Blame(REPOSITORY.parts.index)
    with (
        TreeWalk(REPOSITORY.parts, blame, check=stop) as walking,
        pytest.raises(InterruptedError),
    ):
        walking.trees(trees_of(POINTS["p0"]))
