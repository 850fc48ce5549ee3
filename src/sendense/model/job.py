"""Jobs: long work that the control plane does, and the states that it passes through.

::

    queued ----> running ----> succeeded
      |  ^         |   |-----> failed
      |  |_retry___|   v
      |            cancelling ----> cancelled
      |------------------------------^

``TRANSITIONS`` is the only truth about it.  Whoever moves a job names the state that it leaves, so
that of two who move it at once one learns that he came too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Optional

from sendense.errors import SendenseError

Json = Mapping[str, Any]


class JobKind(str, Enum):
    """What a job does."""

    BACKUP = "backup"
    RESTORE = "restore"
    VERIFY = "verify"
    PRUNE = "prune"
    GC = "gc"
    COPY = "copy"
    DISCOVER = "discover"


class JobState(str, Enum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    """Somebody asked for its end; what it did is being taken back."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    # Back to queued: it is tried again, as the next attempt.
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLING, JobState.QUEUED}
    ),
    # It may be done, or fail, before the wish to end it gets through.
    JobState.CANCELLING: frozenset({JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

FINAL_STATES = frozenset(state for state, after in TRANSITIONS.items() if not after)
OPEN_STATES = frozenset(JobState) - FINAL_STATES


def after_cancel(state: JobState) -> Optional[JobState]:
    """Give the state that a wish to cancel leads to; none where it changes nothing any more."""
    if state is JobState.QUEUED:
        return JobState.CANCELLED
    return JobState.CANCELLING if state is JobState.RUNNING else None


@dataclass(frozen=True)
class JobFailure:
    """Why a job failed, in the words of every error, and at which step."""

    code: str
    message: str
    hint: Optional[str] = None
    retryable: bool = False
    step: str = ""
    retry_s: Optional[float] = None
    """When the error says how long it probably lasts."""

    @classmethod
    def of(cls, error: SendenseError, step: str = "") -> JobFailure:
        """Describe an error that ended a job."""
        retry_s = error.data.get("retry_s")
        return cls(
            error.code,
            error.message,
            error.hint,
            error.retryable,
            step,
            None if retry_s is None else float(retry_s),
        )


@dataclass(frozen=True)
class JobRequest:
    """What somebody wants done."""

    kind: JobKind
    subject: str
    """The instance's UUID; for work on a whole repository, its id; for a discovery, the host's."""
    content: Json
    """What the kind needs to know beside the subject; no secret."""
    requested_by: str
    """User, or ``policy:<name>``."""
    priority: int = 0
    """Higher ones begin first."""
    host_id: Optional[str] = None
    repository_id: Optional[str] = None
    policy_id: Optional[str] = None
    not_before: Optional[datetime] = None


@dataclass(frozen=True)
class Job:
    """A request, and what became of it."""

    id: str
    kind: JobKind
    subject: str
    content: Json
    state: JobState
    attempt: int
    """From 1; each retry is the next."""
    priority: int
    requested_by: str
    created_at: datetime
    host_id: Optional[str] = None
    repository_id: Optional[str] = None
    policy_id: Optional[str] = None
    not_before: Optional[datetime] = None
    started_at: Optional[datetime] = None
    """Of the first attempt."""
    finished_at: Optional[datetime] = None
    progress: Optional[Json] = None
    result: Optional[Json] = None
    failure: Optional[JobFailure] = None
    """Of the last attempt; also while it waits for the next."""
    cancel_requested: bool = False

    @property
    def final(self) -> bool:
        """Tell whether nothing more will happen to it."""
        return self.state in FINAL_STATES
