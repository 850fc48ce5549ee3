"""Jobs in the catalogue: nobody moves one that somebody else has moved."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from sendense.catalog.jobs import JobFilter, JobNews
from sendense.errors import Conflict, NotFound
from sendense.model.access import Grant
from sendense.model.job import (
    FINAL_STATES,
    TRANSITIONS,
    JobFailure,
    JobKind,
    JobState,
    after_cancel,
)
from sendense.model.page import every
from tests.support.builders import a_machine
from tests.support.catalogs import catalog_at
from tests.support.fleet import NOW, a_host, a_request

SECOND = timedelta(seconds=1)
WAYS = {
    JobState.QUEUED: (),
    JobState.RUNNING: (JobState.RUNNING,),
    JobState.CANCELLING: (JobState.RUNNING, JobState.CANCELLING),
    JobState.SUCCEEDED: (JobState.RUNNING, JobState.SUCCEEDED),
    JobState.FAILED: (JobState.FAILED,),
    JobState.CANCELLED: (JobState.CANCELLED,),
}


def bring(catalog, state):
    """Give a new job in a state."""
    job = catalog.jobs.submit(a_request(), NOW)
    for to in WAYS[state]:
        job = catalog.jobs.move(job.id, job.state, to, NOW)
    return job


def test_a_job_comes_back_as_it_was(catalog):
    request = a_request(host_id="h", repository_id="r", policy_id="p", not_before=NOW, priority=3)
    job = catalog.jobs.submit(request, NOW)
    assert catalog.jobs.get(job.id) == job
    assert (job.state, job.attempt, job.content) == (JobState.QUEUED, 1, {"mode": "auto"})
    assert catalog.jobs.open() == (job,)


@pytest.mark.parametrize("was", JobState)
def test_only_transitions_that_there_are(catalog, was):
    for to in JobState:
        job = bring(catalog, was)
        if to in TRANSITIONS[was]:
            assert catalog.jobs.move(job.id, was, to, NOW).state is to
        else:
            with pytest.raises(Conflict):
                catalog.jobs.move(job.id, was, to, NOW)
            assert catalog.jobs.get(job.id) == job


def test_who_comes_too_late_is_told_and_changes_nothing(catalog):
    job = bring(catalog, JobState.RUNNING)
    catalog.jobs.move(job.id, JobState.RUNNING, JobState.SUCCEEDED, NOW, JobNews(result={"a": 1}))
    failure = JobNews(failure=JobFailure("failed", "late"))
    with pytest.raises(Conflict):
        catalog.jobs.move(job.id, JobState.RUNNING, JobState.FAILED, NOW, failure)
    after = catalog.jobs.get(job.id)
    assert (after.state, after.failure, after.result) == (JobState.SUCCEEDED, None, {"a": 1})


def test_a_retry_is_the_next_attempt_and_keeps_the_first_start(catalog):
    job = bring(catalog, JobState.RUNNING)
    failure = JobFailure("unavailable", "gone", "wait", True, "read")
    news = JobNews(failure=failure, not_before=NOW + SECOND)
    again = catalog.jobs.move(job.id, JobState.RUNNING, JobState.QUEUED, NOW + SECOND, news)
    assert (again.attempt, again.failure, again.not_before) == (2, failure, NOW + SECOND)
    running = catalog.jobs.move(job.id, JobState.QUEUED, JobState.RUNNING, NOW + 2 * SECOND)
    assert running.started_at == NOW
    done = catalog.jobs.move(job.id, JobState.RUNNING, JobState.SUCCEEDED, NOW + 3 * SECOND)
    assert done.finished_at == NOW + 3 * SECOND
    assert done.final


@pytest.mark.parametrize("state", JobState)
def test_a_wish_to_cancel(catalog, state):
    job = bring(catalog, state)
    if state in FINAL_STATES:
        with pytest.raises(Conflict):
            catalog.jobs.request_cancel(job.id, NOW)
        assert catalog.jobs.get(job.id) == job
        return
    after = catalog.jobs.request_cancel(job.id, NOW)
    assert after.state is (after_cancel(state) or state)
    assert catalog.jobs.wants_cancel(job.id)
    assert (after.finished_at is not None) == after.final


def test_a_job_that_is_not_there(catalog):
    with pytest.raises(NotFound):
        catalog.jobs.get("none")
    with pytest.raises(NotFound):
        catalog.jobs.move("none", JobState.QUEUED, JobState.RUNNING, NOW)
    with pytest.raises(NotFound):
        catalog.jobs.request_cancel("none", NOW)
    assert not catalog.jobs.wants_cancel("none")


def test_progress_of_a_job_that_ended_stays_as_it_was(catalog):
    job = bring(catalog, JobState.RUNNING)
    catalog.jobs.report(job.id, {"done": 1})
    catalog.jobs.move(job.id, JobState.RUNNING, JobState.SUCCEEDED, NOW)
    catalog.jobs.report(job.id, {"done": 2})
    assert catalog.jobs.get(job.id).progress == {"done": 1}


def test_pages_and_filters(catalog):
    for number in range(9):
        kind = JobKind.VERIFY if number % 3 else JobKind.BACKUP
        request = a_request(kind, subject=f"u{number % 2}", host_id="h" if number else None)
        # Several in the same moment: the order is whole all the same.
        catalog.jobs.submit(request, NOW + SECOND * (number // 3))
    jobs = list(every(lambda at: catalog.jobs.page(replace(at, limit=2))))
    assert len({job.id for job in jobs}) == 9
    assert [job.created_at for job in jobs] == sorted(
        (job.created_at for job in jobs), reverse=True
    )

    def count(**wanted):
        return len(catalog.jobs.page(wanted=JobFilter(**wanted)).items)

    assert count(kind=JobKind.BACKUP) == 3
    assert count(states=(JobState.RUNNING,)) == 0
    assert count(states=(JobState.RUNNING, JobState.QUEUED)) == 9
    assert count(subject="u1") == 4
    assert count(grant=Grant(instances=("u1",))) == 4
    assert count(grant=Grant()) == 0
    assert count(host_id="h") == 8


def test_a_grant_covers_jobs_by_the_name_of_their_instance(catalog):
    catalog.hosts.add(a_host())
    catalog.instances.see("id-kvm1", [a_machine(uuid="u1", name="web-1")], NOW)
    mine, other = (catalog.jobs.submit(a_request(subject=uuid), NOW) for uuid in ("u1", "u2"))
    grant = Grant(names=("web-*",))
    assert catalog.jobs.page(wanted=JobFilter(grant=grant)).items == (mine,)
    assert catalog.jobs.get(mine.id, grant) == mine
    with pytest.raises(NotFound):
        catalog.jobs.get(other.id, grant)


def test_the_open_ones_come_by_urgency(catalog):
    late = catalog.jobs.submit(a_request(), NOW + SECOND)
    early = catalog.jobs.submit(a_request(), NOW)
    urgent = catalog.jobs.submit(a_request(priority=5), NOW + 2 * SECOND)
    catalog.jobs.move(late.id, JobState.QUEUED, JobState.RUNNING, NOW)
    bring(catalog, JobState.FAILED)
    assert [job.id for job in catalog.jobs.open()] == [urgent.id, early.id, late.id]
    assert catalog.jobs.counts() == {
        JobState.QUEUED: 2, JobState.RUNNING: 1, JobState.CANCELLING: 0,
    }  # fmt: skip


def test_whose_jobs_failed_since_the_last_that_succeeded(catalog):
    for seconds, state in ((1, JobState.SUCCEEDED), (2, JobState.FAILED)):
        job = catalog.jobs.submit(a_request(), NOW)
        catalog.jobs.move(job.id, JobState.QUEUED, JobState.RUNNING, NOW)
        catalog.jobs.move(job.id, JobState.RUNNING, state, NOW + SECOND * seconds)
    bring(catalog, JobState.RUNNING)
    failing = catalog.jobs.failing(JobKind.BACKUP, NOW)
    assert {subject: each.count for subject, each in failing.items()} == {"u1": 1}
    assert catalog.jobs.failing(JobKind.BACKUP, NOW, subject="u2") == {}
    assert catalog.jobs.failing(JobKind.BACKUP, NOW + 3 * SECOND) == {}
    assert catalog.jobs.forget(NOW + 2 * SECOND) == 1


def shove(catalog, ids, seed, moves):
    """Move jobs about, as far as others leave one to move; note what was done."""
    choose = random.Random(seed)
    for _ in range(40):
        job = catalog.jobs.get(choose.choice(ids))
        if job.final:
            continue
        to = choose.choice(sorted(TRANSITIONS[job.state]))
        try:
            if choose.random() < 0.2:
                catalog.jobs.request_cancel(job.id, NOW)
            else:
                catalog.jobs.move(job.id, job.state, to, NOW)
                moves.append((job.id, job.state, to))
        except Conflict:
            pass


def shove_in_a_process(url, ids, seed, results):
    moves: list[tuple[str, JobState, JobState]] = []
    with catalog_at(url) as catalog:
        shove(catalog, ids, seed, moves)
    results.put(moves)


def test_many_threads_and_processes_lose_no_update(url, catalog):
    ids = [catalog.jobs.submit(a_request(), NOW).id for _ in range(12)]
    moves: list[tuple[str, JobState, JobState]] = []
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=shove_in_a_process, args=(url, ids, seed, results))
        for seed in (1, 2)
    ]
    threads = [
        threading.Thread(target=shove, args=(catalog, ids, seed, moves)) for seed in range(3, 9)
    ]
    for process in processes:
        process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in processes:
        moves += results.get(timeout=240)
    for process in processes:
        process.join()
    retries = Counter(
        job_id for job_id, was, to in moves if (was, to) == (JobState.RUNNING, JobState.QUEUED)
    )
    for job_id in ids:
        job = catalog.jobs.get(job_id)
        # Each retry that somebody made counts once: none was lost, none was made twice.
        assert job.attempt == 1 + retries[job_id]
        ends = [to for moved, _, to in moves if moved == job_id and to in FINAL_STATES]
        assert len(ends) <= 1
        if ends:
            assert job.state is ends[0]


def test_of_many_who_take_a_job_one_gets_it(catalog):
    job = catalog.jobs.submit(a_request(), NOW)
    taken = []
    start = threading.Barrier(8)

    def take(number):
        start.wait()
        try:
            catalog.jobs.move(job.id, JobState.QUEUED, JobState.RUNNING, NOW)
            taken.append(number)
        except Conflict:
            pass

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_facts_stay_in_their_order_until_the_job_is_forgotten(catalog):
    job, other = bring(catalog, JobState.FAILED), bring(catalog, JobState.QUEUED)
    assert catalog.jobs.facts(job.id) == ()
    for number in range(3):
        catalog.jobs.remember(job.id, {"try": number})
        catalog.jobs.remember(other.id, {"of": "another"})
    assert [fact["try"] for fact in catalog.jobs.facts(job.id)] == [0, 1, 2]
    catalog.jobs.forget(NOW + SECOND)
    assert catalog.jobs.facts(job.id) == ()
    assert len(catalog.jobs.facts(other.id)) == 3
