"""Jobs: asking for them, watching them, ending them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from sendense import clock
from sendense.api.access import (
    EVERYBODY,
    OPERATORS,
    RUNNERS,
    Caller,
    caller_now,
    caller_of,
    reads,
    writes,
)
from sendense.api.guard import GuardedRoute
from sendense.api.job_requests import backup_request, request_of, restore_request, submit
from sendense.api.job_shapes import (
    AttemptShape,
    BackupAsked,
    CopyAsked,
    DiscoverAsked,
    GcAsked,
    JobInFull,
    JobShape,
    PruneAsked,
    RestoreAsked,
    VerifyAsked,
)
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import IdAsked, IdInPath, PageOf, TextAsked, paging
from sendense.api.store_shapes import keep_rules
from sendense.catalog.jobs import JobFilter
from sendense.errors import NotAllowed, NotFound, NotSignedIn
from sendense.jobs.explaining import why_it_waits
from sendense.model.access import Area, Role
from sendense.model.coding import encode
from sendense.model.job import Job, JobKind, JobState, Json
from sendense.model.page import Page, Paging

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])

At = Annotated[Paging, Depends(paging)]
_LOOK_EVERY_S = 0.5
_CHECK_EVERY_S = 5.0
"""A stream does not outlive its token, its user or his grant by more than this and one look."""


def _job_filter(
    request: Request,
    kind: Annotated[JobKind | None, Query()] = None,
    state: Annotated[list[JobState], Query(max_length=len(JobState))] = [],  # noqa: B006
    subject: TextAsked = None,
    host_id: IdAsked = None,
    repository_id: IdAsked = None,
    policy_id: IdAsked = None,
    requested_by: TextAsked = None,
) -> JobFilter:
    grant = caller_of(request).grant
    if grant is not None and requested_by is not None and requested_by != caller_of(request).name:
        # What is not shown is not to be guessed either: nobody is called so.
        requested_by = ""
    if grant is not None and policy_id is not None:
        policy_id = ""
    return JobFilter(
        kind, tuple(state), subject, grant, host_id, repository_id, policy_id, requested_by
    )


def _as_seen(job: Job, caller: Caller) -> Job:
    """Leave out, for tenants, who else asks: policies and users may be called as customers are."""
    if caller.grant is None:
        return job
    by = job.requested_by
    if by != caller.name:
        by = "policy" if by.startswith("policy:") else "another user"
    return replace(job, requested_by=by, policy_id=None)


@router.get("/jobs", response_model=PageOf[JobShape])
@reads(Area.JOBS, EVERYBODY)
def list_jobs(
    services: ServicesHere,
    at: At,
    request: Request,
    wanted: Annotated[JobFilter, Depends(_job_filter)],
) -> Page[Job]:
    """List jobs, newest first; a tenant sees those on its instances."""
    page, caller = services.catalog.jobs.page(at, wanted), caller_of(request)
    return replace(page, items=tuple(_as_seen(job, caller) for job in page.items))


@router.get("/jobs/{job_id}")
@reads(Area.JOBS, EVERYBODY)
def show_job(services: ServicesHere, job_id: IdInPath, request: Request) -> JobInFull:
    """Show a job, and why it waits."""
    caller = caller_of(request)
    job = services.catalog.jobs.get(job_id, caller.grant)
    named = caller.grant is None
    why = why_it_waits(services.catalog, services.limits, job, clock.now(), named=named)
    shape = JobShape.model_validate(_as_seen(job, caller))
    return JobInFull(**shape.model_dump(), waits_for=why)


@router.get("/jobs/{job_id}/attempts", response_model=list[AttemptShape])
@reads(Area.JOBS, EVERYBODY)
def list_attempts(services: ServicesHere, job_id: IdInPath, request: Request) -> object:
    """List the attempts at a job that have ended, and what followed each."""
    services.catalog.jobs.get(job_id, caller_of(request).grant)
    return services.catalog.runs.attempts(job_id)


@router.post("/jobs/{job_id}/cancel", status_code=202, response_model=JobShape)
@writes(Area.JOBS, RUNNERS)
def cancel_job(services: ServicesHere, job_id: IdInPath, request: Request) -> Job:
    """Ask for the end of a job. One that waits has ended by that; one that runs is `cancelling`."""
    caller = caller_of(request)
    job = services.catalog.jobs.get(job_id, caller.grant)
    if caller.role is Role.TENANT and job.requested_by != caller.name:
        raise NotAllowed("a tenant cancels the jobs that it asked for itself")
    return services.queue.cancel(job_id)


class _Watcher:
    """Whoever watches a job, for as long as he may see it."""

    def __init__(self, services: Services, request: Request, job_id: str) -> None:
        self._jobs = services.catalog.jobs
        self._request = request
        self._job_id = job_id
        self._grant = caller_of(request).grant
        self._checked = clock.monotonic()

    def look(self) -> Job:
        """Read the job by what its watcher may see, and now and then find out what that is now."""
        now = clock.monotonic()
        if now - self._checked >= _CHECK_EVERY_S:
            self._grant = caller_now(self._request).grant
            self._checked = now
        return self._jobs.get(self._job_id, self._grant)

    def as_seen(self, job: Job) -> Job:
        """Give it as who watches may see it."""
        return _as_seen(job, caller_of(self._request))

    async def change(self, job: Job) -> Job | None:
        """Wait until the job has changed; none: he may see it no longer, or it is forgotten."""
        now = job
        while now == job:
            await anyio.sleep(_LOOK_EVERY_S)
            try:
                now = await run_in_threadpool(self.look)
            except (NotSignedIn, NotAllowed, NotFound):
                return None
        return now


async def _stream(
    services: ServicesHere, request: Request, job_id: IdInPath
) -> AsyncIterator[tuple[_Watcher, Job]]:
    """Hold one of the places for streams; the job is there before the stream begins."""
    watcher = _Watcher(services, request, job_id)
    job = await run_in_threadpool(watcher.look)
    with services.streams.place(caller_of(request).name):
        yield watcher, job


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
@reads(Area.JOBS, EVERYBODY)
async def watch_job(
    begun: Annotated[tuple[_Watcher, Job], Depends(_stream)],
) -> AsyncIterator[ServerSentEvent]:
    """Stream a job: an event `job` with all of it whenever it changes, `end` with its last state.

    Asynchronous, because a thread for each who watches would leave none for who asks.
    """
    watcher, number = begun[0], 0
    job: Job | None = begun[1]
    while job is not None:
        number += 1
        name = "end" if job.final else "job"
        shape = JobShape.model_validate(watcher.as_seen(job))
        yield ServerSentEvent(data=shape, event=name, id=str(number), retry=1000)
        job = None if job.final else await watcher.change(job)


@router.post("/backup/cloudstack", status_code=202, response_model=JobShape)
@writes(Area.JOBS, OPERATORS)
def back_up(services: ServicesHere, asked: BackupAsked, request: Request, out: Response) -> Job:
    """Back up an instance."""
    return submit(
        services, backup_request(services.catalog, asked, caller_of(request)), request, out
    )


@router.post("/jobs/backup", status_code=202, response_model=JobShape)
@writes(Area.JOBS, OPERATORS)
def ask_backup(services: ServicesHere, asked: BackupAsked, request: Request, out: Response) -> Job:
    """Back up an instance: the same as `/backup/cloudstack`."""
    return back_up(services, asked, request, out)


@router.post("/jobs/restore", status_code=202, response_model=JobShape)
@writes(Area.JOBS, RUNNERS)
def ask_restore(
    services: ServicesHere, asked: RestoreAsked, request: Request, out: Response
) -> Job:
    """Restore a point; a tenant restores its own instances, in place."""
    wanted = restore_request(services.catalog, asked, caller_of(request))
    return submit(services, wanted, request, out)


@router.post("/jobs/verify", status_code=202, response_model=JobShape)
@writes(Area.JOBS, OPERATORS)
def ask_verify(services: ServicesHere, asked: VerifyAsked, request: Request, out: Response) -> Job:
    """Check points: every byte against its hash."""
    content = {"level": asked.level.value, "points": asked.points, "machine": asked.machine}
    return _in_repository(services, JobKind.VERIFY, asked, content, request, out)


@router.post("/jobs/prune", status_code=202, response_model=JobShape)
@writes(Area.JOBS, OPERATORS)
def ask_prune(services: ServicesHere, asked: PruneAsked, request: Request, out: Response) -> Job:
    """Remove the points that no rule keeps; what is pinned or locked stays."""
    keep = keep_rules(asked.keep, asked.timezone)
    content = {"keep": encode(keep), "machine": asked.machine}
    return _in_repository(services, JobKind.PRUNE, asked, content, request, out)


@router.post("/jobs/gc", status_code=202, response_model=JobShape)
@writes(Area.JOBS, OPERATORS)
def ask_gc(services: ServicesHere, asked: GcAsked, request: Request, out: Response) -> Job:
    """Remove what no point needs."""
    return _in_repository(services, JobKind.GC, asked, {}, request, out)


@router.post("/jobs/copy", status_code=202, response_model=JobShape)
@writes(Area.JOBS, OPERATORS)
def ask_copy(services: ServicesHere, asked: CopyAsked, request: Request, out: Response) -> Job:
    """Copy points to another repository."""
    services.catalog.repositories.get(asked.to)
    content = asked.model_dump(include={"to", "points", "machine", "last"})
    return _in_repository(services, JobKind.COPY, asked, content, request, out)


@router.post("/jobs/discover", status_code=202, response_model=JobShape)
@writes(Area.JOBS, OPERATORS)
def ask_discover(
    services: ServicesHere, asked: DiscoverAsked, request: Request, out: Response
) -> Job:
    """Look at what runs on a host, or on all of them."""
    if asked.host_id is not None:
        services.catalog.hosts.get(asked.host_id)
    wanted = request_of(
        JobKind.DISCOVER, asked.host_id or "*", {}, asked, caller_of(request),
        host_id=asked.host_id,
    )  # fmt: skip
    return submit(services, wanted, request, out)


_InRepository = VerifyAsked | PruneAsked | GcAsked | CopyAsked


def _in_repository(
    services: Services,
    kind: JobKind,
    asked: _InRepository,
    content: Json,
    request: Request,
    out: Response,
) -> Job:
    services.catalog.repositories.get(asked.repository_id)
    wanted = request_of(
        kind, asked.repository_id, content, asked, caller_of(request),
        repository_id=asked.repository_id,
    )  # fmt: skip
    return submit(services, wanted, request, out)
