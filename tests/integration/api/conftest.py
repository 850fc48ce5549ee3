"""A server with one of everything in its catalogue."""

from __future__ import annotations

import pytest

from tests.support.api_site import api_site, fill
from tests.support.catalogs import catalog_at, new_urls


@pytest.fixture(scope="session")
def new_url():
    with new_urls("sqlite") as urls:
        yield urls


@pytest.fixture
def site(new_url, tmp_path):
    with catalog_at(new_url()) as catalog:
        fill(catalog)
        with api_site(catalog, tmp_path) as served:
            yield served


@pytest.fixture
def admin(site):
    return site.client()
