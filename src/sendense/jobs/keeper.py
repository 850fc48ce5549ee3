"""The thread of a worker that says, every second, that it lives and which jobs it holds.

In the same breath it writes the progress of those jobs and hears of wishes to cancel them, so that
a worker costs the database one small transaction per second, however many jobs it has.

It is also the fence on this side: when the database cannot be reached for ``fence_s``, others may
take the jobs soon, so they are let go before: ``check`` raises until the worker has made sure that
it still holds them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.catalog.runs import Taken
from sendense.errors import Cancelled, SendenseError
from sendense.jobs.handlers import Abandoned
from sendense.jobs.settings import JobSettings
from sendense.model.job import Job, JobState, Json
from sendense.model.running import Worker

_LOG = logging.getLogger(__name__)


class Held:
    """A job in the hands of this worker."""

    def __init__(self, taken: Taken, keeper: Keeper) -> None:
        """Hold it."""
        self.job: Job = taken.job
        self.run = taken.run
        self.cancelled = taken.job.state is JobState.CANCELLING
        self.lost = False
        self._keeper = keeper
        self._progress: Json | None = None

    def check(self) -> None:
        """Raise if the job is not to go on here."""
        if self.lost:
            raise Abandoned(f"job {self.job.id} is in other hands")
        if self._keeper.leaving:
            raise Abandoned("this worker stops; another one goes on with the job")
        if self._keeper.fenced:
            raise Abandoned("the database does not answer, so others may take the job")
        if self.cancelled:
            raise Cancelled("somebody asked for the end of the job")

    def report(self, progress: Json) -> None:
        """Remember how far it has come, for the next beat."""
        self._progress = dict(progress)

    def news(self) -> Json | None:
        """Give what is new since it was asked last."""
        progress, self._progress = self._progress, None
        return progress


class Keeper:
    """Keeps this worker alive in the eyes of others."""

    def __init__(self, catalog: Catalog, worker: Worker, settings: JobSettings) -> None:
        """Prepare; :meth:`start` registers the worker."""
        self.worker = worker
        self.leaving = False
        self.replaced = False
        """Another process has the name of this worker by now."""
        self._catalog = catalog
        self._settings = settings
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._renewed = clock.boottime()
        self._thread = threading.Thread(target=self._run, name="job-keeper", daemon=True)

    @property
    def fenced(self) -> bool:
        """Tell whether others may believe this worker to be dead."""
        return self.replaced or clock.boottime() - self._renewed > self._settings.fence_s

    @property
    def held(self) -> tuple[str, ...]:
        """Give the ids of the jobs that it holds."""
        with self._lock:
            return tuple(self._held)

    def start(self) -> None:
        """Register the worker, and begin to say that it lives."""
        self._catalog.workers.register(self.worker)
        self._renewed = clock.boottime()
        self._thread.start()

    def stop(self) -> None:
        """Say farewell: what it still holds is free for others at once."""
        self.leaving = True
        self._stop.set()
        self._thread.join()
        with suppress(SendenseError):  # else the others wait for their patience
            self._catalog.workers.leave(self.worker.name, self.worker.incarnation)

    @contextmanager
    def hold(self, taken: Taken) -> Iterator[Held]:
        """Hold a job that was taken up."""
        held = Held(taken, self)
        with self._lock:
            if held.job.id in self._held:
                raise Abandoned(f"job {held.job.id} is being carried out here already")
            self._held[held.job.id] = held
        try:
            yield held
        finally:
            with self._lock:
                del self._held[held.job.id]

    def _run(self) -> None:
        while not self._stop.wait(self._settings.beat_s):
            try:
                self.beat()
            except SendenseError as error:
                _LOG.warning("worker %s cannot say that it lives: %s", self.worker.name, error)
            except Exception:  # noqa: BLE001 - without this thread the worker would be dead
                _LOG.exception("worker %s stumbled as it said that it lives", self.worker.name)

    def beat(self) -> None:
        """Say once that it lives."""
        with self._lock:
            held = dict(self._held)
        began = clock.boottime()
        news = {job_id: each.news() for job_id, each in held.items()}
        states = self._catalog.runs.renew(
            self.worker,
            clock.now(),
            {job_id: each.run for job_id, each in held.items()},
            {job_id: progress for job_id, progress in news.items() if progress is not None},
        )
        if states is None:
            self.replaced = True
            _LOG.error("another process has the name of the worker %s", self.worker.name)
            return
        for job_id, each in held.items():
            state = states.get(job_id)
            each.lost = each.lost or state is None
            each.cancelled = each.cancelled or state is JobState.CANCELLING
        self._renewed = began  # last: who waits for it looks at what was lost next
