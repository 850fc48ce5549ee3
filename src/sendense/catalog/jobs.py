"""Jobs: what was asked for, and where it stands.

A job is moved by one statement that names the state it leaves: ``UPDATE ... WHERE state = old``.
So of two who move it at once exactly one does, and the other is told
(:class:`~sendense.errors.Conflict`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import columns_of, equal, given, granted, read_one, row_of, value_of
from sendense.catalog.tables import INSTANCES, JOB_FACTS, JOBS
from sendense.errors import Conflict, NotFound
from sendense.model.access import Grant
from sendense.model.identity import new_id
from sendense.model.job import (
    FINAL_STATES,
    OPEN_STATES,
    TRANSITIONS,
    Job,
    JobFailure,
    JobKind,
    JobRequest,
    JobState,
    Json,
    after_cancel,
)
from sendense.model.page import FIRST, Page, Paging


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are wanted; what is none does not count."""

    kind: JobKind | None = None
    states: Collection[JobState] = ()
    """None of them: all."""
    subject: str | None = None
    grant: Grant | None = None
    """On instances that it covers; what a tenant may see."""
    host_id: str | None = None
    repository_id: str | None = None
    policy_id: str | None = None
    requested_by: str | None = None


ALL = JobFilter()


@dataclass(frozen=True)
class Failing:
    """Jobs on a subject that failed since the last that succeeded."""

    count: int
    last: JobFailure | None


@dataclass(frozen=True)
class JobNews:
    """What is to be said about a job as it moves; what is none stays as it was."""

    result: Json | None = None
    failure: JobFailure | None = None
    not_before: datetime | None = None
    """When the next attempt may begin."""


NO_NEWS = JobNews()


