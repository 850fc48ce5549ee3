"""Leaves read ahead on several threads, and given in order.

A leaf (4 MiB) is one job with a buffer of its own.  As many jobs are under way as serve the
store best, and a few that came in early may wait for one before them; the buffers bound the
memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import NamedTuple

from sendense.errors import Cancelled, Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.buffers import BufferPool
from sendense.repository.dedup.side_threads import side_threads
from sendense.storage import throttled

ReadLeaf = Callable[[bytes, memoryview, Collection[int]], list[int]]
"""Fills a buffer with the wanted blocks of a leaf; gives which of them are not zero."""
Locate = Callable[[Damaged, int], Damaged]
"""Says of an error in the leaf of that number where on the disk it is."""


class Wanted(NamedTuple):
    """Blocks of one leaf."""

    number: int
    leaf: bytes
    places: Collection[int]


class Zeroes(NamedTuple):
    """Leaves in a row of which nothing has to be read, by their numbers."""

    first: int
    end: int


class Filled(NamedTuple):
    """What was read of a leaf; ``view`` is valid until the next one is asked for."""

    item: Wanted
    places: list[int]
    view: memoryview


@dataclass(frozen=True)
class _Job:
    item: Wanted
    buffer: memoryview
    done: Future[list[int]]


class LeafAhead:
    """Reads the leaves of one disk, several at once."""

    def __init__(self, read: ReadLeaf, locate: Locate, *, threads: int, early: int = 0) -> None:
        """Read with ``read``; so many leaves may be there before their turn, beyond the threads."""
        self._read = read
        self._locate = locate
        self._threads = threads
        self._most = threads + early

    def run(self, items: Iterable[Wanted | Zeroes]) -> Iterator[Filled | Zeroes]:
        """Give what is wanted in its order; zeroes pass through."""
        buffers = BufferPool(fmt.LEAF_BYTES, self._most + 1)
        pending: deque[_Job | Zeroes] = deque()
        over = Event()
        with side_threads(self._threads, "read") as pool:
            try:
                for item in items:
                    pending.append(self._begin(item, pool, buffers, over))
                    while len(pending) > self._most:
                        yield from self._end(pending.popleft(), buffers)
                while pending:
                    yield from self._end(pending.popleft(), buffers)
            finally:
                over.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _begin(
        self, item: Wanted | Zeroes, pool: ThreadPoolExecutor, buffers: BufferPool, over: Event
    ) -> _Job | Zeroes:
        if isinstance(item, Zeroes):
            return item
        buffer = buffers.take()
        context = copy_context()
        context.run(throttled.GIVING_UP.set, partial(_raise_if, over))
        done = pool.submit(context.run, self._read, item.leaf, buffer, item.places)
        return _Job(item, buffer, done)

    def _end(self, job: _Job | Zeroes, buffers: BufferPool) -> Iterator[Filled | Zeroes]:
        """Hand out one leaf, and take its buffer back when the next is asked for."""
        if isinstance(job, Zeroes):
            yield job
            return
        try:
            places = job.done.result()
        except Damaged as error:
            raise self._locate(error, job.item.number) from error
        yield Filled(job.item, places, job.buffer)
        buffers.give(job.buffer)


def _raise_if(over: Event) -> None:
    if over.is_set():
        raise Cancelled("nobody wants this any more")
