"""Writing one disk of a point: chunks of the stream in, a tree out.

What comes in lies in buffers of one leaf (4 MiB): whoever reads a whole disk fills them
himself, and what others write is copied.  A full buffer becomes a job for the threads of
the run (hash, look up, compress, encrypt); the results come back in order and feed the
tree.  The number of buffers bounds what is under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context

from sendense.errors import Damaged
from sendense.model.decision import Method
from sendense.model.point import DiskImage
from sendense.model.stream import Buffer
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.buffers import BufferPool
from sendense.repository.dedup.leaf_making import LeafJob, LeafMaker, LeafResult
from sendense.repository.dedup.side_threads import side_threads
from sendense.repository.dedup.trees import NodeSource, Tree, TreeBuilder
from sendense.repository.protocol import DiskSpec
from sendense.units import round_up


class Works:
    """What the disks of one point share while they are written."""

    def __init__(
        self, maker: LeafMaker, nodes: NodeSource, *, threads: int, check: Callable[[], None]
    ) -> None:
        """Work on so many threads; ``check`` is asked while waiting and may raise."""
        self.maker = maker
        self.nodes = nodes
        self.check = check
        # A thread each, one that is written, one that is read ahead, one that waits.
        self.buffers = BufferPool(fmt.LEAF_BYTES, threads + 3)
        self._pool = side_threads(threads, "dedup")

    def serve(self, disks: int) -> None:
        """Have enough buffers for so many disks at once.

        Whoever waits for a buffer holds none.  All others may hold two that are never filled, as
        those do whose disk has failed; one more comes back from the threads.
        """
        self.buffers.widen(2 * disks)

    def submit(self, job: LeafJob) -> Future[LeafResult]:
        """Have a leaf made; its buffer comes back by itself."""
        return self._pool.submit(copy_context().run, self._make, job)

    def _make(self, job: LeafJob) -> LeafResult:
        try:
            return self.maker.make(job)
        finally:
            self.buffers.give(job.buffer)

    def close(self) -> None:
        """Wait for the threads, and let go of the memory."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.buffers.close()


class _Leaf:
    """The leaf that is being filled."""

    def __init__(self, number: int, buffer: memoryview) -> None:
        self.number = number
        self.buffer = buffer
        self.data: set[int] = set()
        self.zero: set[int] = set()


