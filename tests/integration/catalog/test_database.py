"""What goes wrong with a database, as our errors."""

from __future__ import annotations

import stat
import threading

import pytest
from sqlalchemy import func, select, text

from sendense.catalog.catalog import open_catalog
from sendense.catalog.database import Database
from sendense.catalog.tables import HOSTS
from sendense.errors import Damaged, Rejected, Unavailable
from tests.support.catalogs import KEYS, catalog_at, file_of
from tests.support.fleet import a_host
from tests.support.postgres_server import postgres_server


@pytest.mark.parametrize("url", ["", "x", "mysql://h/d", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_is_none(url):
    with pytest.raises(Rejected):
        Database(url)


def test_a_password_is_not_shown():
    database = Database("postgresql://ada:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in database.shown
    with pytest.raises(Unavailable) as caught, database.read():
        pass
    assert "hunter2" not in str(caught.value.to_dict())
    database.close()


def test_a_file_that_cannot_be_made(tmp_path):
    with pytest.raises(Unavailable):
        Database(f"sqlite:///{tmp_path}/none/catalog.db")


def test_the_file_is_for_its_owner_only(tmp_path):
    file = tmp_path / "catalog.db"
    with catalog_at(f"sqlite:///{file}"):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_a_file_that_is_no_database(tmp_path):
    file = tmp_path / "catalog.db"
    file.write_bytes(b"this is not a database" * 100)
    with pytest.raises(Damaged):
        open_catalog(f"sqlite:///{file}", KEYS)


def test_what_fails_is_not_kept(catalog):
    class Stop(Exception):
        pass

    def delete_and_stop():
        with catalog.database.write() as connection:
            connection.execute(text("DELETE FROM host"))
            raise Stop

    catalog.hosts.add(a_host())
    with pytest.raises(Stop):
        delete_and_stop()
    assert len(catalog.hosts.every()) == 1


@pytest.mark.parametrize("name", ["a\x00b", "x" * 300])
def test_a_value_that_does_not_fit(url, catalog, name):
    if url.startswith("sqlite"):
        pytest.skip("SQLite takes any text")
    with pytest.raises(Rejected):
        catalog.hosts.add(a_host(name))


def test_a_number_that_does_not_fit(catalog):
    with pytest.raises(Rejected):
        catalog.hosts.add(a_host(control_port=1 << 70))


def test_readers_do_not_wait_for_a_writer(catalog):
    catalog.hosts.add(a_host())
    with catalog.database.write() as writer:
        writer.execute(text("UPDATE host SET name = 'changed'"))
        assert catalog.hosts.get("id-kvm1").name == "kvm1"


def test_writers_wait_for_each_other(catalog):
    begun = threading.Event()

    def add(number):
        with catalog.database.write() as connection:
            catalog.database.alone(connection, HOSTS)
            count = connection.execute(select(func.count()).select_from(HOSTS)).scalar_one()
            begun.set()
        catalog.hosts.add(a_host(f"kvm{number}-{count}"))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.hosts.every()) == 8


def test_a_server_that_is_killed_and_started_again():
    with postgres_server() as server:
        name = server.make_database()
        with catalog_at(server.url(name)) as catalog:
            catalog.hosts.add(a_host())
            server.kill()
            with pytest.raises(Unavailable):
                catalog.hosts.every()
            server.start()
            assert catalog.hosts.every() == (a_host(),)


def test_sqlite_says_which_file(url):
    if url.startswith("sqlite"):
        assert file_of(url).name in Database(url).shown
