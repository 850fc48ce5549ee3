"""Jobs whose worker died, stopped or forgot them: on to another worker, or to a clean end.

A run is lost if its worker lives no more, or lives another life, or does not say any more that it
holds it.  First it gets a new take, which is the fence; then its workflow goes on at the other
worker, behind the last step that was remembered.  Where the workflow cannot go on (its worker's
release had other steps, or it broke off), a new one begins, and the handler finds what the one
before left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from sqlalchemy import Connection

from sendense.catalog.catalog import Catalog
from sendense.catalog.runs import Ending, end_run, hand_over, kind_of, state_of
from sendense.errors import Unavailable
from sendense.jobs.durable import Mailboxes, mailbox
from sendense.jobs.settings import JobSettings
from sendense.jobs.watching import Watch
from sendense.model.job import JobFailure, JobState
from sendense.model.running import Run, Worker
from sendense.steps import reached

_LOG = logging.getLogger(__name__)

Act = Callable[[], AbstractContextManager[Connection]]
"""Opens a transaction that counts only while the dispatcher has its turn."""


class Rescuer:
    """Finds lost runs and brings them on."""

    def __init__(
        self, catalog: Catalog, mailboxes: Mailboxes, settings: JobSettings, act: Act
    ) -> None:
        """Watch nothing yet."""
        self._catalog = catalog
        self._mailboxes = mailboxes
        self._settings = settings
        self._act = act
        self._watch = Watch()

    def forget(self) -> None:
        """Begin to watch anew."""
        self._watch = Watch()

    def rescue(
        self, alive: Sequence[Worker], runs: Sequence[Run], free: dict[str, int], now: datetime
    ) -> None:
        """Bring lost runs on, as far as workers have room; ``free`` is counted down."""
        by_name = {worker.name: worker for worker in alive}
        for run, why in self._lost(alive, runs):
            if self._ended(run, why, now):
                continue
            name = max(sorted(free), key=lambda each: free[each], default=None)
            if name is None or free[name] == 0:
                continue
            free[name] -= 1
            self._bring_on(run, by_name[name], why)

    def _lost(self, alive: Sequence[Worker], runs: Sequence[Run]) -> Iterator[tuple[Run, str]]:
        lives = {(worker.name, worker.incarnation) for worker in alive}
        still = self._watch.look([(run.job_id, (run.attempt, run.take, run.beat)) for run in runs])
        for run in runs:
            if (run.worker, run.incarnation) not in lives:
                yield run, f"its worker {run.worker} died or stopped"
            elif still[run.job_id] >= self._settings.lease_s:
                yield run, f"its worker {run.worker} does not hold it any more"

    def _ended(self, run: Run, why: str, now: datetime) -> bool:
        """End a run that is not to go on."""
        if run.begun_at is not None and run.take < self._settings.takes:
            return False
        with self._act() as connection:
            if state_of(connection, run.job_id) is JobState.CANCELLING and run.begun_at is None:
                ending = Ending(JobState.CANCELLED, "cancelled before it had begun")
            elif run.take >= self._settings.takes:
                message = f"{run.take} workers that had the job died or stopped, the last: {why}"
                failure = JobFailure(Unavailable.code, message, "see the logs of the workers")
                then = "not tried again: it may be the cause"
                ending = Ending(JobState.FAILED, then, failure=failure)
            else:
                return False
            end_run(connection, run, ending, now)
        return True

    def _bring_on(self, run: Run, worker: Worker, why: str) -> None:
        place = self._mailboxes.place_of(run.workflow_id)
        anew = f"{run.job_id}-{run.attempt}-{run.take + 1}"
        workflow_id = run.workflow_id if place.goes_on else anew
        with self._act() as connection:
            if not hand_over(connection, run, worker, workflow_id):
                return
            if not place.goes_on:
                kind = kind_of(connection, run.job_id)
                self._mailboxes.post(connection, worker.name, workflow_id, kind, run.job_id)
        reached("job.handed-over")
        if place.goes_on and place.mailbox != mailbox(worker.name):
            self._mailboxes.move(workflow_id, worker.name)
        _LOG.warning("job %s goes on at the worker %s: %s", run.job_id, worker.name, why)
