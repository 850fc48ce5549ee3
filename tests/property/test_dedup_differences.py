"""What two trees are said to differ in, against dicts of blocks, and what is read for it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.differences import Differences, widened
from sendense.repository.dedup.leaf_ahead import Wanted, Zeroes
from sendense.repository.dedup.nodes import Slot, encode_leaf
from sendense.repository.dedup.trees import Tree, TreeBuilder

BLOCK, LEAF = fmt.BLOCK, fmt.LEAF_BLOCKS


class Nodes:
    """Nodes in a dict, some of which may be damaged."""

    def __init__(self):
        self.held = {}
        self.damaged = set()
        self.read = set()

    def put(self, node):
        name = hashlib.sha256(node).digest()
        self.held[name] = node
        return name

    def node(self, node_id):
        if node_id in self.damaged:
            raise Damaged("this node is damaged")
        self.read.add(node_id)
        return self.held[node_id]

    def fetch(self, ids):
        for node_id in ids:
            self.node(node_id)


def digest(value):
    return hashlib.sha256(b"%d" % value).digest()


def build(nodes, blocks, size):
    """Make the tree of a disk that holds these values in these blocks."""
    builder = TreeBuilder(size, nodes.put, None, inherit=False)
    leaves: dict[int, list[Slot | None]] = {}
    for number, value in blocks.items():
        slots = leaves.setdefault(number // LEAF, [None] * LEAF)
        slots[number % LEAF] = Slot(digest(value), 0, digest(value))
    for number in sorted(leaves):
        builder.feed(number, nodes.put(encode_leaf(leaves[number])))
    return Tree(nodes, builder.finish(), size)


def told(nodes, tree, other):
    """Give the blocks that are said to differ, held to their order, and those of whole leaves."""
    wanted: list[int] = []
    zeroes: set[int] = set()
    position = 0
    for item in Differences(nodes, tree, other):
        if isinstance(item, Zeroes):
            assert position <= item.first < item.end <= tree.leaves
            zeroes.update(range(item.first * LEAF, item.end * LEAF))
            position = item.end
        else:
            assert isinstance(item, Wanted)
            assert position <= item.number < tree.leaves
            assert list(item.places) == sorted(item.places)
            assert item.places
            wanted += [item.number * LEAF + place for place in item.places]
            position = item.number + 1
    return wanted, zeroes


def limit(size):
    return -(-size // BLOCK)


sizes = st.one_of(
    st.integers(0, 3 * 4 << 20), st.integers(0, 130 * 4 << 20), st.integers(0, 5000 * 4 << 20)
)


@st.composite
def pairs(draw):
    """Give two disks that have much in common."""
    size, other = draw(sizes), draw(sizes)
    if draw(st.booleans()):
        other = size
    most = max(limit(size), limit(other), 1)
    number = st.integers(0, most - 1)
    shared = draw(st.dictionaries(number, st.integers(0, 5), max_size=30))
    own = {**shared, **draw(st.dictionaries(number, st.integers(0, 5), max_size=4))}
    theirs = {**shared, **draw(st.dictionaries(number, st.integers(0, 5), max_size=4))}
    for gone in draw(st.lists(st.sampled_from([*shared, 0]), max_size=4)):
        own.pop(gone, None)
    return (
        ({n: v for n, v in own.items() if n < limit(size)}, size),
        ({n: v for n, v in theirs.items() if n < limit(other)}, other),
    )


@settings(deadline=None)
@given(pairs())
def test_what_differs_is_told_and_no_more(pair):
    (own, size), (theirs, other_size) = pair
    nodes = Nodes()
    tree, other = build(nodes, own, size), build(nodes, theirs, other_size)
    wanted, zeroes = told(nodes, tree, other)
    different = {n for n in range(limit(size)) if own.get(n) != theirs.get(n)} if size else set()
    assert set(wanted) | {n for n in zeroes if n in theirs and n < limit(size)} == different
    assert not set(own) & zeroes
    assert set(wanted) <= different


@settings(deadline=None)
@given(pairs(), st.data())
def test_a_damaged_other_hides_no_difference(pair, draw):
    (own, size), (theirs, other_size) = pair
    nodes = Nodes()
    tree = build(nodes, own, size)
    mine = set(nodes.held)
    other = build(nodes, theirs, other_size)
    only_theirs = sorted(set(nodes.held) - mine)
    nodes.damaged = set(draw.draw(st.lists(st.sampled_from([*only_theirs, b""]), max_size=4)))
    wanted, zeroes = told(nodes, tree, other)
    different = {n for n in range(limit(size)) if own.get(n) != theirs.get(n)} if size else set()
    assert different <= set(wanted) | zeroes
    assert not set(own) & zeroes


def test_damage_of_its_own_is_damage():
    nodes = Nodes()
    tree, other = build(nodes, {5: 1}, 8 << 20), build(nodes, {}, 8 << 20)
    nodes.damaged = {tree.find(0, 0)}
    with pytest.raises(Damaged):
        told(nodes, tree, other)


def test_equal_nodes_are_passed_over():
    """One block of a disk of 64 GiB: a node of each tree for each level."""
    nodes = Nodes()
    blocks = {number: number for number in range(0, 64 * 64 * 4 * LEAF, LEAF)}
    size = 64 * 64 * 4 * LEAF * BLOCK
    tree = build(nodes, blocks, size)
    other = build(nodes, {**blocks, 7 * LEAF: 10**9}, size)
    nodes.read.clear()
    assert told(nodes, tree, other) == ([7 * LEAF], set())
    assert len(nodes.read) == 2 * (tree.height + 1)


@pytest.mark.parametrize(
    ("size", "places", "expected"),
    [
        (4096, [3], [3]),
        (BLOCK, [3, 5], [3, 5]),
        (2 * BLOCK, [3, 5], [2, 3, 4, 5]),
        (4 * BLOCK, [3, 60], [0, 1, 2, 3, 60, 61, 62, 63]),
    ],
)
def test_wider_blocks(size, places, expected):
    assert widened(Wanted(1, b"", places), size).places == expected
