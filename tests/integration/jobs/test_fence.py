"""What a worker says that holds a job no more changes nothing."""

from __future__ import annotations

import pytest

from sendense import clock
from sendense.catalog.runs import Ending, end_run, hand_over, place, waiting
from sendense.model.job import JobFailure, JobState
from sendense.model.running import Worker
from tests.support.catalogs import catalog_at
from tests.support.fleet import a_request

AGAIN = Ending(JobState.QUEUED, "tried again", failure=JobFailure("busy", "busy", None, True))
DONE = Ending(JobState.SUCCEEDED, "done", result={})


@pytest.fixture
def catalog(new_url):
    with catalog_at(new_url()) as catalog:
        yield catalog


def a_worker(catalog, name):
    now = clock.now()
    worker = Worker(name, f"life-of-{name}", 4, "1", "1", now, now)
    catalog.workers.register(worker)
    return worker


def place_first(catalog, worker):
    now = clock.now()
    with catalog.database.write() as connection:
        (job,) = waiting(connection, now)
        assert place(connection, job, worker, now) is not None
    taken = catalog.runs.take_up(job.job_id, worker, now)
    assert taken is not None
    return taken


@pytest.mark.parametrize("next_one", ["w1", "w3"])
def test_a_worker_that_slept_through_a_retry_does_not_speak_of_the_next_attempt(catalog, next_one):
    workers = {name: a_worker(catalog, name) for name in ("w1", "w2", "w3")}
    job = catalog.jobs.submit(a_request(), clock.now())
    slept = place_first(catalog, workers["w1"])
    with catalog.database.write() as connection:
        assert hand_over(connection, slept.run, workers["w2"], "workflow")
    second = catalog.runs.take_up(job.id, workers["w2"], clock.now())
    assert second is not None
    assert catalog.runs.end(second.run, AGAIN, clock.now()) is JobState.QUEUED
    third = place_first(catalog, workers[next_one])
    assert third.run.take == slept.run.take

    held = {job.id: slept.run}
    assert catalog.runs.renew(workers["w1"], clock.now(), held, {job.id: {"done": 1}}) == {}
    assert catalog.runs.end(slept.run, DONE, clock.now()) is None
    assert catalog.jobs.get(job.id).state is JobState.RUNNING
    assert catalog.jobs.get(job.id).progress is None
    assert catalog.runs.end(third.run, DONE, clock.now()) is JobState.SUCCEEDED


def test_who_comes_too_late_to_end_a_lost_run_ends_nothing(catalog):
    worker = a_worker(catalog, "w1")
    job = catalog.jobs.submit(a_request(), clock.now())
    taken = place_first(catalog, worker)
    assert catalog.runs.end(taken.run, AGAIN, clock.now()) is JobState.QUEUED
    again = place_first(catalog, worker)
    with catalog.database.write() as connection:
        assert end_run(connection, taken.run, DONE, clock.now()) is None
    assert catalog.jobs.get(job.id).state is JobState.RUNNING
    assert catalog.runs.list() == (again.run,)
