"""From nothing, and from each earlier revision, a database comes to the tables of this version."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, Table, insert, inspect, select, text

from sendense.catalog.catalog import open_catalog
from sendense.catalog.database import Database
from sendense.catalog.migrating import current_revision, migrate, revisions
from sendense.catalog.rows import row_of
from sendense.catalog.tables import METADATA, POINTS, REPOSITORIES
from sendense.errors import Rejected
from tests.support.catalogs import KEYS, catalog_at
from tests.support.fleet import NOW, a_host, a_repository_entry

BEFORE = {
    "id": "p", "repository_id": "id-main", "machine_uuid": "u", "machine_name": "vm", "sequence": 1,
    "taken_at": NOW, "recorded_at": NOW, "mode": "full", "consistency": "crash",
    "state": "complete", "size": 1, "read_bytes": 1, "stored_bytes": 1, "pinned": False,
}  # fmt: skip
"""A row of the time before points said what they are for."""


@pytest.fixture
def empty(database_url):
    database = Database(database_url)
    yield database
    database.close()


def differences(database):
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, METADATA)


def test_from_nothing(empty):
    assert current_revision(empty) is None
    migrate(empty)
    assert current_revision(empty) == revisions()[-1]
    assert differences(empty) == []
    migrate(empty)


@pytest.mark.parametrize("revision", revisions())
def test_from_each_revision(empty, revision):
    migrate(empty, to=revision)
    assert current_revision(empty) == revision
    migrate(empty)
    assert differences(empty) == []


def test_points_of_before_are_no_safety_points(empty):
    migrate(empty, to="0007")
    with empty.write() as connection:
        connection.execute(insert(REPOSITORIES), [row_of(a_repository_entry(), REPOSITORIES)])
        reflected = Table("point", MetaData(), autoload_with=connection)
        connection.execute(insert(reflected), [BEFORE])
    migrate(empty)
    with empty.read() as connection:
        (kept,) = connection.execute(select(POINTS.c.id, POINTS.c.safety)).all()
    assert tuple(kept) == ("p", False)


def test_what_was_there_stays(url):
    with catalog_at(url) as catalog:
        catalog.hosts.add(a_host())
    with catalog_at(url) as catalog:
        assert catalog.hosts.get("id-kvm1") == a_host()


def test_many_that_start_at_once_take_turns(database_url):
    failures = []
    start = threading.Barrier(4)

    def open_it():
        start.wait()
        try:
            open_catalog(database_url, KEYS).close()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_catalogue_of_a_newer_version_is_left_alone(url):
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Rejected, match="newer version"):
        open_catalog(url, KEYS)
    assert current_revision(database) == "9999"
    database.close()


def test_a_migration_that_fails_leaves_nothing(empty):
    with empty.write() as connection:
        connection.execute(text("CREATE TABLE token (id INTEGER)"))
    with pytest.raises(Exception, match="token"):
        migrate(empty)
    assert current_revision(empty) is None
    with empty.read() as connection:
        assert set(inspect(connection).get_table_names()) <= {"token", "alembic_version"}
