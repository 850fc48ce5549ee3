"""Reading and storing the disks of one capture, side by side.

Each disk runs in a thread of its own: sample what the bitmap calls clean, copy,
finish.  The first failure stops all; so do Ctrl-C, SIGTERM and the watchdog,
within about a second, because every thread asks between chunks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from random import SystemRandom

from sendense import clock
from sendense.capture.session import CaptureSession
from sendense.errors import Cancelled
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.export import DiskExport
from sendense.model.plan import CapturePlan, DiskPlan
from sendense.model.point import DiskImage
from sendense.model.progress import ProgressListener
from sendense.repository.protocol import DiskSpec, PointWriter, Repository
from sendense.settings import Settings
from sendense.transfer.copy import CopyOptions, copy_disk
from sendense.transfer.sampling import find_changed_sample
from sendense.transfer.throttle import Throttle

log = logging.getLogger(__name__)

_POLL_S = 0.5
_MOST_CONNECTIONS = 64
"""Of one run to QEMU's NBD server, whose 101st connection blocks for ever."""


class CopyRun:
    """Copies all disks of one capture into one point."""

    def __init__(
        self,
        plan: CapturePlan,
        session: CaptureSession,
        repository: Repository,
        settings: Settings,
        listener: ProgressListener,
    ) -> None:
        """Prepare; :meth:`run` does the work."""
        self._plan = plan
        self._session = session
        self._repository = repository
        self._settings = settings
        self._listener = listener
        self._stop = threading.Event()
        self._alarms: list[str] = []
        self._options = CopyOptions(
            connections=min(settings.connections, _MOST_CONNECTIONS // settings.parallel_disks),
            stall_s=settings.stall_timeout,
            throttle=Throttle(settings.bandwidth_limit),
        )

    def run(self, writer: PointWriter) -> tuple[tuple[DiskImage, ...], tuple[str, ...]]:
        """Copy; gives the images in the plan's order, and the alarms raised by sampling."""
        with self._threads() as pool:
            futures = [
                pool.submit(copy_context().run, self._copy, writer, item, export)
                for item, export in zip(self._plan.disks, self._session.exports, strict=True)
            ]
            try:
                self._wait(futures)
            except BaseException:
                self._stop.set()
                writer.give_up()
                raise
            images = tuple(future.result() for future in futures)
        return images, tuple(self._alarms)

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Give a pool whose threads are told to stop on the way out, however that is."""
        pool = ThreadPoolExecutor(self._settings.parallel_disks, thread_name_prefix="disk")
        try:
            yield pool
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _wait(self, futures: list[Future[DiskImage]]) -> None:
        """Wait for all, in short steps so that a signal is seen; raise the first failure."""
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
            for future in done:
                self._raise_cause(future)

    def _raise_cause(self, future: Future[DiskImage]) -> None:
        """Raise what ended a disk; where the watchdog ended it, its verdict is the cause."""
        error = future.exception()
        if error is None:
            return
        self._session.check()
        raise error

    def _check(self) -> None:
        """Raise where this run must end."""
        if self._stop.is_set():
            raise Cancelled("the run was stopped")
        self._session.check()

    def _copy(self, writer: PointWriter, item: DiskPlan, export: DiskExport) -> DiskImage:
        began = clock.monotonic()
        decision, sampled = self._sampled(item, export)
        spec = DiskSpec(
            disk=item.survey.disk,
            size=export.size,
            chain=item.survey.chain,
            decision=decision,
            granularity=self._granularity(item, decision),
        )
        sink = writer.disk(spec)
        result = copy_disk(
            export,
            sink,
            method=decision.method,
            options=self._options,
            listener=self._listener,
            check=self._check,
        )
        return sink.finish(
            read_bytes=result.read_bytes,
            sampled_blocks=sampled,
            seconds=clock.monotonic() - began,
        )

    def _sampled(self, item: DiskPlan, export: DiskExport) -> tuple[DiskDecision, int]:
        """Hold the bitmap to its word: re-read clean blocks, fall back to a full on a lie."""
        decision = item.decision
        if decision.method is not Method.BITMAP or decision.base is None:
            return decision, 0
        if self._settings.sample_blocks == 0:
            return decision, 0
        with self._repository.open(decision.base) as base:
            sample = find_changed_sample(
                export,
                base.disk(item.survey.disk.identity),
                count=self._settings.sample_blocks,
                random=SystemRandom(),
                options=self._options,
                check=self._check,
            )
        if sample.changed_at is None:
            return decision, sample.blocks
        self._alarm(item.target, sample.changed_at)
        full = replace(
            decision,
            mode=Mode.FULL,
            method=Method.EVERYTHING,
            reason=Reason.VERIFICATION_FAILED,
            base=None,
            bitmap=None,
        )
        return full, sample.blocks

    def _alarm(self, target: str, offset: int) -> None:
        alarm = (
            f"disk {target}: the bitmap called offset {offset} clean, but it had changed; "
            "this disk was read in full. Points made since the last full may lack changes."
        )
        log.error("%s", alarm)
        self._alarms.append(alarm)

    def _granularity(self, item: DiskPlan, decision: DiskDecision) -> int:
        bitmap = item.survey.bitmap(decision.bitmap) if decision.bitmap else None
        return bitmap.granularity if bitmap is not None else self._plan.granularity
