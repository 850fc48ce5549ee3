"""Reading a disk here and there: for clients that ask for ranges, in any order, from many threads.

:meth:`DedupDiskReader.chunks` reads a whole disk as fast as it goes.  This is for the
rest of the world: a server behind which somebody boots a machine, or looks for one file.  Leaves
and chunks that were used lately are kept, and what comes next is brought where
requests come in order.  Every block is held against its digest before it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.chunk_cache import ChunkCache, HeldChunk
from sendense.repository.dedup.leaf_making import Slots, runs
from sendense.repository.dedup.nodes import Slot, decode_inner, decode_leaf, height
from sendense.repository.dedup.read_ahead import Streams
from sendense.repository.dedup.recent import Recent
from sendense.repository.dedup.trees import Children, NodeSource
from sendense.repository.extents import Extent, check_range, joined
from sendense.units import GIB

_LEAVES = 512
"""About 10 KiB each in memory, for 4 MiB of a disk."""
_INNER = 256
_BROUGHT = 64
_LOOK = 16 * GIB
"""Bytes of a disk that are looked at in one go."""
_EMPTY: Slots = [None] * fmt.LEAF_BLOCKS

Tell = Callable[[Damaged, int, int], Damaged]
"""Gives an error with the offset and the number of blocks that it concerns."""


@dataclass(frozen=True)
class WholeDisk:
    """What is read."""

    root: bytes | None
    size: int
    tell: Tell


class RangeReader:
    """Any range of one disk; for many threads."""

    def __init__(self, disk: WholeDisk, nodes: NodeSource, chunks: ChunkCache) -> None:
        """Read ``disk``, whose tree is in ``nodes``."""
        self._disk = disk
        self._nodes = nodes
        self._chunks = chunks
        self._height = height(disk.size)
        self._leaves: Recent[int, Slots] = Recent(_LEAVES)
        self._inner: Recent[bytes, Children] = Recent(_INNER)
        self._streams = Streams()
        self._brought: Recent[int, bool] = Recent(_BROUGHT)

    # --- bytes ---

    def read_at(self, offset: int, length: int) -> bytes:
        """Give a range, checked."""
        end = offset + length
        check_range(offset, end, self._disk.size)
        self._read_ahead(offset, end)
        pieces: list[bytes | memoryview] = []
        for number in range(offset // fmt.LEAF_BYTES, -(-end // fmt.LEAF_BYTES)):
            base = number * fmt.LEAF_BYTES
            first = max(offset - base, 0)
            behind = min(end - base, fmt.LEAF_BYTES)
            pieces += self._of_leaf(number, first, behind)
        return b"".join(pieces)

    def _of_leaf(self, number: int, first: int, behind: int) -> Iterator[bytes | memoryview]:
        """Give a range of one leaf; the bytes are counted from its beginning."""
        slots = self._slots(number)
        places = range(first // fmt.BLOCK, -(-behind // fmt.BLOCK))
        held = self._held(number, slots, places)
        for place in places:
            low = max(first - place * fmt.BLOCK, 0)
            high = min(behind - place * fmt.BLOCK, fmt.BLOCK)
            slot = slots[place]
            if slot is None:
                yield bytes(high - low)
            else:
                yield self._block(number, place, slot, held)[low:high]

    def _held(self, number: int, slots: Slots, places: range) -> dict[bytes, HeldChunk]:
        wanted = {slot.chunk: None for slot in (slots[place] for place in places) if slot}
        try:
            return self._chunks.get(wanted)
        except Damaged as error:
            record = error.data.get("record")
            bad = [place for place in places if _chunk_of(slots[place]) == record]
            first, behind = next(runs(bad), (places.start, places.stop))
            raise self._told(error, number, first, behind - first) from error

    def _block(
        self, number: int, place: int, slot: Slot, held: dict[bytes, HeldChunk]
    ) -> memoryview:
        try:
            return held[slot.chunk].block(slot)
        except Damaged as error:
            raise self._told(error, number, place, 1) from error

    def _told(self, error: Damaged, number: int, place: int, blocks: int) -> Damaged:
        return self._disk.tell(error, number * fmt.LEAF_BYTES + place * fmt.BLOCK, blocks)

    # --- what comes next ---

    def _read_ahead(self, offset: int, end: int) -> None:
        ahead = self._streams.note(offset, end)
        if ahead is None:
            return
        start, stop = ahead[0], min(ahead[1], self._disk.size)
        for number in range(start // fmt.LEAF_BYTES, -(-stop // fmt.LEAF_BYTES)):
            if self._brought.get(number) is None:
                if not self._chunks.bring(partial(self._coming, number)):
                    return
                self._brought.put(number, True)

    def _coming(self, number: int) -> Sequence[bytes]:
        """Give the chunks of a leaf that will be wanted, with its neighbours brought near."""
        if self._leaves.get(number) is None and self._height:
            siblings = self._children_above(number)
            self._nodes.fetch([leaf for leaf in siblings if leaf is not None])
        return list(dict.fromkeys(slot.chunk for slot in self._slots_here(number) if slot))

    # --- the tree ---

    def _slots(self, number: int) -> Slots:
        """Give the slots of a leaf by its number, which is read on a thread that has buffers."""
        held = self._leaves.get(number)
        if held is None:
            held = self._chunks.on_thread(partial(self._slots_here, number))
        return held

    def _slots_here(self, number: int) -> Slots:
        held = self._leaves.get(number)
        if held is None:
            try:
                held = self._load(number)
            except Damaged as error:
                raise self._told(error, number, 0, fmt.LEAF_BLOCKS) from error
            self._leaves.put(number, held)
        return held

    def _load(self, number: int) -> Slots:
        if self._height == 0:
            leaf = self._disk.root
        else:
            leaf = self._children_above(number)[number % fmt.FAN_OUT]
        return _EMPTY if leaf is None else decode_leaf(self._nodes.node(leaf))

    def _children_above(self, number: int) -> Children:
        """Give the leaves that share a parent with a leaf."""
        node = self._disk.root
        for level in range(self._height, 0, -1):
            if node is None:
                break
            children = self._children(node, level)
            if level == 1:
                return children
            node = children[number // fmt.FAN_OUT ** (level - 1) % fmt.FAN_OUT]
        return [None] * fmt.FAN_OUT

    def _children(self, node: bytes, level: int) -> Children:
        held = self._inner.get(node)
        if held is None:
            found, held = decode_inner(self._nodes.node(node))
            if found != level:
                raise Damaged(f"node {node.hex()} is of level {found}, and not {level}")
            self._inner.put(node, held)
        return held

    # --- extents ---

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Tell what of a range is zero; what cannot be known counts as data."""
        check_range(start, end, self._disk.size)
        return joined(self._extents(start, end))

    def _extents(self, start: int, end: int) -> Iterator[Extent]:
        for low in range(start, end, _LOOK):
            yield from self._chunks.on_thread(partial(self._look, low, min(low + _LOOK, end)))

    def _look(self, start: int, end: int) -> list[Extent]:
        return list(joined(self._walk(self._height, 0, self._disk.root, start, end)))

    def _walk(
        self, level: int, number: int, node: bytes | None, start: int, end: int
    ) -> Iterator[Extent]:
        """Go over the part of a subtree that lies between ``start`` and ``end``."""
        span = fmt.LEAF_BYTES * fmt.FAN_OUT**level
        low, high = max(start, number * span), min(end, (number + 1) * span)
        if low >= high:
            return
        if node is None:
            yield Extent(low, high, zero=True)
            return
        try:
            if level == 0:
                yield from _of_slots(self._slots_here(number), number * span, low, high)
                return
            children = self._children(node, level)
        except Damaged:
            yield Extent(low, high, zero=False)
            return
        part = span // fmt.FAN_OUT
        places = range((low - number * span) // part, -(-(high - number * span) // part))
        self._bring_near(children, places)
        for place in places:
            child = number * fmt.FAN_OUT + place
            yield from self._walk(level - 1, child, children[place], low, high)

    def _bring_near(self, children: Children, places: range) -> None:
        """Read nodes in few requests; one that is damaged is met again, alone."""
        with suppress(Damaged):
            self._nodes.fetch([node for node in children[places.start : places.stop] if node])


def _of_slots(slots: Slots, base: int, low: int, high: int) -> Iterator[Extent]:
    for place in range((low - base) // fmt.BLOCK, -(-(high - base) // fmt.BLOCK)):
        start = base + place * fmt.BLOCK
        yield Extent(max(start, low), min(start + fmt.BLOCK, high), slots[place] is None)


def _chunk_of(slot: Slot | None) -> str | None:
    return None if slot is None else slot.chunk.hex()
