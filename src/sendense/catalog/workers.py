"""Workers, and whose turn it is where only one process may act at a time.

Nothing here compares clocks.  A worker and the holder of a turn raise a number; whoever waits for
them to be dead watches it with a clock of its own (:mod:`sendense.jobs.watching`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.rows import columns_of, row_of, value_of
from sendense.catalog.tables import TURNS, WORKERS
from sendense.errors import Conflict
from sendense.model.running import Worker


class Workers:
    """All workers that are alive, or died without a farewell."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def register(self, worker: Worker) -> None:
        """Begin a life under a name; whoever had it before has lost it."""
        with self._database.write() as connection:
            connection.execute(delete(WORKERS).where(WORKERS.c.name == worker.name))
            connection.execute(insert(WORKERS), row_of(worker, WORKERS))

    def list(self) -> tuple[Worker, ...]:
        """Give all of them, by name."""
        query = select(*columns_of(Worker, WORKERS)).order_by(WORKERS.c.name)
        with self._database.read() as connection:
            return tuple(value_of(Worker, row) for row in connection.execute(query))

    def resize(self, name: str, incarnation: str, slots: int) -> None:
        """Change how many jobs one takes; 0 before it stops."""
        mine = (WORKERS.c.name == name) & (WORKERS.c.incarnation == incarnation)
        with self._database.write() as connection:
            connection.execute(update(WORKERS).where(mine).values(slots=slots))

    def leave(self, name: str, incarnation: str) -> None:
        """End a life: its runs are free for others from now on."""
        mine = (WORKERS.c.name == name) & (WORKERS.c.incarnation == incarnation)
        with self._database.write() as connection:
            connection.execute(delete(WORKERS).where(mine))


def beat(connection: Connection, worker: Worker, at: datetime) -> bool:
    """Say that a worker lives, also if it was taken for dead; false if another has its name."""
    here = WORKERS.c.name == worker.name
    values = {"beat": WORKERS.c.beat + 1, "seen_at": at}
    mine = update(WORKERS).where(here, WORKERS.c.incarnation == worker.incarnation)
    if connection.execute(mine.values(values)).rowcount:
        return True
    if connection.execute(select(WORKERS.c.name).where(here)).first() is not None:
        return False
    connection.execute(insert(WORKERS), row_of(replace(worker, seen_at=at), WORKERS))
    return True


@dataclass(frozen=True)
class Turn:
    """Who has a turn."""

    holder: str
    beat: int


class Turns:
    """Turns, by name."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def get(self, name: str) -> Turn | None:
        """Tell who has it."""
        query = select(TURNS.c.holder, TURNS.c.beat).where(TURNS.c.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else Turn(row.holder, row.beat)

    def take(self, name: str, holder: str, seen: Turn | None) -> bool:
        """Take it from whom it was seen with; false if somebody else was faster, or it moved."""
        with self._database.write() as connection:
            self._database.alone(connection, TURNS)
            if seen is None:
                query = select(TURNS.c.name).where(TURNS.c.name == name)
                if connection.execute(query).first() is not None:
                    return False
                row = {"name": name, "holder": holder, "beat": 1}
                connection.execute(insert(TURNS), row)
                return True
            same = (TURNS.c.holder == seen.holder) & (TURNS.c.beat == seen.beat)
            statement = update(TURNS).where(TURNS.c.name == name, same)
            changed = connection.execute(statement.values(holder=holder, beat=TURNS.c.beat + 1))
            return changed.rowcount > 0

    @contextmanager
    def act(self, name: str, holder: str) -> Iterator[Connection]:
        """Open a transaction that counts only while the turn is the holder's.

        It holds the row until its end, so that nobody takes the turn in its middle;
        :class:`~sendense.errors.Conflict` if somebody has.
        """
        with self._database.write() as connection:
            statement = update(TURNS).where(TURNS.c.name == name, TURNS.c.holder == holder)
            if not connection.execute(statement.values(beat=TURNS.c.beat + 1)).rowcount:
                raise Conflict(f"the turn {name!r} went to somebody else")
            yield connection

    def give_up(self, name: str, holder: str) -> None:
        """Let others have it at once."""
        mine = (TURNS.c.name == name) & (TURNS.c.holder == holder)
        with self._database.write() as connection:
            connection.execute(delete(TURNS).where(mine))
