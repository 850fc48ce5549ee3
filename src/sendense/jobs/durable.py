"""DBOS, in one place: durable workflows for jobs that were admitted.

What DBOS is for here, and what not, is in ADR 0012.  In short: the table of jobs says what is to
be done and who may do it; DBOS remembers which steps of it are done, in the same database.  Its
queues are mailboxes, one for each worker, and hold only what was placed there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sendense.errors import Unavailable
from sendense.model.job import JobKind

_NAME = "sendense"
WORKFLOW_VERSION = "1"
"""Of the steps of the workflows, not of Sendense: workers of two releases share it while the steps
are the same.  A run of another version finds no worker, stands still, and is placed anew under this
one."""
_QUEUE_POLL_S = 0.25
_POOL = 4
_TIDY_AT_ONCE = 5000
_ENDED = frozenset({"SUCCESS", "ERROR"})


def prepare(url: str) -> None:
    """Bring DBOS's own tables into a database; harmless where they are."""
    _quiet()
    DBOS.migrate(url)


@dataclass(frozen=True)
class Place:
    """Where a workflow stands."""

    goes_on: bool
    """It is known, of this version, and has not ended: its steps so far count."""
    mailbox: str | None = None
    """Where it waits; none if a worker had it out."""


class Mailboxes:
    """The side of the dispatcher: workflows into the mailboxes of workers."""

    def __init__(self, url: str) -> None:
        """Reach for a database that was prepared."""
        _quiet()
        self._client = DBOSClient(
            system_database_url=url,
            application_name=_NAME,
            serializer=DBOSPortableJSONSerializer(),
            system_database_pool_size=_POOL,
            lazy=True,
            retry_connection_errors=False,
        )

    def open(self, worker: str) -> None:
        """Make the mailbox of a worker, where it has none yet."""
        with _translated():
            self._client.register_queue(
                mailbox(worker), polling_interval_sec=_QUEUE_POLL_S, on_conflict="always_update"
            )

    def post(
        self, connection: Connection, worker: str, workflow_id: str, kind: JobKind, job_id: str
    ) -> None:
        """Give a workflow to a worker, as part of the caller's transaction."""
        self._client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": kind.value,
                "queue_name": mailbox(worker),
                "workflow_id": workflow_id,
                "app_version": WORKFLOW_VERSION,
            },
            job_id,
        )

    def place_of(self, workflow_id: str) -> Place:
        """Tell where a workflow stands."""
        with _translated():
            found = self._client.list_workflows(
                workflow_ids=[workflow_id], load_input=False, load_output=False
            )
        if not found or found[0].status in _ENDED or found[0].app_version != WORKFLOW_VERSION:
            return Place(goes_on=False)
        waits = found[0].status == "ENQUEUED"
        return Place(goes_on=True, mailbox=found[0].queue_name if waits else None)

    def move(self, workflow_id: str, worker: str) -> None:
        """Let a workflow go on at another worker; the one before can record no more steps of it."""
        with _translated():
            self._client.resume_workflow(workflow_id, queue_name=mailbox(worker))

    def tidy(self, before: datetime, needed: Collection[str]) -> int:
        """Forget workflows from before a moment that no run needs; gives how many, some thousand
        at most.

        One that is not at its end is of a worker that died right after it had recorded the job.
        """
        with _translated():
            old = self._client.list_workflows(
                end_time=before.isoformat(),
                application_name=_NAME,
                limit=_TIDY_AT_ONCE,
                load_input=False,
                load_output=False,
            )
            idle = [each.workflow_id for each in old if each.workflow_id not in needed]
            if idle:
                self._client.cancel_workflows(idle)
                self._client.delete_workflows(idle)
        return len(idle)

    def close(self) -> None:
        """Let go of the database."""
        self._client.destroy()


class Engine:
    """The side of a worker: DBOS, carrying out what comes into its mailbox."""

    def __init__(self, url: str, worker: str, incarnation: str) -> None:
        """Prepare; nothing is carried out before :meth:`start`."""
        _quiet()
        config: DBOSConfig = {
            "name": _NAME,
            "system_database_url": url,
            # A new one for each life: DBOS by itself takes up nothing again. The dispatcher does.
            "executor_id": incarnation,
            "application_version": WORKFLOW_VERSION,
            "serializer": DBOSPortableJSONSerializer(),
            "sys_db_pool_size": _POOL,
            "use_listen_notify": False,
            "log_level": "CRITICAL",
            "scheduler_polling_interval_sec": 3600.0,
        }
        self._url = url
        self._worker = worker
        DBOS(config=config)

    def start(self) -> None:
        """Begin to carry out what comes."""
        # Before the launch, which looks for queues at once, and then after a second.
        mailboxes = Mailboxes(self._url)
        mailboxes.open(self._worker)
        mailboxes.close()
        DBOS.listen_queues([mailbox(self._worker)])
        DBOS.launch()

    def stop(self) -> None:
        """Take nothing more, and end; what is still being carried out is not waited for."""
        DBOS.destroy()


def step(name: str, action: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - any step's
    """Do something once: what it gave is remembered, and given again after a crash."""
    return DBOS.run_step({"name": name}, action, *arguments)


def mailbox(worker: str) -> str:
    """Name the queue of a worker."""
    return f"worker-{worker}"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        raise Unavailable("the database of the jobs does not answer") from error


def _quiet() -> None:
    """Let DBOS's warnings through to ours; the rest is about itself."""
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
