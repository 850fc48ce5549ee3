"""What carries out jobs: the managed use cases, as the job engine calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sendense.catalog.catalog import Catalog
from sendense.catalog.points import PointFilter
from sendense.errors import NotFound
from sendense.jobs.handlers import Check, Done, Report
from sendense.model.coding import encode
from sendense.model.job import Job, JobKind, JobRequest, Json
from sendense.model.page import Paging
from sendense.model.policy import Policy
from sendense.model.progress import Progress
from sendense.workflows.managed import backup, discover, restore, upkeep
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.task import Task


class Handlers:
    """The :class:`~sendense.jobs.handlers.JobHandlers` of the product."""

    def __init__(self, estate: Estate) -> None:
        """Work on an estate."""
        self._estate = estate

    def backup(self, job: Job, report: Report, check: Check) -> Done:
        """Capture an instance into a repository; its policy prunes behind it."""
        result = self._run(backup.back_up, job, report, check)
        return Done(result, self._prune_behind(job) if result.get("point") else ())

    def restore(self, job: Job, report: Report, check: Check) -> Done:
        """Write a point back to a host."""
        return Done(self._run(restore.restore, job, report, check))

    def verify(self, job: Job, report: Report, check: Check) -> Done:
        """Read points and hold every byte against its hash."""
        return Done(self._run(upkeep.verify, job, report, check))

    def prune(self, job: Job, report: Report, check: Check) -> Done:
        """Remove the points that no rule keeps."""
        return Done(self._run(upkeep.prune, job, report, check))

    def gc(self, job: Job, report: Report, check: Check) -> Done:
        """Remove what no point needs."""
        return Done(self._run(upkeep.collect_garbage, job, report, check))

    def copy(self, job: Job, report: Report, check: Check) -> Done:
        """Copy points to another repository."""
        return Done(self._run(upkeep.copy, job, report, check))

    def discover(self, job: Job, report: Report, check: Check) -> Done:
        """Ask hosts what runs there."""
        return Done(self._run(discover.discover, job, report, check))

    def _run(
        self, act: Callable[[Estate, Task], Json], job: Job, report: Report, check: Check
    ) -> Json:
        return act(self._estate, JobTask(self._estate.catalog, job, report, check))

    def _prune_behind(self, job: Job) -> tuple[JobRequest, ...]:
        if job.policy_id is None:
            return ()
        try:
            policy = self._estate.catalog.policies.get(job.policy_id)
        except NotFound:
            return ()
        return tuple(
            JobRequest(
                kind=JobKind.PRUNE,
                subject=job.subject,
                content={"machine": job.subject, "keep": encode(policy.rules.keep)},
                requested_by=job.requested_by,
                priority=job.priority,
                repository_id=repository_id,
                policy_id=job.policy_id,
            )
            for repository_id in self._pruned_in(job, policy)
        )

    def _pruned_in(self, job: Job, policy: Policy) -> tuple[str | None, ...]:
        """Give where to prune: also where points went before their tenant had its own repository.

        The rules of a policy hold in its repository, and nobody else would ever look there.
        """
        before = policy.rules.repository_id
        if before == job.repository_id:
            return (before,)
        wanted = PointFilter(repository_id=before, machine_uuid=job.subject)
        there = self._estate.catalog.points.page(Paging(limit=1), wanted).items
        return (job.repository_id, before) if there else (job.repository_id,)


class JobTask:
    """A job in the engine's hands, as the use cases see it."""

    def __init__(self, catalog: Catalog, job: Job, report: Report, check: Check) -> None:
        """Report with ``report``, and stop where ``check`` raises."""
        self.job = job
        self._catalog = catalog
        self._report = report
        self._check = check
        self._parts: dict[str, Progress] = {}
        self._lock = threading.Lock()

    @property
    def facts(self) -> tuple[Json, ...]:
        """Give what earlier tries remembered."""
        return self._catalog.jobs.facts(self.job.id)

    def remember(self, fact: Json) -> None:
        """Make a fact durable; nobody remembers anything for a job that he has lost."""
        self._check()
        self._catalog.jobs.remember(self.job.id, fact)

    def report(self, progress: Progress, /) -> None:
        """Take the progress of one disk; what is shown is that of all."""
        with self._lock:
            self._parts[progress.subject] = progress
            shown = summed(progress.phase, self._parts)
        self._report(shown)

    def waiting(self, reason: str | None) -> None:
        """Show why nothing moves."""
        self._report({"phase": "waiting", "reason": reason})
        self._check()

    def check(self) -> None:
        """Raise where the work must end."""
        self._check()


def summed(phase: str, parts: dict[str, Progress]) -> dict[str, Any]:
    """Give the progress of a job over its parts."""
    done = sum(part.done for part in parts.values())
    elapsed = max((part.elapsed_s for part in parts.values()), default=0.0)
    return {
        "phase": phase,
        "done_bytes": done,
        "total_bytes": sum(part.total for part in parts.values()),
        "bytes_per_s": int(done / elapsed) if elapsed > 0 else 0,
        "elapsed_s": round(elapsed, 1),
        "parts": {
            name: {"done_bytes": part.done, "total_bytes": part.total}
            for name, part in parts.items()
        },
    }
