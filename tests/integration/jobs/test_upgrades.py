"""Workers of two releases whose jobs have other steps: nothing is stranded between them."""

from __future__ import annotations

from sendense.model.job import JobState


def test_a_job_that_an_older_release_began_goes_on_in_the_newer(site):
    site.start("server", "s1", "--flows", "0")
    job = site.submit(hold_s=1)
    site.wait_log("begin", job.id)
    site.kill("s1")
    site.start("server", "s1", "--flows", "1")
    ended = site.wait_end(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert site.points() == {job.id}
    site.assert_sound()


def test_a_worker_of_another_release_ends_what_it_has_and_is_given_nothing(site):
    site.start("server", "s1", "--flows", "0")
    first = site.submit(held=True)
    site.wait_log("begin", first.id)
    # The new dispatcher takes the turn when the old server stops to dispatch.
    site.start("dispatcher", "d1", "--flows", "1")
    site.start("worker", "w1", "--flows", "1")
    site.wait_for(lambda: len(site.catalog.workers.list()) == 2, "two workers")
    site.stop("s1")
    site.let_go()
    second = site.submit(subject="u2")
    assert site.wait_end(second).result == {"point": second.id, "worker": "w1"}
    assert site.wait_end(first).state is JobState.SUCCEEDED
    site.assert_sound()
