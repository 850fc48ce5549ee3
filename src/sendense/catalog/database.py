"""The database itself: SQLite or PostgreSQL behind one engine, and its failures as our errors.

A transaction is either for reading or for writing.  On SQLite one that writes takes the lock at its
beginning (``BEGIN IMMEDIATE``) and waits for it: one that began by reading could not, because what
it read might be out of date by then.  On PostgreSQL all of them are READ COMMITTED, and whoever
changes a row that others may change says in ``WHERE`` what it has to be.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Insert, Table, case, create_engine, event, func
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from sendense import clock
from sendense.errors import (
    AlreadyExists,
    Busy,
    Conflict,
    Damaged,
    OutOfSpace,
    Rejected,
    SendenseError,
    Unavailable,
)

_LOG = logging.getLogger(__name__)
_BUSY_MS = 30_000
"""How long a writer waits for the one before it."""
_POOL = {"pool_size": 10, "max_overflow": 40, "pool_timeout": 30}
_WRITES = "sendense_writes"
_UNIQUE_STATE = "23505"
_MISFIT = "a value does not fit into the catalogue"
_DISK_FULL = "53100"
_IN_TURN = frozenset({"40001", "40P01", "55P03"})
"""Deadlocks, and locks that were not free in time."""
_SURROUNDINGS = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PROTOCOL")
_PAGES_MIB = 64


class Database:
    """One database."""

    def __init__(self, url: str) -> None:
        """Reach for it; a connection is made with the first transaction."""
        parsed = _parse(url)
        self.shown = parsed.render_as_string(hide_password=True)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if self._sqlite:
            _make_private_file(parsed)
            self._engine = create_engine(parsed, **_POOL, hide_parameters=True)
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            # Parameters may be secrets, and errors end in logs.
            self._engine = create_engine(parsed, **_POOL, pool_pre_ping=True, hide_parameters=True)
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @property
    def kind(self) -> str:
        """Name it: ``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with _translated(self.shown), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, taken: str | None = None) -> Iterator[Connection]:
        """Open a transaction that writes; what it did counts if its block ends without an error.

        ``taken`` says what is there already if it is: ``policy named nightly``.
        """
        with _translated(self.shown, taken), self._writer.begin() as connection:
            yield connection

    def upsert(
        self, table: Table, keys: Sequence[str], *, keep_if_null: Sequence[str] = (),
        keep_later: Sequence[str] = (),
    ) -> Insert:  # fmt: skip
        """Give an insert that changes the row of the same key instead, where there is one.

        A column of ``keep_if_null`` stays as it is where the new row has nothing for it, and one of
        ``keep_later`` where it has an earlier moment.
        """
        insert = sqlite_insert(table) if self._sqlite else postgresql_insert(table)
        changed: dict[str, ColumnElement[Any]] = {}
        for column in table.columns:
            new: ColumnElement[Any] = insert.excluded[column.name]
            if column.name in keep_if_null:
                new = func.coalesce(new, column)
            elif column.name in keep_later:
                new = later(column, new)
            if column.name not in keys:
                changed[column.name] = new
        return insert.on_conflict_do_update(index_elements=list(keys), set_=changed)

    def alone(self, connection: Connection, table: Table) -> None:
        """Keep other writers off a table until the end of a transaction that writes.

        On SQLite it has the whole database to itself anyway.
        """
        if not self._sqlite:
            name = self._engine.dialect.identifier_preparer.format_table(table)
            connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")

    def fits(self, column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        """Compare a column with a pattern of ``*`` and ``?``, where case matters."""
        if self._sqlite:  # LIKE takes ASCII letters of both cases for the same there
            return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
        escaped = "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in pattern)
        return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Rejected(
            "the catalogue's URL is not readable",
            hint="write sqlite:////var/lib/sendense/catalog.db or postgresql://user@host/name",
        ) from None
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"postgresql+psycopg", "sqlite"} or (
        parsed.drivername == "sqlite" and parsed.database in {None, "", ":memory:"}
    ):
        raise Rejected(
            f"the catalogue cannot be in {parsed.drivername}",
            hint="it is in a file of SQLite or in PostgreSQL",
        )
    return parsed


def later(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    """Give the later of two moments: a clock that is behind another sets none back."""
    return case((one > other, one), else_=other)


def _make_private_file(url: URL) -> None:
    """Make the file before SQLite does, which would leave it to the umask who reads it."""
    path = Path(str(url.database))
    try:
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the catalogue {path} cannot be opened: {error.strerror}") from error


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin at the first change and are never IMMEDIATE.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}").close()
    _switch_to_wal(connection)
    for pragma in (
        # With WAL a power cut may otherwise lose the last transactions: a job would be undone.
        "synchronous = FULL",
        "foreign_keys = ON",
        f"mmap_size = {_PAGES_MIB << 20}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file, in turns: for this one SQLite does not wait, whatever the time-out."""
    end = clock.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or clock.monotonic() > end:
                raise
        clock.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated(place: str, taken: str | None = None) -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Busy("all connections to the catalogue's database are in use") from error
    except OverflowError as error:  # an integer beyond 64 bits
        raise Rejected(_MISFIT) from error
    except StatementError as error:
        known = _known(error)
        if known is None:
            raise
        if not isinstance(known, Rejected):
            # The errors themselves end at callers of the API, and do not say where it is.
            _LOG.warning("database %s: %s: %s", place, known, error.orig)
        if taken and isinstance(known, AlreadyExists):
            known = AlreadyExists(f"there is a {taken} already", hint="choose another name")
        raise known from error


def _known(error: StatementError) -> SendenseError | None:
    """Name what somebody else did; none where it is our own mistake."""
    if isinstance(error, IntegrityError):
        return _integrity(error)
    # A NUL in a text; the last hours of the calendar in another zone.
    if isinstance(error, DataError) or isinstance(error.orig, OverflowError):
        return Rejected(_MISFIT)
    if isinstance(error, OperationalError):
        return _operational(error)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Unavailable("the catalogue's database went away")
    if getattr(error.orig, "sqlite_errorname", "") in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return Damaged(
            "the catalogue is no database, or is damaged",
            hint="put a backup of it back; points are read from repositories again",
        )
    return None


def _integrity(error: IntegrityError) -> SendenseError:
    unique = (
        getattr(error.orig, "sqlstate", None) == _UNIQUE_STATE
        or getattr(error.orig, "sqlite_errorname", "")
        in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}
    )  # fmt: skip
    if unique:
        return AlreadyExists("there is one of that name already")
    return Conflict("something that this names does not exist, or is used by something else")


def _operational(error: OperationalError) -> SendenseError | None:
    state = getattr(error.orig, "sqlstate", None)
    name = getattr(error.orig, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or state in _IN_TURN:
        return Busy("the catalogue is being written for too long")
    if name == "SQLITE_FULL" or state == _DISK_FULL:
        return OutOfSpace("the disk of the catalogue is full")
    if name.startswith("SQLITE_") and not name.startswith(_SURROUNDINGS):
        return None
    return Unavailable(
        f"the catalogue's database does not answer ({name or type(error.orig).__name__})",
        hint="see its own log, and whether its disk is full",
    )
