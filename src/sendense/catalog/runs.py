"""Jobs in the hands of workers: placed, begun, renewed, ended, and taken over from the dead.

Everything that a worker says of a job names its take.  It is compared in the statement that changes
something, so that a worker which was taken for dead changes nothing.
What belongs together is one transaction: a job is running if, and only if, it has a run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from sendense.catalog.database import Database
from sendense.catalog.rows import columns_of, given, row_of, value_of
from sendense.catalog.tables import ATTEMPTS, INSTANCES, JOBS, RUNS, WORKERS
from sendense.catalog.workers import beat
from sendense.model.admission import BURDEN_HOSTS, Waiting
from sendense.model.identity import new_id
from sendense.model.job import Job, JobFailure, JobKind, JobRequest, JobState, Json
from sendense.model.running import Attempt, Run, Worker

_MOST = 2000
"""Jobs that are looked at in one go: more than begin at once anywhere."""
_HELD = (JobState.RUNNING, JobState.CANCELLING)


@dataclass(frozen=True)
class Taken:
    """A job that a worker has taken up."""

    job: Job
    run: Run


@dataclass(frozen=True)
class Ending:
    """What became of an attempt."""

    state: JobState
    """``queued``: it is tried again."""
    then: str
    """What follows, and why."""
    result: Json | None = None
    failure: JobFailure | None = None
    not_before: datetime | None = None
    follow_up: tuple[JobRequest, ...] = ()
    """Jobs that are submitted with it, in the same transaction."""


class Runs:
    """All runs."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def list(self) -> tuple[Run, ...]:
        """Give all of them."""
        with self._database.read() as connection:
            return _runs(connection)

    def attempts(self, job_id: str) -> tuple[Attempt, ...]:
        """Give the attempts at a job that have ended."""
        query = select(*columns_of(Attempt, ATTEMPTS)).where(ATTEMPTS.c.job_id == job_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(ATTEMPTS.c.attempt)).all()
        return tuple(value_of(Attempt, row) for row in rows)

    def any_due(self, now: datetime) -> bool:
        """Tell whether a job waits that need not wait for its time."""
        query = select(exists().where(*_due(now)))
        with self._database.read() as connection:
            return bool(connection.execute(query).scalar())

    # --- In the hands of a worker

    def take_up(self, job_id: str, worker: Worker, at: datetime) -> Taken | None:
        """Begin, or go on with, a job that was placed on a worker; none if it is not (any more).

        One that was placed on the life before of the same worker goes on in this one.
        """
        alive = select(WORKERS.c.incarnation).where(WORKERS.c.name == worker.name)
        here = (RUNS.c.job_id == job_id) & (RUNS.c.worker == worker.name)
        adopted = case((RUNS.c.incarnation == worker.incarnation, 0), else_=1)
        values = {
            "take": RUNS.c.take + adopted,
            "incarnation": worker.incarnation,
            "begun_at": func.coalesce(RUNS.c.begun_at, at),
            "beat": RUNS.c.beat + 1,
        }
        with self._database.write() as connection:
            if connection.execute(alive).scalar() != worker.incarnation:
                return None
            if not connection.execute(update(RUNS).where(here).values(values)).rowcount:
                return None
            run = connection.execute(_select_runs().where(here)).one()
            job = connection.execute(_select_jobs().where(JOBS.c.id == job_id)).one()
            return Taken(value_of(Job, job), value_of(Run, run))

    def renew(
        self, worker: Worker, at: datetime, held: Mapping[str, Run], progress: Mapping[str, Json]
    ) -> dict[str, JobState] | None:
        """Say that a worker lives and holds jobs, by their ids; and how far they have come.

        Gives the state of each that it really holds; none if another process has its name.
        """
        with self._database.write() as connection:
            if not beat(connection, worker, at):
                return None
            kept = [job_id for job_id, run in held.items() if _raise_beat(connection, run)]
            for job_id in kept:
                if job_id in progress:
                    values = {"progress": dict(progress[job_id])}
                    connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(values))
            states = select(JOBS.c.id, JOBS.c.state).where(JOBS.c.id.in_(kept))
            return {row.id: row.state for row in connection.execute(states)} if kept else {}

    def end(self, run: Run, ending: Ending, at: datetime) -> JobState | None:
        """Record what became of an attempt; none, and nothing, if the job is in other hands.

        A wish to cancel that came meanwhile wins over another attempt.
        """
        with self._database.write() as connection:
            return end_run(connection, run, ending, at)


