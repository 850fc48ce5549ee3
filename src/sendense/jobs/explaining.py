"""Why a job waits, in the words of what keeps it."""

from __future__ import annotations

from datetime import datetime

from sendense.catalog.catalog import Catalog
from sendense.catalog.runs import running
from sendense.clock import format_utc
from sendense.model.admission import Limits, Load, Waiting
from sendense.model.job import Job, JobState


def why_it_waits(
    catalog: Catalog, limits: Limits, job: Job, now: datetime, *, named: bool = True
) -> str | None:
    """Say what keeps a queued job from beginning; none if it does not wait.

    ``named``: whether to say what its policy is called.

    The same limits decide as in the dispatcher; where several things keep it, the first is told.
    """
    if job.state is not JobState.QUEUED:
        return None
    if job.not_before is not None and job.not_before > now:
        at = format_utc(job.not_before)
        if job.failure is None:
            return f"its start is set for {at}"
        return f"its next attempt is set for {at}: {job.failure.message}"
    if job.policy_id is not None:
        closed = _closed(catalog, job.policy_id, now, named=named)
        if closed is not None:
            return closed
    with catalog.database.read() as connection:
        load = Load(limits, running(connection))
    waiting = Waiting(job.id, job.kind, job.subject, job.host_id, job.repository_id)
    return load.waits_for(waiting) or _workers(catalog)


def _closed(catalog: Catalog, policy_id: str, now: datetime, *, named: bool) -> str | None:
    for policy in catalog.policies.enabled():
        if policy.id == policy_id:
            closed = policy.rules.times.forbids(now)
            whose = f"policy {policy.name}" if named else "its policy"
            return None if closed is None else f"{whose}: {closed}"
    return None


def _workers(catalog: Catalog) -> str:
    workers = catalog.workers.list()
    slots = sum(worker.slots for worker in workers)
    if slots == 0:
        return "no worker is there"
    taken = len(catalog.runs.list())
    if taken >= slots:
        return f"all {slots} slots of the workers are taken"
    return "it is among the next"
