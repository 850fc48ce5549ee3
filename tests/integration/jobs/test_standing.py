"""How instances stand, from a real catalogue; and why jobs wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sendense import clock
from sendense.catalog.runs import Ending, place, waiting
from sendense.catalog.status import judge_all, judge_one
from sendense.jobs.explaining import why_it_waits
from sendense.model.admission import Limits
from sendense.model.job import JobFailure, JobKind, JobState
from sendense.model.policy import MatchRules
from sendense.model.protection import Protection
from sendense.model.running import Worker
from tests.support.builders import a_machine
from tests.support.catalogs import catalog_at
from tests.support.fleet import a_host, a_point_entry, a_policy, a_repository_entry, a_request

HOUR = timedelta(hours=1)
FAILURE = JobFailure("unavailable", "kvm1 does not answer", None, True)


@pytest.fixture
def catalog(new_url):
    with catalog_at(new_url()) as catalog:
        catalog.repositories.add(a_repository_entry())
        catalog.hosts.add(a_host())
        yield catalog


def run(catalog, request, ending, now):
    """Take a job through its life."""
    job = catalog.jobs.submit(request, now)
    worker = Worker("w", "life", 9, "1", "1", now, now)
    with catalog.database.write() as connection:
        (found,) = [each for each in waiting(connection, now) if each.job_id == job.id]
        placed = place(connection, found, worker, now)
        assert placed is not None
    catalog.runs.end(placed, ending, now)


def test_how_instances_stand(catalog):
    now = clock.now()
    policy = a_policy(schedule="* * * * *", match=MatchRules(names=("web-*",)), sla=9 * HOUR)
    long_ago = now - 90 * 24 * HOUR
    catalog.policies.add(replace(policy, created_at=long_ago, updated_at=long_ago))
    names = ("web-good", "web-late", "web-failing", "web-missed", "other")
    shown = [a_machine(uuid=name, name=name) for name in names]
    catalog.instances.see("id-kvm1", shown, long_ago)
    ages = {"web-good": HOUR, "web-late": 10 * HOUR, "web-failing": HOUR, "web-missed": HOUR}
    entries = [
        a_point_entry(number, machine_uuid=name, taken_at=now - age)
        for number, (name, age) in enumerate(ages.items())
    ]
    # A machine is protected by backups, and not by what undoes a restore.
    undoing = [
        a_point_entry(50 + number, machine_uuid=name, taken_at=now, safety=True)
        for number, name in enumerate(("web-late", "other"))
    ]
    catalog.points.put([*entries, *undoing], now)
    for name in ("web-good", "web-late", "web-failing"):
        request = a_request(subject=name, policy_id=policy.id, repository_id="id-main")
        run(catalog, request, Ending(JobState.SUCCEEDED, "done"), now)
    failed = Ending(JobState.FAILED, "not tried again", failure=FAILURE)
    for minutes in (1, 2):
        later = now + timedelta(minutes=minutes)
        run(catalog, a_request(subject="web-failing", policy_id=policy.id), failed, later)

    later = now + timedelta(minutes=3)
    found = {each.instance.name: each for each in judge_all(catalog, later)}
    assert {name: each.protection for name, each in found.items()} == {
        "web-good": Protection.PROTECTED,
        "web-late": Protection.LATE,
        "web-failing": Protection.FAILING,
        "web-missed": Protection.MISSED,
        "other": Protection.UNPROTECTED,
    }
    assert "2 runs failed since, the last: kvm1 does not answer" in found["web-failing"].reason
    assert found["web-good"].expected_by == now + 8 * HOUR
    for name, verdict in found.items():
        assert judge_one(catalog, catalog.instances.get(name), later) == verdict


def test_why_a_job_waits(catalog):
    now = clock.now()
    limits = Limits(per_host=1)
    job = catalog.jobs.submit(a_request(host_id="id-kvm1"), now)
    assert why_it_waits(catalog, limits, job, now) == "no worker is there"
    worker = Worker("w", "life", 1, "1", "1", now, now)
    catalog.workers.register(worker)
    assert why_it_waits(catalog, limits, job, now) == "it is among the next"
    with catalog.database.write() as connection:
        (found,) = waiting(connection, now)
        place(connection, found, worker, now)
    other = catalog.jobs.submit(a_request(subject="u2", host_id="id-kvm1"), now)
    assert why_it_waits(catalog, limits, other, now) == (
        "1 jobs run on its host, which is its limit"
    )
    elsewhere = catalog.jobs.submit(a_request(JobKind.VERIFY, subject="u3"), now)
    assert why_it_waits(catalog, limits, elsewhere, now) == "all 1 slots of the workers are taken"
    later = catalog.jobs.submit(a_request(subject="u4", not_before=now + HOUR), now)
    assert "its start is set for 20" in str(why_it_waits(catalog, limits, later, now))
    assert why_it_waits(catalog, limits, catalog.jobs.get(job.id), now) is None
