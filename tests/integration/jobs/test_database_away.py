"""The database is killed in the middle of jobs, and comes back."""

from __future__ import annotations

import pytest

from sendense import clock
from sendense.model.job import JobState
from tests.support.catalogs import postgres_urls
from tests.support.job_site import job_site
from tests.support.postgres_server import postgres_server


@pytest.fixture
def server():
    with postgres_server() as server:
        yield server


@pytest.fixture
def site(server, tmp_path):
    with postgres_urls(server) as new_url, job_site(new_url(), tmp_path) as site:
        yield site


def test_jobs_outlast_a_short_absence(server, site):
    site.start("server", "s1")
    site.start("worker", "w1")
    site.wait_for(lambda: len(site.catalog.workers.list()) == 2, "two workers")
    jobs = [site.submit(subject=f"u{number}", hold_s=1.5) for number in range(6)]
    site.wait_for(lambda: len(site.lines("begin")) == 6, "all have begun")
    server.kill()
    clock.sleep(0.5)
    server.start()
    for job in jobs:
        assert site.wait_end(job).state is JobState.SUCCEEDED
    assert site.points() == {job.id for job in jobs}
    site.assert_sound()


def test_jobs_are_let_go_in_a_long_absence_and_go_on_after_it(server, site):
    site.start("server", "s1")
    job = site.submit(held=True)
    site.wait_log("begin", job.id)
    server.kill()
    site.wait_log("abandoned", job.id)  # by the worker itself, before others could take it
    server.start()
    site.let_go()
    ended = site.wait_end(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert site.points() == {job.id}
    site.assert_sound()
    site.stop("s1")
