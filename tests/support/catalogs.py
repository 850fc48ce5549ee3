"""Catalogues on both databases, each empty and of the newest revision, at the price of a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sendense.catalog.catalog import Catalog, open_catalog
from sendense.catalog.database import Database
from sendense.catalog.migrating import migrate
from sendense.catalog.sealing import MasterKey, MasterKeys
from sendense.model.secret import Secret
from tests.support.memory_folder import memory_folder
from tests.support.postgres_server import PostgresServer, postgres_server

KEYS = MasterKeys([MasterKey(b"test-key", Secret(bytes(range(32))))])
"""The same in every process."""

NewUrl = Callable[[], str]
"""Gives the URL of a new database with all tables and no rows."""


@contextmanager
def sqlite_urls() -> Iterator[NewUrl]:
    """Give new databases of SQLite."""
    with memory_folder() as folder:
        model = folder / "model.db"
        _migrate(f"sqlite:///{model}")
        count = 0

        def new_url() -> str:
            nonlocal count
            count += 1
            copy = folder / f"catalog-{count}.db"
            shutil.copy(model, copy)
            return f"sqlite:///{copy}"

        yield new_url


@contextmanager
def postgres_urls(server: PostgresServer) -> Iterator[NewUrl]:
    """Give new databases of PostgreSQL."""
    model = server.make_database()
    _migrate(server.url(model))
    made: list[str] = []

    def new_url() -> str:
        made.append(server.make_database(model))
        return server.url(made[-1])

    try:
        yield new_url
    finally:
        for name in (*made, model):
            server.drop_database(name)


@contextmanager
def catalog_at(url: str, keys: MasterKeys = KEYS) -> Iterator[Catalog]:
    """Open a catalogue for as long as a test uses it."""
    catalog = open_catalog(url, keys)
    try:
        yield catalog
    finally:
        catalog.close()


@contextmanager
def new_urls(kind: str) -> Iterator[NewUrl]:
    """Give new databases of a kind, with a server of its own where it takes one."""
    if kind == "sqlite":
        with sqlite_urls() as urls:
            yield urls
    else:
        with postgres_server() as server, postgres_urls(server) as urls:
            yield urls


def file_of(url: str) -> Path:
    """Give the file of a database of SQLite."""
    return Path(url.removeprefix("sqlite:///"))


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.close()
