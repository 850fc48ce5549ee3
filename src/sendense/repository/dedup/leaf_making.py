"""From the blocks of 4 MiB of a disk to a leaf: what is known is referred to, the rest is stored.

This is where deduplication happens, in the four steps of ``docs/format.md``,
"Writing".  One job is one leaf.  Jobs do not know each other and run on any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.compressing import Compressor
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.identity import chunk_id, digest_blocks, node_id
from sendense.repository.dedup.nodes import Slot, decode_leaf, encode_leaf, hooks_of
from sendense.repository.dedup.pack_writing import PackWriter
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.trees import NodeSource

Slots = list[Slot | None]


@dataclass(frozen=True, eq=False)
class LeafJob:
    """What is named of one leaf."""

    number: int
    buffer: memoryview
    """4 MiB, of which the blocks in ``data`` are filled."""
    data: frozenset[int]
    """Blocks that have content."""
    zero: frozenset[int]
    """Blocks that are stated to be zero."""
    reference: bytes | None
    """The leaf of the latest point at the same place."""
    inherit: bool
    """What is not named is the reference's; otherwise zero."""


@dataclass(frozen=True)
class LeafResult:
    """What became of a job."""

    number: int
    leaf: bytes | None
    """Its id; none where all of it is zero."""
    new_bytes: int
    """Plain bytes that had to be stored."""
    stored_bytes: int
    """What they take, and the leaf."""


class LeafMaker:
    """Carries out jobs; one for all threads of a run."""

    def __init__(self, parts: Parts, packs: PackWriter, nodes: NodeSource) -> None:
        """Store with ``packs``, and read leaves to refer to from ``nodes``."""
        self._ring = parts.ring
        self._index = parts.index
        self._packs = packs
        self._nodes = nodes
        self._compressor = Compressor(parts.compression_level)

    def make(self, job: LeafJob) -> LeafResult:
        """Make one leaf."""
        reference = self._slots_of(job.reference, needed=job.inherit)
        digests = self._digests(job)
        if self._unchanged(job, digests, reference):
            return LeafResult(job.number, job.reference, new_bytes=0, stored_bytes=0)
        slots: Slots = list(reference) if job.inherit else [None] * fmt.LEAF_BLOCKS
        for place in job.zero:
            slots[place] = None
        for place, digest in digests.items():
            if digest is None:
                slots[place] = None
        present = {place: digest for place, digest in digests.items() if digest is not None}
        writing = _Writing(self, job, present, slots)
        writing.refer(reference)
        if job.reference is None and writing.unknown():
            writing.refer(self._similar(present))
        writing.store()
        leaf, taken = self.put_leaf(slots)
        return LeafResult(job.number, leaf, writing.new_bytes, writing.stored_bytes + taken)

    def _unchanged(
        self, job: LeafJob, digests: Mapping[int, bytes | None], reference: Slots
    ) -> bool:
        """Tell whether a job names what its reference has, and all of that is stored.

        Then there is nothing to make, and the index is asked once: of a full over unchanged data
        this is most of what remains beside hashing.
        """
        unnamed: Iterable[int] = job.zero if job.inherit else range(fmt.LEAF_BLOCKS)
        named = {**dict.fromkeys(unnamed), **digests}
        for place, digest in named.items():
            slot = reference[place]
            if digest != (None if slot is None else slot.digest):
                return False
        needed = {slot.chunk for slot in reference if slot is not None}
        if job.reference is None or not needed:  # a leaf has content, or it could not be read
            return False
        needed.add(job.reference)
        return self.known(list(needed)) == needed

    def put_leaf(self, slots: Slots) -> tuple[bytes | None, int]:
        """Store a leaf unless it is known; gives its id and the bytes it takes."""
        if not any(slots):
            return None, 0
        return self._put(encode_leaf(slots), hooks_of(slots))

    def put_inner(self, node: bytes) -> tuple[bytes, int]:
        """Store an inner node unless it is known; gives its id and the bytes it takes."""
        return self._put(node, ())

    def _put(self, node: bytes, hooks: tuple[int, ...]) -> tuple[bytes, int]:
        name = node_id(self._ring.node_key, node)
        if self._packs.known([name]):
            return name, 0
        taken = self._packs.add(
            PackKind.META, name, node, length=len(node), compressed=False, hooks=hooks
        )
        return name, taken

    def known(self, ids: Sequence[bytes]) -> set[bytes]:
        """Give those that are stored."""
        return self._packs.known(list(ids))

    def chunk_of(self, digests: Sequence[bytes]) -> bytes:
        """Give the id of a chunk of these blocks."""
        return chunk_id(self._ring.chunk_key, digests)

    def put_chunk(self, chunk: bytes, data: memoryview) -> int:
        """Store a chunk; gives the bytes it takes."""
        packed = self._compressor.compress(data)
        return self._packs.add(
            PackKind.DATA,
            chunk,
            data if packed is None else packed,
            length=len(data),
            compressed=packed is not None,
        )

    def _digests(self, job: LeafJob) -> dict[int, bytes | None]:
        view = job.buffer
        found: dict[int, bytes | None] = {}
        for first, end in runs(sorted(job.data)):
            piece = view[first * fmt.BLOCK : end * fmt.BLOCK]
            digests = digest_blocks(self._ring.block_key, piece)
            found.update(zip(range(first, end), digests, strict=True))
        return found

    def _slots_of(self, leaf: bytes | None, *, needed: bool) -> Slots:
        """Read a leaf; one that only serves to refer to may be damaged."""
        if leaf is None:
            return [None] * fmt.LEAF_BLOCKS
        try:
            return decode_leaf(self._nodes.node(leaf))
        except Damaged:
            if needed:
                raise
            return [None] * fmt.LEAF_BLOCKS

    def _similar(self, present: dict[int, bytes]) -> Slots:
        """Find a leaf of another disk that shares blocks with this one."""
        own = [Slot(digest, 0, digest) for digest in present.values()]
        return self._slots_of(self._index.similar_leaf(hooks_of(own)), needed=False)


