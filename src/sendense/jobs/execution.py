"""One job in the hands of this worker: its steps, and how a failure becomes an ending.

The steps of a job are few, and each may be repeated: **take up** (not remembered: every execution
has to make sure that it holds the job), **carry out** (the handler; its outcome is remembered by
the durable workflow, so that it is not carried out again after a crash between this step and the
next), **record** (one transaction under the fence).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sendense import clock, log
from sendense.catalog.catalog import Catalog
from sendense.catalog.runs import Ending
from sendense.errors import Busy, Cancelled, SendenseError, Unavailable
from sendense.jobs.handlers import Abandoned, Done, JobHandlers, handler_of
from sendense.jobs.keeper import Held, Keeper
from sendense.jobs.retrying import Tries, after_failure, is_busy
from sendense.jobs.settings import JobSettings
from sendense.model.coding import decode, encode
from sendense.model.job import Job, JobFailure, JobKind, JobRequest, JobState
from sendense.steps import reached

_LOG = logging.getLogger(__name__)
_PAUSE_S = 1.0

T = TypeVar("T")
Outcome = dict[str, Any]
"""What the durable workflow remembers of a handler: JSON, for a later version may read it."""


class Execution:
    """Carries out the jobs of one worker."""

    def __init__(
        self, catalog: Catalog, keeper: Keeper, handlers: JobHandlers, settings: JobSettings
    ) -> None:
        """Use what the worker has."""
        self._catalog = catalog
        self._keeper = keeper
        self._handlers = handlers
        self._settings = settings

    @contextmanager
    def take_up(self, job_id: str) -> Iterator[Held]:
        """Hold a job that was placed on this worker."""
        taken = self._patiently(
            lambda: self._catalog.runs.take_up(job_id, self._keeper.worker, clock.now())
        )
        if taken is None:
            raise Abandoned(f"job {job_id} is not for this worker")
        with log.context(f"job {job_id}"), self._keeper.hold(taken) as held:
            reached("job.taken")
            yield held

    def carry_out(self, held: Held) -> Outcome:
        """Let the handler do its work; what it says, also of a failure, is a value."""
        job = held.job
        handler = handler_of(self._handlers, job.kind)
        while True:
            try:
                _LOG.info("%s of %s begins, attempt %d", job.kind.value, job.subject, job.attempt)
                done = handler(job, held.report, held.check)
                reached("job.carried-out")
                return _outcome(done)
            except Abandoned:
                # Nobody else may have it: the database was away, and is back.
                if self._still_ours(held):
                    continue
                raise
            except SendenseError as error:
                return {"failure": encode(JobFailure.of(error, job.kind.value))}
            except Exception as error:  # noqa: BLE001 - a job fails, the worker lives
                _LOG.exception("%s of %s failed", job.kind.value, job.subject)
                message = f"{type(error).__name__}: {error}"
                return {"failure": encode(JobFailure("failed", message, step=job.kind.value))}

    def record(self, held: Held, outcome: Outcome) -> str:
        """Record what became of the attempt; nothing if the job is in other hands."""
        ending = self._ending(held, outcome)
        state = self._patiently(lambda: self._catalog.runs.end(held.run, ending, clock.now()))
        reached("job.recorded")
        if state is None:
            raise Abandoned(f"job {held.job.id} is in other hands; nothing was recorded")
        _LOG.info("%s of %s %s", held.job.kind.value, held.job.subject, state.value)
        return state.value

    def _ending(self, held: Held, outcome: Outcome) -> Ending:
        if "failure" not in outcome:
            requests = tuple(decode(JobRequest, each) for each in outcome["follow_up"])
            return Ending(JobState.SUCCEEDED, "done", result=outcome["result"], follow_up=requests)
        failure = decode(JobFailure, outcome["failure"])
        if failure.code == Cancelled.code:
            # What it left behind is worth knowing; that it was cancelled, the state says.
            told = failure if failure.hint else None
            return Ending(JobState.CANCELLED, "cancelled on request", failure=told)
        job = held.job
        retry = after_failure(self._settings.retry, failure, self._tries(job), clock.now())
        state = JobState.FAILED if retry.at is None else JobState.QUEUED
        return Ending(state, retry.reason, failure=failure, not_before=retry.at)

    def _tries(self, job: Job) -> Tries:
        """Count the attempts so far, this one too."""
        ended = self._patiently(lambda: self._catalog.runs.attempts(job.id))
        return Tries(
            job_id=job.id,
            attempt=job.attempt,
            busy=sum(is_busy(each.failure) for each in ended if each.failure is not None),
            since=job.started_at,
            waits=job.kind is JobKind.BACKUP,
        )

    def _still_ours(self, held: Held) -> bool:
        """Wait until the database says who holds the job."""
        while not (held.lost or self._keeper.leaving or self._keeper.replaced):
            if not self._keeper.fenced:
                return True
            clock.sleep(_PAUSE_S)
        return False

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something with the database, as often as it takes while this worker lives."""
        while True:
            try:
                return action()
            except (Busy, Unavailable) as error:
                if self._keeper.leaving or self._keeper.replaced:
                    raise Abandoned("this worker stops, and cannot say what became") from error
                _LOG.warning("%s; again in %g s", error, _PAUSE_S)
                clock.sleep(_PAUSE_S)


def _outcome(done: Done) -> Outcome:
    return {
        "result": encode(dict(done.result)),
        "follow_up": [encode(each) for each in done.follow_up],
    }
