"""Where two disks of one repository differ, told by their trees.

Equal content has equal nodes, and equal nodes have equal ids.  So both trees are walked down
together, and what has one id in both is passed over, however large it is: the cost is the nodes
above what differs.  Nothing is asked of the order of the two points, nor of the sizes of their
disks: a disk reads as zero behind its end.

What is damaged in the *other* tree does not stop the walk.  Nothing is known of it then, so all
that is in its place counts as different.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.leaf_ahead import Wanted, Zeroes
from sendense.repository.dedup.leaf_making import Slots
from sendense.repository.dedup.nodes import Slot, decode_leaf
from sendense.repository.dedup.trees import Children, Id, NodeSource, Tree


class _Other(Protocol):
    """The other tree, as far as it is looked at."""

    def find(self, level: int, number: int) -> Id | None:
        """Give a node."""

    def children(self, level: int, number: int) -> Children:
        """Give the children of an inner node."""


class _Unknown:
    """What of a tree cannot be read: it is like nothing."""

    id = b"unknown"

    def find(self, level: int, number: int) -> Id | None:
        return self.id

    def children(self, level: int, number: int) -> Children:
        return [self.id] * fmt.FAN_OUT


_UNKNOWN = _Unknown()


class Differences:
    """Compares a tree with another of the same repository."""

    def __init__(self, source: NodeSource, tree: Tree, other: Tree) -> None:
        """Read the nodes of both from ``source``."""
        self._source = source
        self._tree = tree
        self._other = other

    def __iter__(self) -> Iterator[Wanted | Zeroes]:
        """Give what of the first tree is not the second's: in order, up to its disk's end.

        Leaves that are zero as a whole are given as such, some of which may be so in both.
        """
        return self._walk(self._tree.height, 0, self._other)

    def _walk(self, level: int, number: int, other: _Other) -> Iterator[Wanted | Zeroes]:
        own, others = self._tree.find(level, number), self._find(level, number, other)
        if own == others:
            return
        if own is None:
            span = fmt.FAN_OUT**level
            first, end = number * span, min((number + 1) * span, self._tree.leaves)
            if first < end:  # Behind them there is only what the other has more.
                yield Zeroes(first, end)
        elif level == 0:
            yield from self._leaf(number, own, others)
        else:
            yield from self._inner(level, number, other)

    def _inner(self, level: int, number: int, other: _Other) -> Iterator[Wanted | Zeroes]:
        own = self._tree.children(level, number)
        try:
            others = other.children(level, number)
        except Damaged:
            other = _UNKNOWN
            others = other.children(level, number)
        places = [place for place in range(fmt.FAN_OUT) if own[place] != others[place]]
        self._bring([own[place] for place in places], [others[place] for place in places])
        for place in places:
            yield from self._walk(level - 1, number * fmt.FAN_OUT + place, other)

    def _bring(self, own: list[Id | None], others: list[Id | None]) -> None:
        """Bring near what is compared next."""
        self._source.fetch([node for node in own if node is not None])
        wanted = [
            second
            for first, second in zip(own, others, strict=True)
            if first is not None and second is not None and second != _UNKNOWN.id
        ]
        try:
            self._source.fetch(wanted)
        except Damaged:
            return  # Found again where it is looked at.

    def _find(self, level: int, number: int, other: _Other) -> Id | None:
        """Give the other's node; a path to it that cannot be read leads to what is like nothing."""
        try:
            return other.find(level, number)
        except Damaged:
            return _UNKNOWN.id

    def _leaf(self, number: int, own: Id, others: Id | None) -> Iterator[Wanted]:
        first, second = decode_leaf(self._source.node(own)), self._slots(others)
        blocks = -(-self._tree.size // fmt.BLOCK) - number * fmt.LEAF_BLOCKS
        places = [
            place
            for place in range(min(blocks, fmt.LEAF_BLOCKS))
            if second is None or _digest(first[place]) != _digest(second[place])
        ]
        if places:
            yield Wanted(number, own, places)

    def _slots(self, leaf: Id | None) -> Slots | None:
        """Give the slots of the other's leaf; none where they cannot be known."""
        if leaf is None:
            return [None] * fmt.LEAF_BLOCKS
        if leaf == _UNKNOWN.id:
            return None
        try:
            return decode_leaf(self._source.node(leaf))
        except Damaged:
            return None


def _digest(slot: Slot | None) -> bytes | None:
    return None if slot is None else slot.digest


def widened(item: Wanted, block_size: int) -> Wanted:
    """Give the blocks in whole units of ``block_size``, which may be more than one of ours."""
    step = block_size // fmt.BLOCK
    if step <= 1:
        return item
    units = {place // step for place in item.places}
    places = [place for unit in sorted(units) for place in range(unit * step, (unit + 1) * step)]
    return item._replace(places=places)
