"""Trees of nodes against a dict of leaves."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.nodes import decode_inner, height, leaf_count
from sendense.repository.dedup.trees import Tree, TreeBuilder

LEAF = fmt.LEAF_BYTES


class Nodes:
    """Nodes in a dict; leaves are ids without content."""

    def __init__(self):
        self.held = {}
        self.fetched = []

    def put(self, node):
        name = hashlib.sha256(node).digest()
        self.held[name] = node
        return name

    def node(self, node_id):
        return self.held[node_id]

    def fetch(self, ids):
        self.fetched.extend(ids)


def leaf(number):
    return hashlib.sha256(b"leaf %d" % number).digest()


def build(nodes, size, changes, base=None, inherit=False):
    """Feed changes: (first, end, value or None for zeroes) in order."""
    builder = TreeBuilder(size, nodes.put, base, inherit=inherit)
    for first, end, value in changes:
        if value is None:
            builder.feed_zeroes(first, end)
        else:
            for number in range(first, end):
                builder.feed(number, leaf(value * 100_000 + number))
    return builder.finish()


def apply(model, changes, size):
    for first, end, value in changes:
        for number in range(first, end):
            if value is None:
                model.pop(number, None)
            else:
                model[number] = leaf(value * 100_000 + number)
    return {number: item for number, item in model.items() if number < leaf_count(size)}


@st.composite
def runs(draw, leaves):
    """Give runs of leaves in ascending order."""
    borders = sorted(draw(st.sets(st.integers(0, leaves), max_size=8)))
    found = []
    for first, end in zip(borders[::2], borders[1::2], strict=False):
        found.append((first, end, draw(st.one_of(st.none(), st.integers(0, 9)))))
    return found


@st.composite
def histories(draw):
    leaves = st.one_of(st.integers(1, 130), st.integers(1, 9000))
    sizes = sorted(draw(st.lists(leaves, min_size=1, max_size=4)))
    return [(leaves, draw(runs(leaves))) for leaves in sizes]


@settings(deadline=None)
@given(histories())
def test_a_tree_is_the_dict_that_it_was_made_of(history):
    nodes = Nodes()
    model: dict[int, bytes] = {}
    base = None
    for leaves, changes in history:
        size = leaves * LEAF
        root = build(nodes, size, changes, base, inherit=True)
        model = apply(model, changes, size)
        tree = Tree(nodes, root, size)
        assert dict(tree.present()) == model
        assert [number for number, _ in tree.present()] == sorted(model)
        for number in (0, leaves // 2, leaves - 1):
            assert tree.find(0, number) == model.get(number)
        base = Tree(nodes, root, size)


@settings(deadline=None)
@given(histories())
def test_equal_content_has_an_equal_root(history):
    nodes = Nodes()
    model: dict[int, bytes] = {}
    base = None
    for leaves, changes in history:
        size = leaves * LEAF
        root = build(nodes, size, changes, base, inherit=True)
        model = apply(model, changes, size)
        base = Tree(nodes, root, size)
    builder = TreeBuilder(size, nodes.put, None, inherit=False)
    for number in sorted(model):
        builder.feed(number, model[number])
    assert builder.finish() == root


@settings(deadline=None)
@given(st.integers(1, 300_000), st.data())
def test_part_of_a_tree(leaves, data):
    nodes = Nodes()
    size = leaves * LEAF
    chosen = sorted(data.draw(st.sets(st.integers(0, leaves - 1), max_size=20)))
    root = build(nodes, size, [(number, number + 1, 1) for number in chosen])
    first = data.draw(st.integers(0, leaves))
    end = data.draw(st.integers(first, leaves))
    tree = Tree(nodes, root, size)
    found = [number for number, _ in tree.present(first, end)]
    assert found == [number for number in chosen if first <= number < end]


def test_an_incremental_writes_the_nodes_above_what_changed():
    nodes = Nodes()
    size = 64**3 * LEAF
    assert height(size) == 3
    root = build(nodes, size, [(0, 5000, 1)])
    before = set(nodes.held)
    build(nodes, size, [(70, 71, 2)], Tree(nodes, root, size), inherit=True)
    written = [nodes.held[name] for name in set(nodes.held) - before]
    assert sorted(decode_inner(node)[0] for node in written) == [1, 2, 3]


@pytest.mark.parametrize("before", [1, 64, 64**2])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_disk_that_grew_by_levels_keeps_what_nobody_named(before, levels):
    nodes = Nodes()
    root = build(nodes, before * LEAF, [(before - 1, before, 1)])
    size = before * 64**levels * LEAF
    last = leaf_count(size) - 1
    base = Tree(nodes, root, before * LEAF)
    grown = Tree(nodes, build(nodes, size, [(last, last + 1, 2)], base, inherit=True), size)
    assert [number for number, _ in grown.present()] == [before - 1, last]


def test_a_disk_of_zeroes_has_no_root():
    nodes = Nodes()
    size = 10_000 * LEAF
    root = build(nodes, size, [(0, 9_999, 1)])
    assert build(nodes, size, [(0, 10_000, None)], Tree(nodes, root, size), inherit=True) is None


def test_zeroes_of_a_petabyte_are_cheap():
    nodes = Nodes()
    size = 2**50
    root = build(nodes, size, [(5, 6, 1), (leaf_count(size) - 1, leaf_count(size), 1)])
    base = Tree(nodes, root, size)
    left = build(nodes, size, [(6, leaf_count(size) - 1, None)], base, inherit=True)
    assert left == root