def end_run(connection: Connection, run: Run, ending: Ending, at: datetime) -> JobState | None:
    """As :meth:`Runs.end`, in a transaction of the caller's."""
    mine = select(RUNS.c.job_id).where(_same(run)).with_for_update()
    if connection.execute(mine).first() is None:
        return None
    query = select(JOBS.c.state).where(JOBS.c.id == run.job_id).with_for_update()
    state, then = ending.state, ending.then
    if connection.execute(query).scalar_one() is JobState.CANCELLING and state is JobState.QUEUED:
        state, then = JobState.CANCELLED, f"cancelled; it had failed: {then}"
    news = given(result=ending.result, failure=ending.failure, not_before=ending.not_before)
    changes: dict[str, Any] = {"state": state, "progress": None, **news}
    if state is JobState.QUEUED:
        changes["attempt"] = JOBS.c.attempt + 1
    else:
        changes["finished_at"] = at
    if state is JobState.SUCCEEDED:
        changes["failure"] = None  # of an attempt before
    connection.execute(update(JOBS).where(JOBS.c.id == run.job_id).values(changes))
    connection.execute(delete(RUNS).where(RUNS.c.job_id == run.job_id))
    attempt = Attempt(
        run.job_id, run.attempt, run.worker, run.take, run.placed_at, at, ending.failure, then
    )
    connection.execute(insert(ATTEMPTS), row_of(attempt, ATTEMPTS))
    submit_all(connection, ending.follow_up, at)
    return state


def submit_all(connection: Connection, requests: Sequence[JobRequest], at: datetime) -> None:
    """Remember requests as queued jobs."""
    rows = [
        row_of(
            Job(
                id=new_id(at),
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
            ),
            JOBS,
        )
        for request in requests
    ]
    if rows:
        connection.execute(insert(JOBS), rows)


# --- In the hands of the dispatcher, inside its turn


def running(connection: Connection) -> tuple[Waiting, ...]:
    """Give what counts of the jobs that run."""
    columns = (JOBS.c.id, JOBS.c.kind, JOBS.c.subject, JOBS.c.host_id, JOBS.c.repository_id)
    rows = connection.execute(select(*columns).where(JOBS.c.state.in_(_HELD)))
    return tuple(_waiting(row) for row in rows)


def waiting(
    connection: Connection,
    now: datetime,
    *,
    closed_policies: Collection[str] = (),
    full_hosts: Collection[str] = (),
    full_repositories: Collection[str] = (),
) -> tuple[Waiting, ...]:
    """Give the first jobs that might begin, by rank, without those behind a limit that is reached.

    Restores come before all else, what people asked for before what schedules did; then priority
    and age.  The host is where the instance is now, not where it was when the job was submitted;
    but a restore goes to the host that was asked for.
    """
    host = case(
        (JOBS.c.kind == JobKind.RESTORE, JOBS.c.host_id),
        else_=func.coalesce(INSTANCES.c.host_id, JOBS.c.host_id),
    )
    busy = select(JOBS.c.subject).where(JOBS.c.state.in_(_HELD))
    query = (
        select(JOBS.c.id, JOBS.c.kind, JOBS.c.subject, host, JOBS.c.repository_id)
        .select_from(JOBS.outerjoin(INSTANCES, INSTANCES.c.uuid == JOBS.c.subject))
        .where(*_due(now), JOBS.c.subject.not_in(busy))
        .order_by(*_rank())
    )
    for column, closed in (
        (JOBS.c.policy_id, closed_policies),
        (JOBS.c.repository_id, full_repositories),
    ):
        if closed:
            query = query.where(or_(column.is_(None), column.not_in(sorted(closed))))
    if full_hosts:
        burdens = JOBS.c.kind.in_(sorted(BURDEN_HOSTS))
        full = and_(burdens, host.is_not(None), host.in_(sorted(full_hosts)))
        query = query.where(~func.coalesce(full, False))
    # Read to the end first: the caller changes the very rows.
    return tuple(_waiting(row) for row in connection.execute(query.limit(_MOST)))