class DedupDiskWriter:
    """Takes the chunks of one disk; the repository's DiskWriter."""

    def __init__(self, spec: DiskSpec, works: Works, reference: Tree | None) -> None:
        """Write a disk, referring to the tree of its latest image."""
        self.spec = spec
        self.block_size = fmt.BLOCK
        self.image: DiskImage | None = None
        self.root: bytes | None = None
        self.discarded = False
        self._works = works
        self._reference = reference
        self._inherit = spec.decision.method is Method.BITMAP
        self._inner = _InnerNodes(works.maker)
        self._builder = TreeBuilder(spec.size, self._inner.put, reference, inherit=self._inherit)
        self._leaf: _Leaf | None = None
        self._ahead: _Leaf | None = None
        """A leaf behind it, of which there is room that was given already."""
        self._rooms: deque[memoryview] = deque()
        """Given, and not written yet."""
        self._pending: deque[Future[LeafResult]] = deque()
        self._position = 0
        self._near = -1
        self._data_bytes = 0
        self._zero_bytes = 0
        self._stored_bytes = 0

    # --- RoomySink ---

    def room(self, offset: int, length: int) -> memoryview | None:
        """Give the place of data that comes next; a disk holds two buffers at most."""
        if self._inherit:
            raise ValueError("there is only room for a disk of which everything comes by")
        number, start = divmod(offset, fmt.LEAF_BYTES)
        leaf = self._leaf_with_room(number)
        if leaf is None:
            return None
        view = leaf.buffer[start : min(start + length, fmt.LEAF_BYTES)]
        self._rooms.append(view)
        return view

    def _leaf_with_room(self, number: int) -> _Leaf | None:
        for leaf in (self._leaf, self._ahead):
            if leaf is not None and leaf.number == number:
                return leaf
        if not self._rooms:
            return self._leaf_at(number)
        if self._ahead is None:
            # Not waiting: more than one buffer is held only while nobody lacks one.
            buffer = self._works.buffers.take_spare()
            self._ahead = None if buffer is None else _Leaf(number, buffer)
            return self._ahead
        return None

    def write(self, offset: int, data: Buffer) -> None:
        """Put ``data`` at ``offset``."""
        self._advance(offset, len(data))
        if self._rooms:
            self._keep(offset, data)
            return
        view = memoryview(data)
        position = offset
        end = offset + len(view)
        while position < end:
            leaf = self._leaf_at(position // fmt.LEAF_BYTES)
            start = position % fmt.LEAF_BYTES
            length = min(fmt.LEAF_BYTES - start, end - position)
            leaf.buffer[start : start + length] = view[position - offset :][:length]
            self._filled(leaf, start, start + length)
            position += length

    def _keep(self, offset: int, data: Buffer) -> None:
        """Take note of data that lies in its place already."""
        if data is not self._rooms[0]:
            raise ValueError(f"there is room for something else than what comes at {offset}")
        number, start = divmod(offset, fmt.LEAF_BYTES)
        if self._ahead is not None and self._ahead.number == number:
            self._end_leaf()
            self._collect()
            self._leaf, self._ahead = self._ahead, None
        leaf = self._leaf
        if leaf is None or leaf.number != number:
            raise ValueError(f"the room that was given is not for {offset}")
        self._rooms.popleft()
        self._filled(leaf, start, start + len(data))

    def _filled(self, leaf: _Leaf, start: int, end: int) -> None:
        """Take note of data in a leaf; behind its last byte nothing can follow."""
        self._pad(leaf, end)
        leaf.data.update(range(start // fmt.BLOCK, -(-end // fmt.BLOCK)))
        if end == fmt.LEAF_BYTES:
            self._end_leaf()

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zero."""
        self._advance(offset, length)
        if self._inherit:
            self._zero_bytes += length
        end = offset + length
        if end == self.spec.size:
            end = round_up(end, fmt.LEAF_BYTES)
        first_whole = -(-offset // fmt.LEAF_BYTES)
        end_whole = end // fmt.LEAF_BYTES
        if first_whole >= end_whole:
            self._zero_blocks(offset, end)
            return
        self._zero_blocks(offset, first_whole * fmt.LEAF_BYTES)
        if self._inherit:
            self._end_leaf()
            self._collect(everything=True)
            self._builder.feed_zeroes(first_whole, end_whole)
        self._zero_blocks(end_whole * fmt.LEAF_BYTES, end)

    def finish(self, *, read_bytes: int, sampled_blocks: int, seconds: float) -> DiskImage:
        """Store what is under way, and describe the disk."""
        if self._rooms:
            raise ValueError(f"{self.spec.disk.target} lacks what there was room for")
        self._end_leaf()
        self._collect(everything=True)
        self.root = self._builder.finish()
        decision = self.spec.decision
        self.image = DiskImage(
            disk=self.spec.disk,
            size=self.spec.size,
            chain=self.spec.chain,
            decision=decision,
            parent=decision.base,
            block_size=fmt.BLOCK,
            read_bytes=read_bytes,
            data_bytes=self._data_bytes,
            zero_bytes=self._zero_bytes,
            stored_bytes=self._stored_bytes + self._inner.stored_bytes,
            digest=self.root.hex() if self.root is not None else "",
            sampled_blocks=sampled_blocks,
            seconds=seconds,
        )
        return self.image

    def discard(self) -> None:
        """Forget the disk; what it stored already is garbage, or found again.

        Other disks may refer already to what its jobs are about to store, so these are waited for.
        """
        self.discarded = True
        self._drop_leaves()
        wait(self._pending)
        self._pending.clear()

    # --- inside ---

    def _advance(self, offset: int, length: int) -> None:
        end = offset + length
        size = self.spec.size
        if not self._position <= offset <= end <= size:
            raise ValueError(
                f"{offset}+{length} goes back, or beyond the end of {self.spec.disk.target}"
            )
        if offset % fmt.BLOCK or (end % fmt.BLOCK and end != size):
            raise ValueError(f"{offset}+{length} is not made of whole blocks")
        self._position = end

    def _pad(self, leaf: _Leaf, end: int) -> None:
        """Fill the last block of the disk up with zeroes."""
        missing = -end % fmt.BLOCK
        if missing:
            leaf.buffer[end : end + missing] = bytes(missing)

    def _zero_blocks(self, offset: int, end: int) -> None:
        """Mark the blocks of a range that holds no whole leaf."""
        if not self._inherit:
            return
        position = offset
        while position < end:
            leaf = self._leaf_at(position // fmt.LEAF_BYTES)
            stop = min(end, (leaf.number + 1) * fmt.LEAF_BYTES)
            first = position % fmt.LEAF_BYTES // fmt.BLOCK
            leaf.zero.update(range(first, first + -(-(stop - position) // fmt.BLOCK)))
            position = stop

    def _leaf_at(self, number: int) -> _Leaf:
        if self._leaf is None or self._leaf.number != number:
            self._end_leaf()
            self._collect()
            self._leaf = _Leaf(number, self._works.buffers.take(self._works.check))
        return self._leaf

    def _end_leaf(self) -> None:
        leaf, self._leaf = self._leaf, None
        if leaf is None:
            return
        job = LeafJob(
            leaf.number,
            leaf.buffer,
            frozenset(leaf.data),
            frozenset(leaf.zero),
            self._reference_leaf(leaf.number),
            self._inherit,
        )
        self._pending.append(self._works.submit(job))

    def _reference_leaf(self, number: int) -> bytes | None:
        if self._reference is None:
            return None
        try:
            if not self._inherit and number // fmt.FAN_OUT != self._near:
                # All of the disk comes by: so will all of these.
                self._near = number // fmt.FAN_OUT
                self._reference.near(number)
            return self._reference.find(0, number)
        except Damaged:
            if self._inherit:
                raise
            return None

    def _collect(self, *, everything: bool = False) -> None:
        """Feed the tree with what is done."""
        while self._pending and (everything or self._pending[0].done()):
            self._collect_one()

    def _collect_one(self) -> None:
        result = self._pending.popleft().result()
        self._data_bytes += result.new_bytes
        self._stored_bytes += result.stored_bytes
        self._builder.feed(result.number, result.leaf)

    def _drop_leaves(self) -> None:
        """Give back what is held, save for what whoever failed to fill it may still write to."""
        for leaf in (self._leaf, self._ahead):
            if leaf is not None and self._rooms:
                self._works.buffers.replace()
            elif leaf is not None:
                self._works.buffers.give(leaf.buffer)
        self._leaf = self._ahead = None
        self._rooms.clear()


class _InnerNodes:
    """Stores the inner nodes of one disk, and counts what they take.

    Apart from the disk: a builder that held the disk would keep it, and the buffers of the whole
    run, until Python looks for cycles, which in a worker may be many runs later.
    """

    def __init__(self, maker: LeafMaker) -> None:
        self._maker = maker
        self.stored_bytes = 0

    def put(self, node: bytes) -> bytes:
        """Store a node; gives its id."""
        name, taken = self._maker.put_inner(node)
        self.stored_bytes += taken
        return name
