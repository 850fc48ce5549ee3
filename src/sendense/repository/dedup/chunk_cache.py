"""Chunks in memory, for clients that come back: bounded, and each fetched once.

A client of a disk asks for 4 KiB here and 256 KiB there, often on many threads, and what it wants
lies in chunks of up to 1 MiB that can only be decrypted whole.  So what was fetched is kept for
a while, and two who want the same chunk at the same time wait for one fetch.

The work is done by threads of its own: they keep their buffers from one fetch to the next,
which those of the callers may not.  A server's threads are often none of Python's, and forget what
is theirs between two calls: with buffers that were new each time, a read took six times as long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Protocol, TypeVar

from sendense.errors import SendenseError, Unavailable
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.identity import digest_blocks
from sendense.repository.dedup.nodes import Slot
from sendense.repository.dedup.recent import Recent
from sendense.repository.dedup.record_reading import Take, missing
from sendense.units import MIB

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

MOST_BYTES = 64 * MIB


class RecordSource(Protocol):
    """Reads chunks by id: :class:`~sendense.repository.dedup.record_reading.Records`."""

    def read(self, ids: Sequence[bytes], take: Take) -> None:
        """Give each record to ``take``, whose bytes are valid during the call."""


class HeldChunk:
    """A chunk in memory.  A block of it is given only when its digest is right."""

    __slots__ = ("_digests", "_id", "_key", "data")

    def __init__(self, chunk: bytes, data: bytes, key: bytes) -> None:
        """Hold ``data``, which was authenticated; ``key`` is for the digests of its blocks."""
        self._id = chunk
        self._key = key
        self.data = data
        self._digests: dict[int, bytes | None] = {}

    def block(self, slot: Slot) -> memoryview:
        """Give a block, or raise :class:`~sendense.errors.Damaged`."""
        start = slot.block * fmt.BLOCK
        block = memoryview(self.data)[start : start + fmt.BLOCK]
        if slot.block not in self._digests:
            # Two threads may do it twice.
            self._digests[slot.block] = digest_blocks(self._key, block)[0] if block else None
        if self._digests[slot.block] != slot.digest:
            raise missing(self._id, "a block is not what its digest says")
        return block


_Coming = dict[bytes, "Future[HeldChunk]"]


class ChunkCache:
    """The chunks of a point's disks; for many threads."""

    def __init__(self, records: RecordSource, block_key: bytes, *, threads: int) -> None:
        """Fetch with ``threads`` threads, which are started when they are first needed."""
        self._records = records
        self._key = block_key
        self._held: Recent[bytes, HeldChunk] = Recent(MOST_BYTES, lambda held: len(held.data))
        self._coming: _Coming = {}
        self._lock = threading.Lock()
        self._threads = threads
        self._ahead = 0
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def get(self, ids: Iterable[bytes]) -> dict[bytes, HeldChunk]:
        """Give chunks, fetched in few requests where they are not here.

        Raises :class:`~sendense.errors.Damaged` for the first that cannot be read.
        """
        given: dict[bytes, HeldChunk] = {}
        wanted: list[bytes] = []
        for chunk in ids:
            held = self._held.get(chunk)
            if held is None:
                wanted.append(chunk)
            else:
                given[chunk] = held
        if wanted:
            mine, coming = self._claim(wanted)
            if mine:
                self._begin(mine)
            for chunk, future in coming.items():
                given[chunk] = future.result()
        return given

    def bring(self, find: Callable[[], Sequence[bytes]]) -> bool:
        """Fetch what ``find`` gives while the caller goes on; tells whether that was begun.

        It is not where enough is being brought already.  What fails is told to whoever asks
        for it.
        """
        with self._lock:
            if self._ahead >= max(1, self._threads - 1):
                return False
            self._ahead += 1
        self._submit(partial(self._bring, find))
        return True

    def on_thread(self, work: Callable[[], T]) -> T:
        """Do something on a thread of ours, and wait for it; not to be called by one of them."""
        done = self._submit(work)
        if done is None:
            raise _closed()
        try:
            return done.result()
        except CancelledError:
            raise _closed() from None

    def close(self) -> None:
        """End the threads; who waits for a chunk is told."""
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
            left = list(self._coming.values())
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        for future in left:
            if not future.done():
                future.set_exception(_closed())

    # --- inside ---

    def _claim(self, ids: Sequence[bytes]) -> tuple[_Coming, _Coming]:
        """Give the chunks that nobody fetches yet, and all, as they will come."""
        mine: _Coming = {}
        coming: _Coming = {}
        with self._lock:
            for chunk in ids:
                future = self._coming.get(chunk)
                if future is None:
                    future = Future()
                    held = self._held.get(chunk)
                    if held is None:
                        mine[chunk] = self._coming[chunk] = future
                    else:
                        future.set_result(held)
                coming[chunk] = future
        return mine, coming

    def _begin(self, mine: _Coming) -> None:
        """Let a thread fetch what was claimed; whatever goes wrong is told to all who wait."""
        try:
            begun = self._submit(partial(self._fetch, mine))
        except BaseException as error:
            self._fail(mine, error)
            raise
        if begun is None:
            self._fail(mine, _closed())

    def _submit(self, work: Callable[[], T]) -> Future[T] | None:
        """Let a thread do something; none where it is too late."""
        with self._lock:
            if self._closed:
                return None
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="fetch")
            return self._pool.submit(copy_context().run, work)

    def _bring(self, find: Callable[[], Sequence[bytes]]) -> None:
        try:
            mine, _ = self._claim([item for item in find() if self._held.get(item) is None])
            if mine:
                self._fetch(mine)
        except SendenseError as error:
            _LOG.debug("what comes next could not be read ahead: %s", error)
        finally:
            with self._lock:
                self._ahead -= 1

    def _fetch(self, mine: _Coming) -> None:
        """Read what was claimed; one chunk that is bad does not keep the others away."""
        left = dict(mine)

        def take(chunk: bytes, plain: memoryview) -> None:
            held = HeldChunk(chunk, bytes(plain), self._key)
            future = left.pop(chunk, None)
            if future is not None:
                self._keep(chunk, future, held)

        try:
            self._records.read(list(left), take)
            _refuse_left(left)
        except SendenseError as error:
            if len(left) < 2:
                self._fail(left, error)
                return
            for chunk, future in list(left.items()):
                self._fetch({chunk: future})
        except BaseException as error:
            self._fail(left, error)
            raise

    def _keep(self, chunk: bytes, future: Future[HeldChunk], held: HeldChunk) -> None:
        self._held.put(chunk, held)
        with self._lock:
            self._coming.pop(chunk, None)
        future.set_result(held)

    def _fail(self, mine: _Coming, error: BaseException) -> None:
        with self._lock:
            for chunk in mine:
                self._coming.pop(chunk, None)
        for future in mine.values():
            if not future.done():
                future.set_exception(error)


def _refuse_left(left: _Coming) -> None:
    """Make sure that nobody waits for ever."""
    for chunk in left:
        raise missing(chunk, "it was not read")


def _closed() -> Unavailable:
    return Unavailable("the point was closed while it was read")