class Jobs:
    """All jobs."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def submit(self, request: JobRequest, at: datetime, *, job_id: str | None = None) -> Job:
        """Remember a request as a queued job."""
        job = Job(
            id=job_id or new_id(at),
            kind=request.kind,
            subject=request.subject,
            content=dict(request.content),
            state=JobState.QUEUED,
            attempt=1,
            priority=request.priority,
            requested_by=request.requested_by,
            created_at=at,
            host_id=request.host_id,
            repository_id=request.repository_id,
            policy_id=request.policy_id,
            not_before=request.not_before,
        )
        with self._database.write() as connection:
            connection.execute(insert(JOBS), row_of(job, JOBS))
        return job

    def get(self, job_id: str, grant: Grant | None = None) -> Job:
        """Give one; with a grant only one on an instance that it covers."""
        where = (JOBS.c.id == job_id, *self._granted(grant))
        with self._database.read() as connection:
            return read_one(connection, Job, JOBS, *where, what=f"job {job_id}")

    def page(self, paging: Paging = FIRST, wanted: JobFilter = ALL) -> Page[Job]:
        """List them, newest first."""
        query = _select().where(*_conditions(wanted), *self._granted(wanted.grant))
        order = (JOBS.c.created_at, JOBS.c.id)
        with self._database.read() as connection:
            return read_page(
                connection, query, order, paging, lambda row: value_of(Job, row),
                newest_first=True,
            )  # fmt: skip

    def open(self) -> tuple[Job, ...]:
        """Give all that are not final: the most urgent first, and the oldest of them."""
        query = _select().where(JOBS.c.state.in_(sorted(OPEN_STATES)))
        order = (JOBS.c.priority.desc(), JOBS.c.created_at, JOBS.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(*order)).all()
        return tuple(value_of(Job, row) for row in rows)

    def move(
        self, job_id: str, was: JobState, to: JobState, at: datetime, news: JobNews = NO_NEWS
    ) -> Job:
        """Move a job from one state to the next, with what there is to say about it.

        :class:`~sendense.errors.Conflict` if it was in another one: then nothing is changed.
        """
        if to not in TRANSITIONS[was]:
            raise Conflict(f"a job that is {was.value} does not become {to.value}", job=job_id)
        changes = given(**vars(news)) | _entering(was, to, at)
        statement = update(JOBS).where(JOBS.c.id == job_id, JOBS.c.state == was).values(changes)
        with self._database.write() as connection:
            moved = connection.execute(statement).rowcount
            job = _read(connection, job_id)
        if not moved:
            raise Conflict(
                f"job {job_id} is {job.state.value}, and not {was.value}",
                hint="somebody else was faster",
                job=job_id,
                state=job.state.value,
            )
        return job

    def request_cancel(self, job_id: str, at: datetime) -> Job:
        """Ask for the end of a job; :class:`~sendense.errors.Conflict` if it has ended.

        One that waits is cancelled by that.  One that runs is told, and ends as soon as it can.
        Asked again, nothing more happens.
        """
        with self._database.write() as connection:
            # Nobody moves it between the look and the change.
            query = _select().where(JOBS.c.id == job_id).with_for_update()
            row = connection.execute(query).first()
            if row is None:
                raise NotFound(f"there is no job {job_id}")
            job = value_of(Job, row)
            if job.state in FINAL_STATES:
                raise Conflict(f"job {job_id} has {_ENDED[job.state]} already", job=job_id)
            to = after_cancel(job.state)
            changes = {"cancel_requested": True} | (_entering(job.state, to, at) if to else {})
            connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(changes))
            return _read(connection, job_id)

    def wants_cancel(self, job_id: str) -> bool:
        """Tell whether somebody asked for its end."""
        query = select(JOBS.c.cancel_requested).where(JOBS.c.id == job_id)
        with self._database.read() as connection:
            return bool(connection.execute(query).scalar())

    def report(self, job_id: str, progress: Json) -> None:
        """Remember how far a job has come, unless it has ended."""
        where = (JOBS.c.id == job_id) & JOBS.c.state.in_(sorted(OPEN_STATES))
        with self._database.write() as connection:
            connection.execute(update(JOBS).where(where).values(progress=dict(progress)))

    def show_host(self, job_id: str, host_id: str) -> None:
        """Say at which host a job works, where that was found only when it began."""
        with self._database.write() as connection:
            connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(host_id=host_id))

    def remember(self, job_id: str, fact: Json) -> None:
        """Make a fact of a job durable: what a later try has to know, should this one die.

        Facts are only added.  So one that a worker writes who has lost the job takes nothing from
        the worker who has it.
        """
        with self._database.write() as connection:
            connection.execute(insert(JOB_FACTS), {"job_id": job_id, "fact": dict(fact)})

    def facts(self, job_id: str) -> tuple[Json, ...]:
        """Give what was remembered of a job, oldest first."""
        query = select(JOB_FACTS.c.fact).where(JOB_FACTS.c.job_id == job_id)
        with self._database.read() as connection:
            return tuple(connection.scalars(query.order_by(JOB_FACTS.c.number)))

    def counts(self) -> dict[JobState, int]:
        """Count the jobs that are not final, by state."""
        query = select(JOBS.c.state, func.count()).where(JOBS.c.state.in_(sorted(OPEN_STATES)))
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(JOBS.c.state)).all()
        return dict.fromkeys(OPEN_STATES, 0) | {row[0]: row[1] for row in rows}

    def failing(
        self, kind: JobKind, since: datetime, *, subject: str | None = None
    ) -> dict[str, Failing]:
        """Give the subjects whose jobs of a kind failed, and did not succeed since."""
        ok, bad = JOBS.alias(), JOBS.alias()
        succeeded = (
            select(ok.c.subject, func.max(ok.c.finished_at).label("at"))
            .where(ok.c.kind == kind, ok.c.finished_at >= since)
            .where(ok.c.state == JobState.SUCCEEDED, *equal({ok.c.subject: subject}))
            .group_by(ok.c.subject)
            .subquery()
        )
        counted = (
            select(
                bad.c.subject, func.count().label("count"), func.max(bad.c.finished_at).label("at")
            )
            .outerjoin(succeeded, succeeded.c.subject == bad.c.subject)
            .where(bad.c.kind == kind, bad.c.finished_at >= since)
            .where(bad.c.state == JobState.FAILED, *equal({bad.c.subject: subject}))
            .where(succeeded.c.at.is_(None) | (bad.c.finished_at > succeeded.c.at))
            .group_by(bad.c.subject)
            .subquery()
        )
        last = and_(
            JOBS.c.kind == kind,
            JOBS.c.subject == counted.c.subject,
            JOBS.c.finished_at == counted.c.at,
        )
        query = select(JOBS.c.subject, counted.c.count, JOBS.c.failure).join(counted, last)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {row.subject: Failing(row[1], row.failure) for row in rows}

    def newest_of_policies(
        self, kind: JobKind, since: datetime, *, subject: str | None = None
    ) -> dict[tuple[str, str], datetime]:
        """Give when the newest job of a kind was made, by policy and subject."""
        query = (
            select(JOBS.c.policy_id, JOBS.c.subject, func.max(JOBS.c.created_at))
            .where(JOBS.c.created_at >= since, JOBS.c.kind == kind, JOBS.c.policy_id.is_not(None))
            .where(*equal({JOBS.c.subject: subject}))
            .group_by(JOBS.c.policy_id, JOBS.c.subject)
        )
        with self._database.read() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def forget(self, finished_before: datetime) -> int:
        """Forget jobs that ended before a moment; gives how many."""
        with self._database.write() as connection:
            found = connection.execute(delete(JOBS).where(JOBS.c.finished_at < finished_before))
            return found.rowcount

    def _granted(self, grant: Grant | None) -> list[ColumnElement[bool]]:
        if grant is None:
            return []
        covered = select(INSTANCES.c.uuid).where(
            *granted(self._database, grant, INSTANCES.c.uuid, INSTANCES.c.name)
        )
        return [or_(JOBS.c.subject.in_(grant.instances), JOBS.c.subject.in_(covered))]


_ENDED = {
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "been cancelled",
}


def _entering(was: JobState, to: JobState, at: datetime) -> dict[str, Any]:
    """Give what changes with a state by itself."""
    changes: dict[str, Any] = {"state": to}
    if to is JobState.RUNNING:
        changes["started_at"] = func.coalesce(JOBS.c.started_at, at)
    if to is JobState.QUEUED and was is JobState.RUNNING:
        changes["attempt"] = JOBS.c.attempt + 1
    if to is JobState.CANCELLING:
        changes["cancel_requested"] = True
    if to in FINAL_STATES:
        changes["finished_at"] = at
    return changes


def _select() -> Select[Any]:
    return select(*columns_of(Job, JOBS))


def _read(connection: Connection, job_id: str) -> Job:
    return read_one(connection, Job, JOBS, JOBS.c.id == job_id, what=f"job {job_id}")


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    conditions = equal(
        {
            JOBS.c.kind: wanted.kind,
            JOBS.c.subject: wanted.subject,
            JOBS.c.host_id: wanted.host_id,
            JOBS.c.repository_id: wanted.repository_id,
            JOBS.c.policy_id: wanted.policy_id,
            JOBS.c.requested_by: wanted.requested_by,
        }
    )
    if wanted.states:
        conditions.append(JOBS.c.state.in_(sorted(wanted.states)))
    return conditions
