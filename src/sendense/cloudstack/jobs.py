"""Jobs of CloudStack: what starts one, and waiting for its end without a limit in time.

A start or a migration may take hours, and says "running" all the while.  So there is no time-out
on a job; but an API that is silent for the stall time is given up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sendense import clock
from sendense.cloudstack import answers
from sendense.cloudstack.answers import Refused
from sendense.cloudstack.refusals import failed_job
from sendense.errors import Conflict, NotFound, SendenseError, Stalled, Unavailable

_LOG = logging.getLogger(__name__)

STALL_S: Final = 300.0
_FIRST_S: Final = 0.3
_LONGEST_S: Final = 5.0
_SLICE_S: Final = 0.5
_RUNNING, _DONE, _FAILED, _CANCELLED = range(4)


@dataclass(frozen=True)
class AsyncJob:
    """A job that was begun."""

    job_id: str
    """Empty where the command was carried out at once."""
    object_id: str = ""
    """Of what is being made, where it is told beforehand."""
    command: str = ""
    result: dict[str, Any] | None = None
    """What was carried out at once."""


def nothing() -> None:
    """Check nothing while waiting."""


def outcome(answer: answers.Row, job: AsyncJob, cloud: str = "") -> dict[str, Any] | None:
    """Give the result of a job; none while it runs; raise where it failed."""
    status = answers.number(answer.get("jobstatus"))
    if status == _RUNNING:
        return None
    found = answer.get("jobresult")
    result: dict[str, Any] = found if isinstance(found, dict) else {"text": found} if found else {}
    if status == _DONE and not answers.number(answer.get("jobresultcode")):
        return result
    code = answers.number(result.get("errorcode") or answer.get("jobresultcode") or 530)
    said = answers.text(result, "errortext", "text")
    error = failed_job(job.command, Refused(code, said), cloud=cloud, job_id=job.job_id)
    if status == _CANCELLED and not isinstance(error, Unavailable):
        raise Conflict(
            f"{job.command} was cancelled in CloudStack" + (f": {said}" if said else ""),
            cloud=cloud, command=job.command, job=job.job_id,
        )  # fmt: skip
    raise error


def wait(
    ask: Callable[[], answers.Row],
    job: AsyncJob,
    *,
    check: Callable[[], None],
    stall_s: float,
    cloud: str = "",
) -> dict[str, Any]:
    """Ask until the job has ended; ``ask`` is one request."""
    pause, heard = _FIRST_S, clock.monotonic()
    while True:
        check()
        try:
            answer = ask()
            if "jobstatus" not in answer:
                raise Unavailable("an answer without the state of the job")
        except NotFound:
            raise _forgotten(job, cloud) from None
        except SendenseError as error:
            if not error.retryable:
                raise
            _LOG.info("job %s of %s: %s", job.job_id, job.command, error.message)
            if clock.monotonic() - heard > stall_s:
                raise _silent(job, cloud, stall_s, error) from None
        else:
            heard = clock.monotonic()
            result = outcome(answer, job, cloud)
            if result is not None:
                return result
        _sleep(pause, check)
        pause = min(pause * 1.5, _LONGEST_S)


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    """Wait, in pieces that let somebody stop us."""
    while seconds > 0:
        clock.sleep(min(seconds, _SLICE_S))
        seconds -= _SLICE_S
        check()


def _forgotten(job: AsyncJob, cloud: str) -> Unavailable:
    return Unavailable(
        f"CloudStack no longer knows the job {job.job_id} of {job.command}",
        hint="look in CloudStack what became of it: it may have been carried out",
        cloud=cloud, command=job.command, job=job.job_id,
    )  # fmt: skip


def _silent(job: AsyncJob, cloud: str, stall_s: float, last: SendenseError) -> Stalled:
    return Stalled(
        f"CloudStack has not told for {stall_s:.0f} s how {job.command} goes: {last.message}",
        hint="look at the management server; the job may go on without us",
        cloud=cloud, command=job.command, job=job.job_id,
    )  # fmt: skip
