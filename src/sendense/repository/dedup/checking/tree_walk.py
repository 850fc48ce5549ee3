"""Walking over all trees, each shared node once, to find what is missing and whom it touches.

The walk goes down level by level and comes back up with causes: those of a node are its
own and its children's.  So a point is touched by the causes of its roots, and what several
points share is looked at once.  Inner nodes are read by the thread that walks; leaves by
several, as most nodes are leaves.

A node is held against its id too: that it is authentic says who wrote it, and not that it
is the one which is meant.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from sendense.errors import Damaged, NotFound, Unavailable, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.blame import Blame, Cause, Judged
from sendense.repository.dedup.checking.findings import What
from sendense.repository.dedup.checking.walk_ledger import NOTHING, Causes, Ledger
from sendense.repository.dedup.identity import chunk_id, node_id
from sendense.repository.dedup.nodes import Slot, decode_inner, decode_leaf, height
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.record_reading import Records
from sendense.repository.dedup.unnamed_packs import pack_name

_BATCH = 64
"""Nodes that are read together; so many inner nodes have up to 4096 children."""
_THREADS = 8
_UNTRUE = "a node says what no writer writes"
_OUTAGES = 3
"""Packs that the store fails to give, after which it is the store that fails."""


@dataclass(frozen=True)
class _Leaves:
    """What came of a batch of leaves."""

    rows: tuple[tuple[bytes, Causes], ...]
    size: int
    packs: frozenset[str]


class TreeWalk:
    """One walk over the trees of many points."""

    def __init__(
        self,
        parts: Parts,
        blame: Blame,
        *,
        check: Callable[[], None] = lambda: None,
        progress: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Read with ``parts``, whose index is settled.

        ``check`` is asked now and then, and may raise; ``progress`` is told the bytes of
        nodes that were read.
        """
        self._ring = parts.ring
        self._blame = blame
        self._check = check
        self._progress = progress
        self._records = Records(parts)
        self._ledger = Ledger()
        threads = max(1, min(parts.store.traits.parallel, _THREADS))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="walk")
        self._lock = threading.Lock()
        self._outages = 0
        self.packs: set[str] = set()
        """The packs that anything was found in."""

    def __enter__(self) -> TreeWalk:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ledger.close()

    @property
    def nodes(self) -> int:
        """How many nodes were looked at."""
        return self._ledger.count

    def trees(self, trees: Iterable[tuple[bytes | None, int]]) -> Causes:
        """Give the causes that touch trees, each given by its root and the size of its disk."""
        found = NOTHING
        for root, size in trees:
            if root is not None:
                level = height(size)
                self._visit(level, [root])
                found |= self._of(level, [root])
        return found

    # --- down, and up again ---

    def _visit(self, level: int, nodes: Sequence[bytes]) -> None:
        """See to it that the ledger has all of these."""
        known = self._ledger.known(nodes)
        new = [node for node in dict.fromkeys(nodes) if node not in known]
        if level == 0:
            self._visit_leaves(new)
            return
        for batch in _batches(new):
            self._check()
            self._visit_inner(level, batch)

    def _visit_inner(self, level: int, batch: Sequence[bytes]) -> None:
        own, children = self._read_inner(level, batch)
        if level == 1:
            self._visit(0, [child for found in children.values() for child in found])
        else:
            for found in children.values():
                self._visit(level - 1, found)
        self._ledger.enter(
            level,
            [(node, own[node] | self._of(level - 1, children.get(node, ()))) for node in batch],
        )

    def _of(self, level: int, nodes: Sequence[bytes]) -> Causes:
        """Give the causes of nodes that are in the ledger."""
        found = NOTHING
        known = self._ledger.known(nodes)
        for node in nodes:
            seen, causes = known[node]
            found |= causes
            if seen != level:
                found |= {self._bad(node, self._judge([node])[node], _UNTRUE)}
        return found

    # --- inner nodes ---

    def _read_inner(
        self, level: int, batch: Sequence[bytes]
    ) -> tuple[dict[bytes, Causes], dict[bytes, list[bytes]]]:
        """Read inner nodes; gives their own causes, and the children of those that are right."""
        own, data, judged = self._read(batch)
        children: dict[bytes, list[bytes]] = {}
        for node, content in data.items():
            try:
                found, ids = decode_inner(content)
            except (Damaged, Unsupported):
                found, ids = -1, []
            if found == level:
                children[node] = [child for child in ids if child is not None]
            else:
                own[node] |= {self._bad(node, judged[node], _UNTRUE)}
        self._progress(sum(map(len, data.values())))
        return own, children

    def _read(
        self, batch: Sequence[bytes]
    ) -> tuple[dict[bytes, Causes], dict[bytes, bytes], dict[bytes, Judged]]:
        """Read nodes; gives the causes of each, the bytes of those to be had, and their places."""
        judged = self._judge(batch)
        own = {node: _set(judged[node].cause) for node in batch}
        wanted = [node for node in batch if _to_be_had(judged[node])]
        data: dict[bytes, bytes] = {}

        def take(record: bytes, plain: memoryview) -> None:
            data[record] = bytes(plain)

        try:
            self._records.read(wanted, take)
        except (Damaged, NotFound, Unavailable):
            data.clear()
            for node in wanted:
                cause = self._read_alone(node, take, judged[node])
                if cause is not None:
                    own[node] |= {cause}
        for node in [node for node in data if node_id(self._ring.node_key, data[node]) != node]:
            own[node] |= {self._bad(node, judged[node], "a node is not what its id says")}
            del data[node]
        return own, data, judged

    def _read_alone(
        self, node: bytes, take: Callable[[bytes, memoryview], None], judged: Judged
    ) -> Cause | None:
        held = self._blame.whole(judged.pack or "")
        if held is not None and not held.readable:
            return held  # found out since it was judged
        try:
            self._records.read([node], take)
        except (Damaged, NotFound) as error:
            return self._bad(node, judged, error.message)
        except Unavailable as error:
            return self._unavailable(judged, error)
        return None

    def _bad(self, node: bytes, judged: Judged, why: str) -> Cause:
        pack = judged.pack or ""
        return self._blame.bad(pack, pack_name(pack), [node], why)

    def _unavailable(self, judged: Judged, error: Unavailable) -> Cause:
        """Pass over a pack that the store does not give, unless it gives none at all."""
        pack = judged.pack or ""
        with self._lock:
            self._outages += 1
            if self._outages > _OUTAGES:
                raise error
        name = pack_name(pack)
        cause = Cause(What.PACK_UNREADABLE, name, f"{name} cannot be read: {error.message}")
        return self._blame.pack(pack, cause)

    # --- leaves ---

    def _visit_leaves(self, leaves: Sequence[bytes]) -> None:
        jobs = [
            self._pool.submit(copy_context().run, self._look_at, batch)
            for batch in _batches(leaves)
        ]
        try:
            for job in jobs:
                self._check()
                done = job.result()
                self._ledger.enter(0, done.rows)
                self.packs |= done.packs
                self._progress(done.size)
        finally:
            for job in jobs:
                job.cancel()

    def _look_at(self, leaves: Sequence[bytes]) -> _Leaves:
        """Read leaves, and judge the chunks that they name; on any thread."""
        own, data, nodes = self._read(leaves)
        slots: dict[bytes, list[Slot]] = {}
        for leaf, content in data.items():
            try:
                slots[leaf] = [slot for slot in decode_leaf(content) if slot is not None]
            except (Damaged, Unsupported):
                own[leaf] |= {self._bad(leaf, nodes[leaf], _UNTRUE)}
        chunks = dict.fromkeys(slot.chunk for found in slots.values() for slot in found)
        judged = self._blame.judge(list(chunks))
        for leaf, found in slots.items():
            causes = (judged[chunk].cause for chunk in {slot.chunk for slot in found})
            own[leaf] |= {cause for cause in causes if cause is not None}
            if not self._fits(found, judged):
                own[leaf] |= {self._bad(leaf, nodes[leaf], _UNTRUE)}
        packs = frozenset(item.pack for item in judged.values() if item.pack is not None)
        return _Leaves(tuple(own.items()), sum(map(len, data.values())), packs)

    def _fits(self, slots: Iterable[Slot], judged: dict[bytes, Judged]) -> bool:
        """Hold what a leaf says of its chunks against their lengths and, where it can be, ids."""
        blocks: dict[bytes, dict[int, bytes]] = {}
        for slot in slots:
            blocks.setdefault(slot.chunk, {})[slot.block] = slot.digest
        for chunk, digests in blocks.items():
            entry = judged[chunk].entry
            if entry is None:
                continue
            count = entry.length // fmt.BLOCK
            if max(digests) >= count:
                return False
            whole = len(digests) == count
            if (
                whole
                and chunk_id(self._ring.chunk_key, [digests[n] for n in range(count)]) != chunk
            ):
                return False
        return True

    def _judge(self, nodes: Sequence[bytes]) -> dict[bytes, Judged]:
        judged = self._blame.judge(nodes)
        with self._lock:
            self.packs.update(item.pack for item in judged.values() if item.pack is not None)
        return judged


def _to_be_had(judged: Judged) -> bool:
    """Tell whether it is worth while to read a node."""
    return judged.entry is not None and (judged.cause is None or judged.cause.readable)


def _set(cause: Cause | None) -> Causes:
    return NOTHING if cause is None else frozenset((cause,))


def _batches(nodes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(nodes), _BATCH):
        yield nodes[start : start + _BATCH]
