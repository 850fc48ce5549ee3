"""The API while its database is away, and afterwards."""

from __future__ import annotations

import time

import pytest

from tests.support.api_site import api_site, fill
from tests.support.catalogs import catalog_at, postgres_urls
from tests.support.postgres_server import postgres_server


@pytest.fixture
def server():
    with postgres_server() as server:
        yield server


def test_killed_and_started_again(server, tmp_path):
    with (
        postgres_urls(server) as new_url,
        catalog_at(new_url()) as catalog,
        api_site(catalog, tmp_path) as site,
    ):
        fill(catalog)
        admin = site.client()
        assert admin.get("/hosts").status_code == 200
        server.kill()
        for path in ("/hosts", f"{site.url}/healthz", "/status"):
            response = admin.get(path)
            assert response.status_code == 503
            problem = response.json()
            assert (problem["code"], problem["retryable"]) == ("unavailable", True)
            assert "retry-after" in response.headers
            assert "@" not in problem["message"]
        asked = admin.post("/jobs/backup", json={"vm_id": "u1"})
        assert asked.status_code == 503
        server.start()
        # Connections that the pool had are found broken one by one, and replaced.
        end = time.monotonic() + 120
        while admin.get(f"{site.url}/healthz").status_code != 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert admin.get("/hosts").status_code == 200
        assert admin.post("/jobs/backup", json={"vm_id": "u1"}).status_code == 202
        assert len(catalog.jobs.page().items) == 3
