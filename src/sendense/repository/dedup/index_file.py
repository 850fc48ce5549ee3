"""The file of the local index: opened, looked at, and made anew where it is of no use.

It is an SQLite database in WAL mode that many processes may use at once.  It can be
made again from the store at any time, so whatever is wrong with it (another version, another
repository, a torn page) has one remedy.  Opening and removing go under a lock file:
SQLite does not survive that its files are exchanged while somebody opens them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sendense.errors import Busy, NotAllowed, OutOfSpace, SendenseError, Unavailable
from sendense.repository.dedup.index_rows import LAST_GROUP

log = logging.getLogger(__name__)

BUSY_S = 60
_APPLICATION = 0x534E4449
_VERSION = 2
_CACHE_KIB = 16 * 1024
_PRIVATE_CACHE_KIB = 4 * 1024
_WAL_BYTES = 64 * 1024 * 1024

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE objects (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE packs (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL,
    epoch INTEGER NOT NULL, size INTEGER NOT NULL, entries INTEGER NOT NULL,
    stored INTEGER NOT NULL, plain INTEGER NOT NULL, span INTEGER NOT NULL);
CREATE TABLE holders (
    pack INTEGER, object INTEGER, PRIMARY KEY (pack, object)) WITHOUT ROWID;
CREATE INDEX holders_by_object ON holders (object);
CREATE TABLE groups (
    number INTEGER PRIMARY KEY, pack INTEGER NOT NULL, data BLOB NOT NULL, hooks BLOB);
CREATE TABLE lookup (key INTEGER PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE hooks (key INTEGER PRIMARY KEY) WITHOUT ROWID;
"""
_REMEDY = "run it again: the local index is made anew from the repository"
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REFUSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


class _Unusable(Exception):
    """A file that has to be made anew, and why."""


def open_private() -> sqlite3.Connection:
    """Give an empty database in a temporary file that only this connection sees."""
    connection = _connect("")
    _prepare(connection, "", _PRIVATE_CACHE_KIB)
    return connection


def open_shared(path: Path, repository: str) -> tuple[sqlite3.Connection, int]:
    """Open the file of ``repository``, and give its inode; one of no use is made anew."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opening(path):
            return _open_or_create(path, repository), path.stat().st_ino
    except OSError as error:
        raise NotAllowed(
            f"the local index {path} cannot be opened: {error.strerror}", file=str(path)
        ) from error
    except sqlite3.Error as error:
        raise failure(error, path) from error


def _open_or_create(path: Path, repository: str) -> sqlite3.Connection:
    # SQLite would take what was left beside a database for that of the new one.
    if path.exists() and path.stat().st_size:
        try:
            return _open(path, repository)
        except _Unusable as reason:
            log.warning("the local index %s is made anew: %s", path, reason)
    _remove(path)
    return _create(path, repository)


def discard(path: Path, inode: int) -> None:
    """Remove a file that is of no more use, unless another is there by now."""
    with _opening(path):
        if path.exists() and path.stat().st_ino == inode:
            log.warning("the local index %s is given up, to be made anew", path)
            _remove(path)


def is_broken(error: Exception) -> bool:
    """Tell whether the file is at fault."""
    return _primary(error) not in (*_BUSY, *_REFUSED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM)


def failure(error: Exception, path: Path | None) -> SendenseError:
    """Give the error to raise for one of SQLite, or of rows that cannot be."""
    where = f"the local index {path}" if path else "the local index"
    code = _primary(error)
    if code in _BUSY:
        return Busy(f"{where} has been locked by another process for {BUSY_S} seconds")
    if code == sqlite3.SQLITE_FULL:
        return OutOfSpace(f"{where} cannot grow: the disk is full")
    if code in _REFUSED:
        return NotAllowed(f"{where} cannot be opened or written: {error}")
    return Unavailable(f"{where} cannot be used: {error}", hint=_REMEDY)


def _primary(error: Exception) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Keep other processes from opening or removing the file."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _connect(target: str) -> sqlite3.Connection:
    return sqlite3.connect(target, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _open(path: Path, repository: str) -> sqlite3.Connection:
    connection = _connect(str(path))
    try:
        _look_at(connection, repository)
        _tune(connection, _CACHE_KIB)
        return connection
    except _Unusable:
        connection.close()
        raise
    except sqlite3.Error as error:
        connection.close()
        if is_broken(error):
            raise _Unusable(str(error)) from error
        raise


def _look_at(connection: sqlite3.Connection, repository: str) -> None:
    """Refuse what is of another program, version or repository, or worn out."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION or version != _VERSION:
        raise _Unusable(f"it is not of this version (version {version})")
    try:
        facts = dict(connection.execute("SELECT name, value FROM facts"))
        tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE type='table'")
        if facts.get("repository") != repository:
            raise _Unusable("it is of another repository")
        if tables.fetchone()[0] != _SCHEMA.count("CREATE TABLE") or facts["next"] > LAST_GROUP // 2:
            raise _Unusable("it is worn out")
    except (KeyError, TypeError, ValueError) as error:
        raise _Unusable(str(error)) from error


def _create(path: Path, repository: str) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = _connect(str(path))
    connection.execute("PRAGMA journal_mode=WAL")
    _prepare(connection, repository, _CACHE_KIB)
    return connection


def _prepare(connection: sqlite3.Connection, repository: str, cache_kib: int) -> None:
    """Make the tables, all or none."""
    facts = f"PRAGMA application_id={_APPLICATION}; PRAGMA user_version={_VERSION};"
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {facts}")
    rows = [("repository", repository), ("next", 0), ("removed", 0)]
    connection.executemany("INSERT INTO facts VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    _tune(connection, cache_kib)


def _tune(connection: sqlite3.Connection, cache_kib: int) -> None:
    """Bound memory, and trust the disk only as far as a power cut allows."""
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA cache_size=-{cache_kib}")
    connection.execute(f"PRAGMA temp.cache_size=-{_PRIVATE_CACHE_KIB}")
    connection.execute("PRAGMA temp_store=FILE")
    connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")


def _remove(path: Path) -> None:
    """Remove the database with what SQLite put beside it; nobody opens it meanwhile."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
