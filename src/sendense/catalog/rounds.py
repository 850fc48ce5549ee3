"""Rounds: which due times of which policies were dealt with.

A round and the jobs of all its instances are one transaction, and a policy has one round for each
due time.  So a run is submitted exactly once, however many servers look at the clock, and a server
that dies in the middle has submitted nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import columns_of, row_of, value_of
from sendense.catalog.tables import JOBS, POLICIES, ROUNDS
from sendense.model.job import OPEN_STATES, JobKind
from sendense.model.page import FIRST, Page, Paging
from sendense.model.running import Round


class Rounds:
    """All rounds."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def newest(self) -> dict[str, datetime]:
        """Give the newest due time that was dealt with, of each policy that has one."""
        query = select(ROUNDS.c.policy_id, func.max(ROUNDS.c.due)).group_by(ROUNDS.c.policy_id)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def of_policy(self, policy_id: str, limit: int = 100) -> tuple[Round, ...]:
        """Give the rounds of a policy, newest first."""
        query = select(*columns_of(Round, ROUNDS)).where(ROUNDS.c.policy_id == policy_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(ROUNDS.c.due.desc()).limit(limit)).all()
        return tuple(value_of(Round, row) for row in rows)

    def page(self, policy_id: str, paging: Paging = FIRST) -> Page[Round]:
        """List the rounds of a policy, newest first."""
        query = select(*columns_of(Round, ROUNDS)).where(ROUNDS.c.policy_id == policy_id)
        with self._database.read() as connection:
            return read_page(
                connection, query, (ROUNDS.c.due,), paging, lambda row: value_of(Round, row),
                newest_first=True,
            )  # fmt: skip

    def irregular(self, since: datetime, limit: int = 100) -> Sequence[Round]:
        """Give the rounds that were late, or before which some were missed; newest first."""
        odd = (ROUNDS.c.missed > 0) | ROUNDS.c.late
        query = select(*columns_of(Round, ROUNDS)).where(ROUNDS.c.due >= since, odd)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(ROUNDS.c.due.desc()).limit(limit)).all()
        return tuple(value_of(Round, row) for row in rows)

    def forget(self, before: datetime) -> int:
        """Forget old rounds, save for the newest of each policy; gives how many."""
        newest = select(func.max(ROUNDS.c.due)).group_by(ROUNDS.c.policy_id)
        old = (ROUNDS.c.due < before) & ROUNDS.c.due.not_in(newest)
        with self._database.write() as connection:
            return connection.execute(delete(ROUNDS).where(old)).rowcount


def alone_with(connection: Connection, policy_id: str) -> bool:
    """Keep others from making rounds of a policy until the transaction ends; false: it is gone.

    On SQLite a transaction that writes has the whole database to itself anyway.
    """
    query = select(POLICIES.c.id).where(POLICIES.c.id == policy_id)
    return connection.execute(query.with_for_update(key_share=True)).first() is not None


def newest_due(connection: Connection, policy_id: str) -> datetime | None:
    """Give the newest due time of a policy that was dealt with."""
    query = select(func.max(ROUNDS.c.due)).where(ROUNDS.c.policy_id == policy_id)
    newest: datetime | None = connection.execute(query).scalar()
    return newest


def remember(connection: Connection, made: Round) -> bool:
    """Remember a round; false if it was dealt with before."""
    here = (ROUNDS.c.policy_id == made.policy_id) & (ROUNDS.c.due == made.due)
    if connection.execute(select(ROUNDS.c.due).where(here)).first() is not None:
        return False
    connection.execute(insert(ROUNDS), row_of(made, ROUNDS))
    return True


def still_open(connection: Connection, policy_id: str, kind: JobKind) -> Collection[str]:
    """Give the subjects that a policy's run before still waits or runs for."""
    query = select(JOBS.c.subject).where(
        JOBS.c.policy_id == policy_id,
        JOBS.c.kind == kind,
        JOBS.c.state.in_(sorted(OPEN_STATES)),
    )
    return set(connection.execute(query).scalars())
