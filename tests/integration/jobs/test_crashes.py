"""Killed at every step: the job goes on or ends cleanly, once, and nothing of it is left behind."""

from __future__ import annotations

import signal

import pytest

from sendense import clock
from sendense.model.job import JobKind, JobState


@pytest.mark.parametrize(
    ("step", "begins"),
    [
        ("job.taken", 1),  # the first worker had not begun
        ("job.carried-out", 2),  # its outcome was not remembered yet
        ("job.recorded", 1),
    ],
)
def test_a_worker_is_killed_and_another_goes_on(site, step, begins):
    site.start("dispatcher", "d1")
    site.start("worker", "w1", "--kill-at", step)
    job = site.submit()
    site.died("w1")
    site.start("worker", "w2")
    ended = site.wait_end(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert len(site.lines("begin", job.id)) == begins
    assert site.points() == {job.id}
    site.assert_sound()


def test_a_worker_is_killed_at_work_and_comes_back(site):
    site.start("dispatcher", "d1")
    site.start("worker", "w1")
    job = site.submit(held=True)
    site.wait_log("begin", job.id)
    site.kill("w1")
    site.let_go()
    site.start("worker", "w1")
    assert site.wait_end(job).state is JobState.SUCCEEDED
    (attempt,) = site.catalog.runs.attempts(job.id)
    assert attempt.takes == 2
    site.assert_sound()


@pytest.mark.parametrize("step", ["jobs.placing", "jobs.placed"])
def test_a_dispatcher_is_killed_as_it_gives_a_job_away(site, step):
    site.start("worker", "w1")
    site.start("dispatcher", "d1", "--kill-at", step)
    job = site.submit()
    site.died("d1")
    assert (site.catalog.jobs.get(job.id).state is JobState.QUEUED) == (step == "jobs.placing")
    site.start("dispatcher", "d2")
    assert site.wait_end(job).state is JobState.SUCCEEDED
    assert len(site.lines("begin", job.id)) == 1
    site.assert_sound()


def test_a_dispatcher_is_killed_as_it_brings_a_job_on(wide_site):
    site = wide_site
    site.start("dispatcher", "d1", "--kill-at", "job.handed-over")
    site.start("worker", "w1", "--kill-at", "job.taken")
    job = site.submit()
    site.died("w1")
    site.start("worker", "w2")
    site.died("d1")
    site.start("dispatcher", "d2")
    assert site.wait_end(job).state is JobState.SUCCEEDED
    assert site.points() == {job.id}
    site.assert_sound()


def test_the_server_is_killed_with_its_worker_and_started_again(site):
    site.start("server", "s1")
    jobs = [site.submit(subject=f"u{number}", hold_s=0.8) for number in range(6)]
    site.wait_log("begin", jobs[0].id)
    site.kill("s1")
    site.start("server", "s1")
    assert {site.wait_end(job).state for job in jobs} == {JobState.SUCCEEDED}
    assert site.points() == {job.id for job in jobs}
    site.assert_sound()


def test_a_worker_that_slept_changes_nothing_of_what_is_in_other_hands(wide_site):
    site = wide_site
    site.start("dispatcher", "d1")
    site.start("worker", "w1", "--stop-at", "job.carried-out")
    job = site.submit(JobKind.VERIFY)
    site.wait_log("done", job.id, "w1")
    site.start("worker", "w2")
    assert site.wait_end(job).state is JobState.SUCCEEDED
    assert site.lines("begin", job.id, "w2")
    site.processes["w1"].send_signal(signal.SIGCONT)
    site.wait_for(lambda: len(site.catalog.workers.list()) == 2, "it lives again")
    site.stop("w2")
    other = site.submit(subject="u2")
    assert site.wait_end(other).result == {"point": other.id, "worker": "w1"}
    assert site.catalog.jobs.get(job.id).result == {"point": job.id, "worker": "w2"}
    assert [each.worker for each in site.catalog.runs.attempts(job.id)] == ["w2"]
    site.assert_sound()


def test_a_job_whose_worker_died_is_cancelled_by_the_next_one(wide_site):
    site = wide_site
    site.start("dispatcher", "d1")
    site.start("worker", "w1")
    job = site.submit(hold_s=240)
    site.wait_log("begin", job.id)
    site.kill("w1")
    site.catalog.jobs.request_cancel(job.id, clock.now())
    site.start("worker", "w2")
    assert site.wait_end(job).state is JobState.CANCELLED
    assert site.lines("cancelled", job.id, "w2")  # it took back what w1 left
    assert site.points() == set()
    site.assert_sound()


def test_a_worker_that_is_asked_to_stop_gives_its_job_to_another(wide_site):
    site = wide_site
    site.start("dispatcher", "d1")
    site.start("worker", "w1")
    job = site.submit(held=True)
    site.wait_log("begin", job.id)
    site.start("worker", "w2")
    site.wait_for(lambda: len(site.catalog.workers.list()) == 2, "two workers")
    site.stop("w1")
    assert site.lines("abandoned", job.id, "w1")
    site.let_go()
    assert site.wait_end(job).state is JobState.SUCCEEDED
    assert site.catalog.jobs.get(job.id).attempt == 1
    site.assert_sound()


def test_a_job_that_kills_its_workers_fails_in_the_end(wide_site):
    site = wide_site
    site.start("dispatcher", "d1")
    job = site.submit()
    for _ in range(4):
        site.start("worker", "w1", "--kill-at", "job.carried-out")
        site.died("w1")
    site.start("worker", "w1")
    ended = site.wait_end(job)
    assert ended.state is JobState.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "unavailable"
    assert "4 workers" in ended.failure.message
    site.assert_sound()


def test_two_workers_of_one_name_are_not_one_too_many(wide_site):
    site = wide_site
    site.start("worker", "w1")
    site.wait_for(lambda: bool(site.catalog.workers.list()), "the first is there")
    site.processes["first"] = site.processes.pop("w1")
    second = site.start("worker", "w1")
    assert second.wait(120) == 1
    assert "runs on this machine already" in site.errors("w1")


def test_the_load_is_shared_by_workers_and_each_job_has_one(wide_site):
    site = wide_site
    site.start("dispatcher", "d1")
    for name in ("w1", "w2"):
        site.start("worker", name)
    site.wait_for(lambda: len(site.catalog.workers.list()) == 2, "two workers")
    jobs = [site.submit(subject=f"u{number}", hold_s=0.1) for number in range(20)]
    assert {site.wait_end(job).state for job in jobs} == {JobState.SUCCEEDED}
    begun = site.lines("begin")
    assert len(begun) == len(jobs)
    assert {line[5] for line in begun} == {"w1", "w2"}
    site.assert_sound()
