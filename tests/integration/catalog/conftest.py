"""The same tests on both databases."""

from __future__ import annotations

import pytest

from tests.support.catalogs import catalog_at, postgres_urls, sqlite_urls
from tests.support.postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_url(request):
    if request.param == "sqlite":
        with sqlite_urls() as urls:
            yield urls
    else:
        with postgres_urls(request.getfixturevalue("postgres")) as urls:
            yield urls


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """Give a database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/catalog.db"
    else:
        server = request.getfixturevalue("postgres")
        name = server.make_database()
        yield server.url(name)
        server.drop_database(name)


@pytest.fixture
def url(new_url):
    return new_url()


@pytest.fixture
def catalog(url):
    with catalog_at(url) as opened:
        yield opened