class _Window(NamedTuple):
    """Blocks without a slot that make one chunk."""

    places: list[int]
    chunk: bytes
    stored: bool


class _Writing:
    """The blocks of one job, on their way into slots."""

    def __init__(
        self, maker: LeafMaker, job: LeafJob, present: dict[int, bytes], slots: Slots
    ) -> None:
        self._maker = maker
        self._view = job.buffer
        self._left = dict(present)
        """Blocks without a slot yet, in ascending order."""
        self._slots = slots
        self._looked_up: tuple[int, list[_Window]] | None = None
        """The windows, and how many blocks had no slot then: they only become fewer."""
        self.new_bytes = 0
        self.stored_bytes = 0

    def refer(self, leaf: Slots) -> None:
        """Take what a leaf knows, as far as its chunks are stored; heal those that are not."""
        by_digest = {slot.digest: slot for slot in leaf if slot is not None}
        wanted = {place: by_digest.get(digest) for place, digest in self._left.items()}
        candidates = {place: slot for place, slot in wanted.items() if slot is not None}
        if not candidates:
            return
        stored = self._maker.known(list({slot.chunk for slot in candidates.values()}))
        for place, slot in candidates.items():
            if slot.chunk in stored:
                self._slots[place] = slot
                del self._left[place]
        self._heal([slot for slot in by_digest.values() if slot.chunk not in stored])

    def unknown(self) -> bool:
        """Tell whether there are windows that no chunk is known for."""
        return not all(window.stored for window in self._windows())

    def store(self) -> None:
        """Make chunks of what is left."""
        for window in self._windows():
            if not window.stored:
                self._put(window.chunk, window.places)
            for number, place in enumerate(window.places):
                self._slots[place] = Slot(window.chunk, number, self._left[place])
        self._left.clear()

    def _windows(self) -> list[_Window]:
        """Give the blocks without a slot, window by window; the index is asked once for them."""
        if self._looked_up is not None and self._looked_up[0] == len(self._left):
            return self._looked_up[1]
        found = []
        for first in range(0, fmt.LEAF_BLOCKS, fmt.CHUNK_BLOCKS):
            window = range(first, first + fmt.CHUNK_BLOCKS)
            if places := [place for place in window if place in self._left]:
                found.append(
                    (places, self._maker.chunk_of([self._left[place] for place in places]))
                )
        stored = self._maker.known([chunk for _, chunk in found]) if found else set()
        windows = [_Window(places, chunk, chunk in stored) for places, chunk in found]
        self._looked_up = len(self._left), windows
        return windows

    def _heal(self, lost: list[Slot]) -> None:
        """Store chunks again that are missing or damaged, where all their blocks came by.

        The id of a chunk is made of its blocks' digests, so it tells whether they are complete.
        """
        places = {digest: place for place, digest in self._left.items()}
        for chunk in {slot.chunk for slot in lost}:
            blocks = {slot.block: slot.digest for slot in lost if slot.chunk == chunk}
            digests = [blocks[number] for number in sorted(blocks)]
            if not all(digest in places for digest in digests):
                continue
            if self._maker.chunk_of(digests) != chunk:
                continue
            self._put(chunk, [places[digest] for digest in digests])
            for number, digest in enumerate(digests):
                self._slots[places[digest]] = Slot(chunk, number, digest)
                self._left.pop(places[digest], None)

    def _put(self, chunk: bytes, places: list[int]) -> None:
        data = self._gather(places)
        self.new_bytes += len(data)
        self.stored_bytes += self._maker.put_chunk(chunk, data)

    def _gather(self, places: list[int]) -> memoryview:
        """Give the content of blocks in a row, without copying where they lie so."""
        pieces = [self._view[first * fmt.BLOCK : end * fmt.BLOCK] for first, end in runs(places)]
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))


def runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give the runs of successive numbers as (first, end)."""
    start: int | None = None
    for index, place in enumerate(places):
        if start is None:
            start = place
        if index + 1 == len(places) or places[index + 1] != place + 1:
            yield start, place + 1
            start = None
