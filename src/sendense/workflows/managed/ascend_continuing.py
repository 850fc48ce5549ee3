"""Restores that go on with one that failed: by its plan, so only soon, once, and for the same.

A plan tells what the cloud was like when it was made.  Each step looks again at what it touches;
but nobody can tell by looking whether a disk was used meanwhile, and what was written to it then
is in no safety point.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sendense import clock
from sendense.catalog.jobs import JobFilter
from sendense.errors import Conflict, Rejected
from sendense.model.ascend_order import CloudRestore
from sendense.model.job import Job, JobKind, JobState, Json
from sendense.model.page import every
from sendense.workflows.managed.ascend_journal import points_begun, writes_in_place
from sendense.workflows.managed.estate import Estate

STALE = timedelta(days=1)
"""Then a restore in place is planned again, with a safety point of its own."""
_ENDED = {JobState.FAILED: "failed", JobState.CANCELLED: "was cancelled"}


def facts_of_earlier(estate: Estate, job: Job, wanted: CloudRestore) -> tuple[Json, ...]:
    """Give what the restore remembered that this job goes on with, if it may."""
    jobs = estate.catalog.jobs
    before = jobs.get(wanted.continues)
    _ensure_alike(before, job, wanted)
    if before.state not in _ENDED:
        raise Conflict(
            f"job {before.id} is {before.state.value}", hint="only one that failed is gone on with"
        )
    own = JobFilter(kind=JobKind.RESTORE, subject=job.subject)
    for later in every(lambda paging: jobs.page(paging, own)):
        if later.id != job.id and _continued(later) == before.id and jobs.facts(later.id):
            raise Conflict(
                f"job {later.id} went on with {before.id} already",
                hint=f"go on with that one, if it failed: --continue {later.id}",
            )
    facts = jobs.facts(before.id)
    ended = before.finished_at or before.created_at
    if writes_in_place(facts) and clock.now() - ended > STALE:
        raise Conflict(
            f"job {before.id} ended at {ended:%Y-%m-%d %H:%M} UTC: its plan, and its safety point,"
            " are too old to write over disks",
            hint="begin the restore again, without --continue",
        )
    return facts


def needed_to_undo(estate: Estate, repository_id: str) -> dict[str, str]:
    """Give the safety points of restores that are not finished, or may still be gone on with."""
    jobs = estate.catalog.jobs
    needed: dict[str, str] = {}
    restores = JobFilter(kind=JobKind.RESTORE, repository_id=repository_id)
    for job in every(lambda paging: jobs.page(paging, restores)):
        why = _undone_by(job, clock.now())
        for point_id in points_begun(jobs.facts(job.id)) if why else ():
            needed.setdefault(point_id, why)  # of a restore and who went on with it, the latter
    return needed


def _undone_by(job: Job, now: datetime) -> str:
    if not job.final:
        return f"undoes the restore {job.id}, which is not finished"
    recent = now - (job.finished_at or job.created_at) <= STALE
    if job.state in _ENDED and recent:
        return f"undoes the restore {job.id}, which {_ENDED[job.state]} and may be gone on with"
    return ""


def _ensure_alike(before: Job, job: Job, wanted: CloudRestore) -> None:
    if before.kind is not JobKind.RESTORE or before.repository_id is None:
        raise Rejected(f"job {before.id} is no restore")
    earlier = CloudRestore.of(before.repository_id, before.content)
    mine = (job.subject, wanted.repository_id, wanted.point_id)
    if (before.subject, earlier.repository_id, earlier.point_id) != mine:
        raise Rejected(
            f"job {before.id} restores point {earlier.point_id} of {before.subject}",
            hint="name that point and repository",
        )
    if wanted.tenant and not earlier.tenant:
        raise Rejected(f"job {before.id} was not asked for by a tenant")


def _continued(job: Job) -> str:
    cloud = job.content.get("cloud")
    return str(cloud.get("continues") or "") if isinstance(cloud, dict) else ""
