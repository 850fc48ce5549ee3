"""Reading many packs through, several at once, with bounded memory.

Each thread reads one pack at a time into buffers of its own.  What was proven is handed over in the
thread that waits, in the order in which it is done.  A pack that the store fails to give
is told of, and the next one is read; when several fail in a row, it is the store that fails.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context

from sendense import clock
from sendense.errors import NotFound, Unavailable
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.dedup.checking.findings import What
from sendense.repository.dedup.checking.pack_proof import PackProof, PackTask, Room, prove
from sendense.repository.dedup.parts import Parts

_MOST_THREADS = 8
_LOCAL_THREADS = 4
_OUTAGES = 3
"""Packs in a row that the store fails to give."""


class _Stopped(Exception):
    """Somebody waits no longer."""


class PackReading:
    """A row of packs being read through."""

    def __init__(
        self, parts: Parts, *, check: Callable[[], None], progress: ProgressListener, total: int
    ) -> None:
        """Read with ``parts``; ``check`` is asked now and then, and may raise.

        ``total`` is what is to be read, in bytes, for ``progress``.
        """
        self._parts = parts
        self._check = check
        self._progress = progress
        self._total = total
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._local = threading.local()
        self._began = clock.monotonic()
        self._outages = 0
        self.done = 0
        """Bytes that were read."""

    def run(self, tasks: Iterable[PackTask]) -> Iterator[PackProof]:
        """Read packs; gives what was proven of each, as it comes."""
        threads = _threads(self._parts)
        rest = iter(tasks)
        pending: set[Future[PackProof]] = set()
        with ThreadPoolExecutor(threads, thread_name_prefix="check") as pool:
            try:
                while True:
                    for task in rest:
                        pending.add(pool.submit(copy_context().run, self._prove, task))
                        if len(pending) > threads:
                            break
                    if not pending:
                        return
                    yield from self._finished(pending)
            finally:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _finished(self, pending: set[Future[PackProof]]) -> Iterator[PackProof]:
        """Give those that are done; wait a second for one."""
        self._check()
        done, _ = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
        pending -= done
        for job in done:
            proof = job.result()
            self._count_outages(proof)
            yield proof

    def _count_outages(self, proof: PackProof) -> None:
        self._outages = self._outages + 1 if isinstance(proof.failure, Unavailable) else 0
        if self._outages >= _OUTAGES and proof.failure is not None:
            raise proof.failure

    # --- in the threads ---

    def _prove(self, task: PackTask) -> PackProof:
        room = getattr(self._local, "room", None)
        if room is None:
            room = self._local.room = Room()
        try:
            return prove(self._parts, task, room, check=self._go_on, progress=self._read)
        except NotFound:
            proof = PackProof(task)
            proof.wrong.append((What.PACK_MISSING, f"{task.head.name} is missing"))
            return proof
        except Unavailable as error:
            return PackProof(task, failure=error)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _read(self, size: int) -> None:
        with self._lock:
            self.done += size
            elapsed = clock.monotonic() - self._began
            done, total = self.done, max(self.done, self._total)
        self._progress(Progress("check", "packs", done, total, elapsed))


def _threads(parts: Parts) -> int:
    if parts.store.traits.kind in ("local", "memory"):
        return min(_LOCAL_THREADS, os.cpu_count() or 1)
    return max(1, min(parts.store.traits.parallel, _MOST_THREADS))
