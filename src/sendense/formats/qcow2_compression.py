"""Compressing clusters on a few threads, and giving them back in order.

Used by :mod:`sendense.formats.qcow2_writer`.  zstd releases the interpreter's
lock, so threads are enough.  What is in flight is bounded: a writer that is
slower than the source holds it back.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import zstandard

from sendense.model.stream import Buffer

Packed = list[tuple[bytes | None, bytes]]
"""For each cluster its compressed form, or none where that is not smaller; and its plain bytes."""
Result = tuple[int, Packed | int]
"""A guest cluster, and either clusters of data from there or a number of zero clusters."""

_BATCH_BYTES = 256 << 10
_MOST_THREADS = 4


class Compressor:
    """A queue of clusters: data and zeroes go in, results come out in the same order."""

    def __init__(self, cluster_size: int, level: int) -> None:
        """Start without threads; the pool makes them as they are needed."""
        self._cluster_size = cluster_size
        self._batch = max(cluster_size, _BATCH_BYTES)
        self._level = level
        threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        self._limit = 3 * threads
        self._local = threading.local()
        self._queue: deque[tuple[int, Future[Packed] | int]] = deque()

    def data(self, cluster: int, data: Buffer) -> Iterator[Result]:
        """Take clusters of data (copied), give what is ready."""
        view = memoryview(data)
        for start in range(0, len(view), self._batch):
            part = bytes(view[start : start + self._batch])
            self._queue.append(
                (cluster + start // self._cluster_size, self._pool.submit(self._compress, part))
            )
            yield from self._ready(self._limit)

    def zero(self, cluster: int, count: int) -> Iterator[Result]:
        """Take zero clusters, give what is ready."""
        self._queue.append((cluster, count))
        return self._ready(self._limit)

    def rest(self) -> Iterator[Result]:
        """Give all that is left."""
        return self._ready(0)

    def stop(self) -> None:
        """Give up what is queued and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ready(self, limit: int) -> Iterator[Result]:
        """Give results from the front while more than ``limit`` wait."""
        while len(self._queue) > limit:
            cluster, content = self._queue.popleft()
            yield cluster, content if isinstance(content, int) else content.result()

    def _compress(self, data: bytes) -> Packed:
        compressor = self._thread_compressor()
        size = self._cluster_size
        packed: Packed = []
        for start in range(0, len(data), size):
            plain = data[start : start + size]
            blob = compressor.compress(plain if len(plain) == size else plain.ljust(size, b"\0"))
            packed.append((blob if len(blob) < size else None, plain))
        return packed

    def _thread_compressor(self) -> zstandard.ZstdCompressor:
        """Give this thread's compressor: one must not be shared."""
        found: zstandard.ZstdCompressor | None = getattr(self._local, "compressor", None)
        if found is None:
            # No checksum: QEMU reads exactly one cluster out of the frame and would not reach it.
            found = zstandard.ZstdCompressor(level=self._level, write_checksum=False)
            self._local.compressor = found
        return found