def place(connection: Connection, job: Waiting, worker: Worker, at: datetime) -> Run | None:
    """Give a waiting job to a worker; none if it does not wait any more."""
    values = {
        "state": JobState.RUNNING,
        "started_at": func.coalesce(JOBS.c.started_at, at),
        "host_id": job.host_id,
    }
    here = (JOBS.c.id == job.job_id) & (JOBS.c.state == JobState.QUEUED)
    moved = update(JOBS).where(here).values(values).returning(JOBS.c.attempt)
    attempt = connection.execute(moved).scalar()
    if attempt is None:
        return None
    run = Run(
        job_id=job.job_id,
        attempt=attempt,
        take=1,
        workflow_id=f"{job.job_id}-{attempt}",
        worker=worker.name,
        incarnation=worker.incarnation,
        placed_at=at,
    )
    connection.execute(insert(RUNS), row_of(run, RUNS))
    return run


def hand_over(connection: Connection, run: Run, worker: Worker, workflow_id: str) -> bool:
    """Take a run from its worker for another one; false if it moved meanwhile."""
    values = {
        "take": RUNS.c.take + 1,
        "worker": worker.name,
        "incarnation": worker.incarnation,
        "workflow_id": workflow_id,
        "beat": 0,
    }
    return connection.execute(update(RUNS).where(_same(run)).values(values)).rowcount > 0


def state_of(connection: Connection, job_id: str) -> JobState:
    """Give the state of a job."""
    state: JobState = connection.execute(
        select(JOBS.c.state).where(JOBS.c.id == job_id)
    ).scalar_one()
    return state


def kind_of(connection: Connection, job_id: str) -> JobKind:
    """Give the kind of a job."""
    kind: JobKind = connection.execute(select(JOBS.c.kind).where(JOBS.c.id == job_id)).scalar_one()
    return kind


def _waiting(row: Sequence[Any]) -> Waiting:
    return Waiting(row[0], row[1], row[2], row[3], row[4])


def _rank() -> Iterable[ColumnElement[Any]]:
    urgency = case((JOBS.c.kind == JobKind.RESTORE, 2), (JOBS.c.policy_id.is_(None), 1), else_=0)
    return urgency.desc(), JOBS.c.priority.desc(), JOBS.c.created_at, JOBS.c.id


def _due(now: datetime) -> list[ColumnElement[bool]]:
    in_time = or_(JOBS.c.not_before.is_(None), JOBS.c.not_before <= now)
    return [JOBS.c.state == JobState.QUEUED, in_time]


def _same(run: Run) -> ColumnElement[bool]:
    """Give the condition that a job is still in the same hands.

    Takes are counted anew in each attempt.
    """
    return and_(RUNS.c.job_id == run.job_id, RUNS.c.attempt == run.attempt, RUNS.c.take == run.take)


def _raise_beat(connection: Connection, run: Run) -> bool:
    raised = update(RUNS).where(_same(run)).values(beat=RUNS.c.beat + 1)
    return connection.execute(raised).rowcount > 0


def _runs(connection: Connection) -> tuple[Run, ...]:
    rows = connection.execute(_select_runs().order_by(RUNS.c.job_id)).all()
    return tuple(value_of(Run, row) for row in rows)


def _select_runs() -> Select[Any]:
    return select(*columns_of(Run, RUNS))


def _select_jobs() -> Select[Any]:
    return select(*columns_of(Job, JOBS))
