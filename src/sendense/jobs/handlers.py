"""What carries out a job of each kind: the seam between durable jobs and the use cases.

The engine decides when a handler runs, on which worker, and what follows when it fails.  A handler
decides everything else.  It may be called **again for the same job** after a crash, on another
machine; it then finds what the one before left, and goes on from there or takes it back.  So:

* All that it does is idempotent under ``job.id`` (a ticket's id, a point's id), or is undone first.
* It calls ``check()`` at least every few seconds.  ``check`` raises
  :class:`~sendense.errors.Cancelled` if somebody asked for the end of the job, and
  :class:`Abandoned` if this worker may no longer hold it.  Both are let through, after taking back
  what is half done.
* It calls ``report({...})`` as often as it likes; it is written at most once a second.
* It raises a :class:`~sendense.errors.SendenseError`: a retryable one is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from sendense.errors import Cancelled
from sendense.model.job import Job, JobKind, JobRequest, Json

Report = Callable[[Json], None]
Check = Callable[[], None]


class Abandoned(Cancelled):
    """This worker may no longer hold the job; another goes on with it.

    It is a :class:`~sendense.errors.Cancelled`, so that code which takes back what is half done
    when a run is broken off needs to know only one of them.
    """


@dataclass(frozen=True)
class Done:
    """What a job has come to."""

    result: Json = field(default_factory=dict)
    """For people and programs; it is kept with the job."""
    follow_up: tuple[JobRequest, ...] = ()
    """Jobs that are submitted with it, exactly once: a collection after a prune."""


Handler = Callable[[Job, Report, Check], Done]


class JobHandlers(Protocol):
    """One handler for each kind of job."""

    def backup(self, job: Job, report: Report, check: Check) -> Done:
        """Capture an instance into a repository."""

    def restore(self, job: Job, report: Report, check: Check) -> Done:
        """Write a point back to a host."""

    def verify(self, job: Job, report: Report, check: Check) -> Done:
        """Read points and compare every byte."""

    def prune(self, job: Job, report: Report, check: Check) -> Done:
        """Remove the points that a policy does not keep."""

    def gc(self, job: Job, report: Report, check: Check) -> Done:
        """Remove what no point needs."""

    def copy(self, job: Job, report: Report, check: Check) -> Done:
        """Copy points to another repository."""

    def discover(self, job: Job, report: Report, check: Check) -> Done:
        """Ask a host what runs there."""


def handler_of(handlers: JobHandlers, kind: JobKind) -> Handler:
    """Give the handler of a kind."""
    handler: Handler = getattr(handlers, kind.value)
    return handler
