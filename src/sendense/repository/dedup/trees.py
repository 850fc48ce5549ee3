"""The tree of nodes over a disk: finding leaves, and making a new tree from an older one.

A tree is named by its root and its height.  Reading walks down with one node per level in
hand, because everything here asks in ascending order.  Writing goes up: leaves are fed in
order, and a node is written when the last of its children that changed is known; children
that nobody named are the older tree's.  So the cost is the nodes above what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.nodes import decode_inner, encode_inner, height, leaf_count

Id = bytes
Children = list[Id | None]


class NodeSource(Protocol):
    """Gives nodes by id, checked."""

    def node(self, node_id: Id) -> bytes:
        """Give one node's bytes."""

    def fetch(self, ids: Sequence[Id]) -> None:
        """Bring nodes near: what is asked for next, in as few requests as possible."""


class Tree:
    """A disk's tree, for looking up in ascending order; used by one thread."""

    def __init__(self, source: NodeSource, root: Id | None, size: int) -> None:
        """Look into the tree under ``root``, of a disk of ``size`` bytes."""
        self._source = source
        self._root = root
        self.size = size
        self.height = height(size)
        self.leaves = leaf_count(size)
        self._at_hand: dict[int, tuple[int, Children]] = {}

    def find(self, level: int, number: int) -> Id | None:
        """Give the node of a level (0: leaves) by its number from the left."""
        if level > self.height:
            return self._virtual(level, number)
        if level == self.height:
            return self._root if number == 0 else None
        children = self.children(level + 1, number // fmt.FAN_OUT)
        return children[number % fmt.FAN_OUT]

    def _virtual(self, level: int, number: int) -> Id | None:
        """A node above the root: where the disk has grown, it says that there is something."""
        return self._root if number == 0 else None

    def children(self, level: int, number: int) -> Children:
        """Give the children of an inner node; all none where there is none."""
        held = self._at_hand.get(level)
        if held is None or held[0] != number:
            held = (number, self._load(level, number))
            self._at_hand[level] = held
        return held[1]

    def _load(self, level: int, number: int) -> Children:
        empty: Children = [None] * fmt.FAN_OUT
        if level > self.height:
            if number == 0:
                empty[0] = self.find(level - 1, 0)
            return empty
        node = self.find(level, number)
        if node is None:
            return empty
        found, children = decode_inner(self._source.node(node))
        if found != level:
            raise Damaged(f"node {node.hex()} is of level {found}, and not {level}")
        return children

    def near(self, number: int) -> None:
        """Bring near all leaves that share a parent with a leaf."""
        if self.height:
            parent = number // fmt.FAN_OUT
            self._source.fetch([item for item in self.children(1, parent) if item is not None])

    def present(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, Id]]:
        """Give the leaves that are not all zero, from ``first`` up to ``end``, in order."""
        stop = self.leaves if end is None else min(end, self.leaves)
        if self._root is not None:
            yield from self._present(self.height, 0, first, stop)

    def _present(self, level: int, number: int, first: int, stop: int) -> Iterator[tuple[int, Id]]:
        if level == 0:
            found = self.find(0, number)
            if found is not None and first <= number < stop:
                yield number, found
            return
        span: int = fmt.FAN_OUT ** (level - 1)
        children = self.children(level, number)
        wanted = [
            (child, number * fmt.FAN_OUT + place)
            for place, child in enumerate(children)
            if child is not None
            and (number * fmt.FAN_OUT + place + 1) * span > first
            and (number * fmt.FAN_OUT + place) * span < stop
        ]
        self._source.fetch([child for child, _ in wanted])
        for child, place in wanted:
            if level == 1:
                yield place, child
            else:
                yield from self._present(level - 1, place, first, stop)


@dataclass
class _Level:
    """The node of one level that is being put together."""

    number: int
    children: dict[int, Id | None]


class TreeBuilder:
    """Makes the tree of a disk from its changed leaves, which come in ascending order."""

    def __init__(
        self, size: int, put: Callable[[bytes], Id], base: Tree | None, *, inherit: bool
    ) -> None:
        """Build for a disk of ``size`` bytes; ``put`` stores a node and gives its id.

        With ``inherit``, what is not fed is ``base``'s; without, it is zero.
        """
        self._put = put
        self._base = base if inherit else None
        self._height = height(size)
        self._open: list[_Level | None] = [None] * (self._height + 1)
        self._root: Id | None = None
        self._rooted = False

    def feed(self, number: int, leaf: Id | None) -> None:
        """Set one leaf."""
        self._feed(0, number, leaf)

    def feed_zeroes(self, first: int, end: int) -> None:
        """Make the leaves from ``first`` up to ``end`` zero."""
        self._zeroes(0, first, end)

    def finish(self) -> Id | None:
        """Give the root."""
        for level in range(1, self._height + 1):
            self._close(level)
        if not self._rooted and self._base is not None:
            return self._lifted(self._base, self._height)
        return self._root

    def _lifted(self, base: Tree, level: int) -> Id | None:
        """Give the leftmost node of a level; over the root of a base that was smaller, make it."""
        node = base.find(level, 0)
        if node is not None:
            for above in range(base.height + 1, level + 1):
                node = self._put(encode_inner(above, [node]))
        return node

    def _feed(self, level: int, number: int, node: Id | None) -> None:
        if level == self._height:
            self._root, self._rooted = node, True
            return
        parent, place = divmod(number, fmt.FAN_OUT)
        held = self._open[level + 1]
        if held is None or held.number != parent:
            self._close(level + 1)
            held = self._open[level + 1] = _Level(parent, {})
        held.children[place] = node

    def _zeroes(self, level: int, first: int, end: int) -> None:
        """Feed zeroes: singly at the edges, whole parents at once."""
        if level == self._height:
            if first < end:
                self._feed(level, 0, None)
            return
        while first < end and first % fmt.FAN_OUT:
            self._feed(level, first, None)
            first += 1
        whole = (end - first) // fmt.FAN_OUT
        if whole > 0:
            self._close_below(level)
            self._zeroes(level + 1, first // fmt.FAN_OUT, first // fmt.FAN_OUT + whole)
            first += whole * fmt.FAN_OUT
        while first < end:
            self._feed(level, first, None)
            first += 1

    def _close_below(self, level: int) -> None:
        """Hand up what is open beneath a run of whole parents: it is left of the run."""
        self._close(level + 1)

    def _close(self, level: int) -> None:
        held = self._open[level] if level <= self._height else None
        if held is None:
            return
        self._open[level] = None
        children = self._inherited(level, held)
        for place, node in held.children.items():
            children[place] = node
        made = None
        if any(child is not None for child in children):
            made = self._put(encode_inner(level, children))
        self._feed(level, held.number, made)

    def _inherited(self, level: int, held: _Level) -> Children:
        """Give the children that a node has where nothing was fed."""
        base = self._base
        if base is None:
            return [None] * fmt.FAN_OUT
        children = list(base.children(level, held.number))
        if held.number == 0 and 0 not in held.children:
            children[0] = self._lifted(base, level - 1)
        return children
