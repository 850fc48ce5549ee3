"""Marking: every record that a point refers to, found by walking over all trees.

A node that several points share is read once: who marks it first walks on from it.  Memory is
bounded by the tables of the local index, which lie in a file, and by the stack of the walk:
it goes down first, so what waits is the siblings along some paths.

Nothing may be removed on incomplete knowledge.  So the first point or node that cannot be read
ends it, save for points that the operator gave up: they are walked last, as far as they go.

**When is it complete?**  A writer that goes on while we look takes over subtrees of its base,
the point before, without looking whether they are on their way out.  That is safe as long as
its base is marked.  So the points are listed until a listing brings nothing new.  A
point that is not in the last listing was committed after it began; its base was there when
the listing before it began (or its base's base, and so on), and was not deleted before
the last one began.  So that listing gave it, and it was read.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from sendense import clock, steps
from sendense.errors import Busy, Damaged, NotAllowed, NotFound, SendenseError, Unsupported
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import points
from sendense.repository.dedup.nodes import decode_inner, decode_leaf, node_level
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.points import Named
from sendense.repository.dedup.record_reading import Records

log = logging.getLogger(__name__)

_BATCH = 512
"""Nodes that are read together: neighbours in a pack come by one request."""
_MOST_NAMED = 3
_UNREADABLE = (Damaged, NotAllowed, Unsupported)

Node = tuple[bytes, str]
"""The id of a node, and the point by which it was met."""


@dataclass(frozen=True)
class _Read:
    """What a batch of nodes refers to."""

    nodes: tuple[tuple[tuple[bytes, ...], str], ...]
    """Children of inner nodes, and the point."""
    chunks: tuple[bytes, ...]
    size: int
    """Bytes that were read."""


class Marker:
    """Marks what is live in the local index, where marking has begun."""

    def __init__(
        self,
        parts: Parts,
        *,
        ignore: frozenset[str],
        refresh: Callable[[], frozenset[bytes]],
        check: Callable[[], None],
        progress: ProgressListener,
    ) -> None:
        """Walk with ``parts``.

        ``ignore`` names points that need not be readable.  ``refresh`` brings the index up to
        date, and gives the records that are known to be damaged.  ``check`` is asked now and
        then, and may raise.
        """
        self._parts = parts
        self._ignore = ignore
        self._refresh = refresh
        self._check = check
        self._progress = progress
        self._records = Records(parts)
        self._threads = max(1, min(parts.store.traits.parallel, 8))
        self._listed: set[str] = set()
        self._done = self._total = 0
        self._gave_up: set[bytes | str] = set()
        """Points and nodes that cannot be read, records that are nowhere: of ignored points."""
        self._started = clock.monotonic()
        self.points = 0
        """How many points were looked at."""
        self.names: set[str] = set()
        """The ids of all points that were listed, readable or not."""

    def settle(self) -> None:
        """Mark all points that are there; those that come meanwhile included."""
        fresh = False
        while True:
            new = [named for named in self._list() if named.name not in self._listed]
            if not new and fresh:
                break
            # After the points: what they refer to was indexed before they were there.
            damaged, fresh = self._refresh(), True
            self._total = self._parts.index.totals().meta.stored_bytes
            self._mark(new, damaged)
            self._listed.update(named.name for named in new)
        self._total = self._done
        self._report()
        steps.reached("gc:marked")

    def _mark(self, new: Sequence[Named], damaged: frozenset[bytes]) -> None:
        """Mark points: first all that have to be readable, for what they share is read once."""
        firm = [named for named in new if named.id not in self._ignore]
        if firm and self._gave_up:
            raise Busy(
                f"point {firm[0].id} came while points were read that are given up",
                hint="run it again: it may share with them what cannot be read",
            )
        self._walk(firm, firm=True)
        strays = self._strays(damaged)
        if strays:
            raise _unindexed(strays)
        self._walk([named for named in new if named.id in self._ignore], firm=False)
        self._gave_up |= self._strays(damaged)

    def _strays(self, damaged: frozenset[bytes]) -> set[bytes]:
        """Give what points refer to and no index names.

        An index object may be lost while its packs are there: they would be taken for garbage.
        What is known to be damaged is another matter: its pack may be gone for good.
        """
        return {
            record
            for record in self._parts.index.strays()
            if record not in damaged and record not in self._gave_up
        }

    def _list(self) -> list[Named]:
        found = []
        for item in self._parts.store.list(fmt.POINTS):
            named = points.parse_name(item.name)
            if named is None:
                raise Damaged(
                    f"{item.name} is in the place of a point, and is none that is known",
                    hint="if a newer program wrote it, collect garbage with that; otherwise "
                    "remove it",
                    file=item.name,
                )
            self.names.add(named.id)
            found.append(named)
        return found

    # --- the walk ---

    def _walk(self, chosen: Sequence[Named], *, firm: bool) -> None:
        """Mark what points refer to.  Only ``firm`` ones have to be readable."""
        if not chosen:
            return
        with ThreadPoolExecutor(self._threads, thread_name_prefix="mark") as pool:
            try:
                self._walk_with(pool, chosen, firm=firm)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _walk_with(self, pool: ThreadPoolExecutor, chosen: Sequence[Named], *, firm: bool) -> None:
        roots = self._roots(pool, chosen, firm=firm)
        waiting: list[Node] = []
        under_way: deque[Future[_Read]] = deque()
        more = True
        while more or waiting or under_way:
            self._check()
            while more and len(waiting) < _BATCH:
                found = next(roots, None)
                if found is None:
                    more = False
                else:
                    self.points += 1
                    waiting += self._new(*found)
            if waiting and len(under_way) < self._threads:
                batch = waiting[-_BATCH:]
                del waiting[-_BATCH:]
                job = pool.submit(copy_context().run, self._read, batch, firm)
                under_way.append(job)
            elif under_way:
                waiting += self._take(under_way.popleft().result())

    def _take(self, read: _Read) -> Iterator[Node]:
        """Mark what nodes refer to; give the nodes among it that were not met before."""
        self._parts.index.mark(read.chunks)
        self._done += read.size
        self._report()
        for children, point in read.nodes:
            yield from self._new(point, children)

    def _new(self, point: str, nodes: Iterable[bytes]) -> Iterator[Node]:
        for node in self._parts.index.mark(nodes):
            yield node, point

    # --- points ---

    def _roots(
        self, pool: ThreadPoolExecutor, chosen: Sequence[Named], *, firm: bool
    ) -> Iterator[tuple[str, list[bytes]]]:
        """Read manifests, some ahead; give the id and the roots of each."""
        ahead: deque[Future[list[bytes]]] = deque()
        names = iter(chosen)
        ids: deque[str] = deque()
        while True:
            while len(ahead) <= self._threads:
                named = next(names, None)
                if named is None:
                    break
                ids.append(named.id)
                ahead.append(pool.submit(copy_context().run, self._roots_of, named, firm))
            if not ahead:
                return
            yield ids.popleft(), ahead.popleft().result()

    def _roots_of(self, named: Named, firm: bool) -> list[bytes]:
        try:
            stored = points.read(self._parts, named.name)
        except NotFound:
            return []  # deleted since it was listed
        except _UNREADABLE as error:
            self._give_up(named.id, error, firm=firm)
            return []
        return [root for _, root, _ in stored.trees() if root is not None]

    # --- nodes ---

    def _read(self, batch: Sequence[Node], firm: bool) -> _Read:
        try:
            return self._read_together(batch)
        except _UNREADABLE as error:
            if firm:
                self._give_up(_point_of(error, batch), error, firm=True)
        found = [self._read_alone(node) for node in batch]
        return _Read(
            tuple(item for read in found for item in read.nodes),
            tuple(item for read in found for item in read.chunks),
            sum(read.size for read in found),
        )

    def _read_alone(self, node: Node) -> _Read:
        try:
            return self._read_together([node])
        except _UNREADABLE as error:
            self._give_up(node[1], error, firm=False)
            return _Read((), (), 0)

    def _read_together(self, batch: Sequence[Node]) -> _Read:
        by_point = dict(batch)
        nodes: list[tuple[tuple[bytes, ...], str]] = []
        chunks: dict[bytes, None] = {}
        size = 0

        def take(node: bytes, plain: memoryview) -> None:
            nonlocal size
            data = bytes(plain)
            size += len(data)
            try:
                if node_level(data):
                    children = tuple(child for child in decode_inner(data)[1] if child is not None)
                    nodes.append((children, by_point[node]))
                else:
                    slots = decode_leaf(data)
                    chunks.update((slot.chunk, None) for slot in slots if slot is not None)
            except SendenseError as error:
                error.data.setdefault("record", node.hex())
                raise

        self._records.read(list(by_point), take)
        return _Read(tuple(nodes), tuple(chunks), size)

    def _give_up(self, point: str, error: SendenseError, *, firm: bool) -> None:
        if not firm:
            self._gave_up.add(point)
            log.warning("of point %s something is given up: %s", point, error)
            return
        raise Damaged(
            f"point {point} cannot be read to its end, so nothing is removed: {error.message}",
            hint="run 'sendense repo check --repair'; if that does not help, delete the point, or "
            f"collect garbage with '--ignore {point}', which keeps what can still be read of it",
            **{**error.data, "point": point},
        ) from error

    def _report(self) -> None:
        elapsed = clock.monotonic() - self._started
        total = max(self._total, self._done)
        self._progress(Progress("gc", "nodes", self._done, total, elapsed))


def _point_of(error: SendenseError, batch: Sequence[Node]) -> str:
    """Give the point whose node an error is about."""
    record = error.data.get("record")
    return next((point for node, point in batch if node.hex() == record), batch[0][1])


def _unindexed(strays: set[bytes]) -> Damaged:
    named = ", ".join(record.hex()[:16] for record in sorted(strays)[:_MOST_NAMED])
    return Damaged(
        f"points refer to {len(strays)} records that no index names ({named}), so nothing is "
        "removed",
        hint="run 'sendense repo check --repair': the index may be incomplete",
        records=len(strays),
    )
