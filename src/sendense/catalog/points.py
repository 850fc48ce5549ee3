"""Recovery points: an index over all repositories, which can be made again from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    distinct,
    func,
    not_,
    select,
    update,
)

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import (
    columns_of,
    equal,
    granted,
    read_one,
    require_row,
    row_of,
    value_of,
)
from sendense.catalog.tables import INSTANCES, POINTS
from sendense.model.access import Grant
from sendense.model.decision import Mode
from sendense.model.holdings import Holding, PointEntry
from sendense.model.page import FIRST, Page, Paging
from sendense.model.point import PointState

_BATCH = 500


@dataclass(frozen=True)
class PointFilter:
    """Which points are wanted; what is none does not count."""

    repository_id: str | None = None
    machine_uuid: str | None = None
    machine_name: str | None = None
    """The whole name."""
    mode: Mode | None = None
    state: PointState | None = None
    pinned: bool | None = None
    after: datetime | None = None
    """Taken then or later."""
    before: datetime | None = None
    grant: Grant | None = None
    safety: bool | None = None
    """Whether it was made to undo a restore."""


ALL = PointFilter()


class Points:
    """All points of all repositories."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def put(self, entries: Iterable[PointEntry], at: datetime) -> None:
        """Remember points, or what changed of them."""
        with self._database.write() as connection:
            self._put(connection, entries, at)

    def replace(
        self, repository_id: str, entries: Iterable[PointEntry], *, listed_at: datetime
    ) -> int:
        """Have exactly the points of a repository, as it listed them; gives how many others went.

        Points that were put after ``listed_at``, the moment before it was listed, stay: the list
        could not know them.
        """
        known: set[str] = set()
        with self._database.write() as connection:
            for some in _in_batches(entries):
                known.update(entry.id for entry in some)
                self._put(connection, some, listed_at)
            older = (POINTS.c.repository_id == repository_id) & (POINTS.c.recorded_at <= listed_at)
            there: set[str] = set(connection.scalars(select(POINTS.c.id).where(older)))
            return _remove(connection, repository_id, sorted(there - known))

    def remove(self, repository_id: str, ids: Sequence[str]) -> int:
        """Forget points that a repository no longer has; gives how many were known."""
        with self._database.write() as connection:
            return _remove(connection, repository_id, ids)

    def get(self, point_id: str, repository_id: str, grant: Grant | None = None) -> PointEntry:
        """Give one."""
        where = (POINTS.c.id == point_id, POINTS.c.repository_id == repository_id)
        what = f"point {point_id} in repository {repository_id}"
        with self._database.read() as connection:
            granted = self._granted(grant)
            return read_one(connection, PointEntry, POINTS, *where, *granted, what=what)

    def copies(self, point_id: str, grant: Grant | None = None) -> tuple[PointEntry, ...]:
        """Give a point as each repository has it."""
        query = _select().where(POINTS.c.id == point_id, *self._granted(grant))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(POINTS.c.repository_id)).all()
        return tuple(value_of(PointEntry, row) for row in rows)

    def page(self, paging: Paging = FIRST, wanted: PointFilter = ALL) -> Page[PointEntry]:
        """List them, newest first."""
        query = _select().where(*self._conditions(wanted))
        order = (POINTS.c.taken_at, POINTS.c.id, POINTS.c.repository_id)
        with self._database.read() as connection:
            return read_page(
                connection, query, order, paging, lambda row: value_of(PointEntry, row),
                newest_first=True,
            )  # fmt: skip

    def count(self, wanted: PointFilter = ALL) -> int:
        """Count them; one that several repositories have is one."""
        query = select(func.count(distinct(POINTS.c.id))).where(*self._conditions(wanted))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def of_machine(self, machine_uuid: str, repository_id: str) -> tuple[PointEntry, ...]:
        """Give the points of one machine in one repository, in their order there."""
        query = _select().where(
            POINTS.c.machine_uuid == machine_uuid, POINTS.c.repository_id == repository_id
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(POINTS.c.sequence)).all()
        return tuple(value_of(PointEntry, row) for row in rows)

    def hold(
        self, point_id: str, repository_id: str, *, pinned: bool, locked_until: datetime | None
    ) -> None:
        """Remember what keeps a point."""
        where = (POINTS.c.id == point_id) & (POINTS.c.repository_id == repository_id)
        change = {"pinned": pinned, "locked_until": locked_until}
        with self._database.write() as connection:
            found = connection.execute(update(POINTS).where(where).values(change))
            require_row(found.rowcount, f"point {point_id} in repository {repository_id}")

    def newest_good(self) -> dict[str, datetime]:
        """Give when the newest point that can be trusted was taken, of each machine by UUID.

        A safety point is none: it has what a restore was to do away with, and goes after some days.
        """
        newest = func.max(POINTS.c.taken_at, type_=POINTS.c.taken_at.type).label("newest")
        query = select(POINTS.c.machine_uuid, newest).where(
            POINTS.c.state == PointState.COMPLETE, not_(POINTS.c.safety)
        )
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(POINTS.c.machine_uuid)).all()
        return {row.machine_uuid: row.newest for row in rows}

    def holding(self, repository_id: str | None = None, grant: Grant | None = None) -> Holding:
        """Count what a repository, or all of them, hold; with a grant only what it covers."""
        # By machine first: PostgreSQL would sort all points to count the distinct ones.
        machines = (
            select(func.count().label("points"), func.sum(POINTS.c.stored_bytes).label("stored"))
            .where(*equal({POINTS.c.repository_id: repository_id}), *self._granted(grant))
            .group_by(POINTS.c.machine_uuid)
            .subquery()
        )
        sums = (func.coalesce(func.sum(column), 0) for column in machines.c)
        query = select(*sums, func.count()).select_from(machines)
        with self._database.read() as connection:
            row = connection.execute(query).one()
        return Holding(points=int(row[0]), machines=int(row[2]), stored_bytes=int(row[1]))

    def stored_since(self, moment: datetime) -> int:
        """Sum what the points that were taken since then store."""
        query = select(func.coalesce(func.sum(POINTS.c.stored_bytes), 0))
        with self._database.read() as connection:
            return int(connection.execute(query.where(POINTS.c.taken_at >= moment)).scalar_one())

    def _put(self, connection: Connection, entries: Iterable[PointEntry], at: datetime) -> None:
        statement = self._database.upsert(
            POINTS, ("id", "repository_id"), keep_if_null=("job_id",)
        )  # fmt: skip
        for some in _in_batches(entries):
            rows = [row_of(entry, POINTS) | {"recorded_at": at} for entry in some]
            connection.execute(statement, rows)

    def _conditions(self, wanted: PointFilter) -> list[ColumnElement[bool]]:
        conditions = equal(
            {
                POINTS.c.repository_id: wanted.repository_id,
                POINTS.c.machine_uuid: wanted.machine_uuid,
                POINTS.c.machine_name: wanted.machine_name,
                POINTS.c.mode: wanted.mode,
                POINTS.c.state: wanted.state,
                POINTS.c.pinned: wanted.pinned,
                POINTS.c.safety: wanted.safety,
            }
        )
        if wanted.after is not None:
            conditions.append(POINTS.c.taken_at >= wanted.after)
        if wanted.before is not None:
            conditions.append(POINTS.c.taken_at < wanted.before)
        return [*conditions, *self._granted(wanted.grant)]

    def _granted(self, grant: Grant | None) -> list[ColumnElement[bool]]:
        """Of the names of then, and not of an instance that has a name of somebody else's now."""
        if grant is None:
            return []
        then = granted(self._database, grant, POINTS.c.machine_uuid, POINTS.c.machine_name)
        now = granted(self._database, grant, INSTANCES.c.uuid, INSTANCES.c.name)
        others = select(INSTANCES.c.uuid).where(not_(and_(*now)))
        return [*then, POINTS.c.machine_uuid.not_in(others)]


def _select() -> Select[Any]:
    return select(*columns_of(PointEntry, POINTS))


def _in_batches(entries: Iterable[PointEntry]) -> Iterator[tuple[PointEntry, ...]]:
    rest = iter(entries)
    while some := tuple(islice(rest, _BATCH)):
        yield some


def _remove(connection: Connection, repository_id: str, ids: Sequence[str]) -> int:
    count = 0
    for start in range(0, len(ids), _BATCH):
        some = POINTS.c.id.in_(ids[start : start + _BATCH])
        here = POINTS.c.repository_id == repository_id
        count += connection.execute(delete(POINTS).where(some, here)).rowcount
    return count
