"""Jobs in real processes, when all goes well, and when a handler fails or is told to end."""

from __future__ import annotations

from datetime import timedelta

from sendense import clock
from sendense.jobs.durable import Mailboxes
from sendense.model.job import JobKind, JobState

MINUTE = timedelta(minutes=1)


def test_a_job_is_carried_out_and_its_result_is_kept(site):
    site.start("server", "s1")
    job = site.submit(held=True)
    site.wait_for(lambda: bool(site.catalog.jobs.get(job.id).progress), "its progress is seen")
    site.let_go()
    ended = site.wait_end(job)
    assert ended.state is JobState.SUCCEEDED
    assert ended.result == {"point": job.id, "worker": "s1"}
    assert ended.failure is None
    (attempt,) = site.catalog.runs.attempts(job.id)
    assert (attempt.attempt, attempt.worker, attempt.takes, attempt.then) == (1, "s1", 1, "done")
    site.assert_sound()
    site.stop("s1")
    assert site.catalog.workers.list() == ()


def test_every_kind_has_its_workflow_and_what_follows_is_submitted_once(site):
    site.start("server", "s1")
    jobs = [site.submit(kind, f"subject-{kind.value}") for kind in JobKind]
    assert [site.wait_end(job).state for job in jobs] == [JobState.SUCCEEDED] * len(jobs)
    site.wait_for(lambda: len(site.lines("done", "gc")) == 2, "a collection follows the prune")
    site.assert_sound()


def test_a_failure_that_may_mend_itself_is_tried_again(site):
    site.start("server", "s1")
    job = site.submit(failures=2)
    ended = site.wait_end(job)
    assert (ended.state, ended.attempt, ended.failure) == (JobState.SUCCEEDED, 3, None)
    first, second, third = site.catalog.runs.attempts(job.id)
    assert first.failure is not None
    assert first.failure.code == "unavailable"
    assert first.then.startswith("tried again in 0 s, as attempt 2 of 3")
    assert second.failure is not None
    assert third.failure is None
    site.assert_sound()


def test_it_is_not_tried_for_ever(site):
    site.start("server", "s1")
    job = site.submit(failures=9)
    ended = site.wait_end(job)
    assert (ended.state, ended.attempt) == (JobState.FAILED, 3)
    assert ended.failure is not None
    assert ended.failure.hint == "wait"
    assert "attempt 3 of 3" in site.catalog.runs.attempts(job.id)[-1].then
    site.assert_sound()


def test_what_does_not_mend_itself_is_not_tried_again(site):
    site.start("server", "s1")
    refused, broken = (
        site.submit(failures=9, retryable=False),
        site.submit(broken="x", subject="u2"),
    )
    for job, code in ((refused, "rejected"), (broken, "failed")):
        ended = site.wait_end(job)
        assert (ended.state, ended.attempt) == (JobState.FAILED, 1)
        assert ended.failure is not None
        assert ended.failure.code == code
    site.assert_sound()


def test_a_job_that_waits_is_cancelled_at_once(site):
    job = site.submit()
    assert site.catalog.jobs.request_cancel(job.id, clock.now()).state is JobState.CANCELLED
    site.start("server", "s1")
    other = site.submit()
    site.wait_end(other)
    assert not site.lines(job.id)


def test_a_job_that_runs_is_cancelled_and_takes_back_what_it_did(site):
    site.start("server", "s1")
    job = site.submit(hold_s=240)
    site.wait_log("begin", job.id)
    asked = site.catalog.jobs.request_cancel(job.id, clock.now())
    assert asked.state is JobState.CANCELLING
    ended = site.wait_end(job)
    assert ended.state is JobState.CANCELLED
    assert site.lines("cancelled", job.id)
    assert site.points() == set()
    assert ended.finished_at is not None
    assert (ended.finished_at - asked.created_at).total_seconds() < 120
    site.assert_sound()


def test_a_job_is_cancelled_between_two_attempts(site):
    site.start("server", "s1")
    job = site.submit(failures=99, hold_s=0.05)
    site.wait_for(lambda: bool(site.catalog.runs.attempts(job.id)), "it failed once")
    # It waits, or runs again by now: both ways lead to the same end.
    site.catalog.jobs.request_cancel(job.id, clock.now())
    assert site.wait_end(job).state is JobState.CANCELLED
    site.assert_sound()


def test_workflows_are_forgotten_when_nobody_needs_them(site):
    site.start("server", "s1")
    ended, goes_on = site.submit(), site.submit(subject="u2", held=True)
    site.wait_end(ended)
    site.wait_log("begin", goes_on.id)
    mailboxes = Mailboxes(site.url)
    needed = {run.workflow_id for run in site.catalog.runs.list()}
    site.wait_for(lambda: mailboxes.tidy(clock.now() + MINUTE, needed) == 1, "one is forgotten")
    assert mailboxes.tidy(clock.now() + MINUTE, needed) == 0
    site.let_go()
    assert site.wait_end(goes_on).state is JobState.SUCCEEDED
    mailboxes.close()


def test_limits_hold_and_restores_come_first(site):
    jobs = [site.submit(subject=f"u{number}", host_id="h1", hold_s=1) for number in range(5)]
    other = site.submit(subject="u9", host_id="h2", hold_s=1)
    restore = site.submit(JobKind.RESTORE, "u7", host_id="h1", hold_s=1)
    site.start("server", "s1")
    for job in (*jobs, other, restore):
        assert site.wait_end(job).state is JobState.SUCCEEDED
    begun = [line[3] for line in site.lines("begin")]
    assert begun[0] == restore.id or begun[1] == restore.id or begun[2] == restore.id
    running: set[str] = set()
    for what, _, subject, job_id, *_ in site.log_lines():
        if subject == "u9":
            continue
        running = running | {job_id} if what == "begin" else running - {job_id}
        assert len(running) <= 2
    assert other.id in begun[:3]  # a full host holds up no other
    site.assert_sound()
