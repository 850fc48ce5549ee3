"""The same tests on both databases; what takes several machines on PostgreSQL alone."""

from __future__ import annotations

import pytest

from tests.support.catalogs import new_urls
from tests.support.job_site import job_site


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_url(request):
    with new_urls(request.param) as urls:
        yield urls


@pytest.fixture(scope="session")
def new_postgresql_url():
    with new_urls("postgresql") as urls:
        yield urls


@pytest.fixture
def site(new_url, tmp_path):
    with job_site(new_url(), tmp_path) as site:
        yield site


@pytest.fixture
def wide_site(new_postgresql_url, tmp_path):
    """A site of many workers, which are on more machines than SQLite is for."""
    with job_site(new_postgresql_url(), tmp_path) as site:
        yield site
