"""What is old is forgotten, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sendense.catalog.tidying import AUDIT_DAYS, JOBS_DAYS, Tidied, tidy
from sendense.model.access import AuditNote
from sendense.model.job import JobState
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import NOW, a_request

DAY = timedelta(days=1)


@pytest.fixture
def old(catalog):
    """Give a catalogue with a job, an entry and a change of each age, and a job not ended."""
    for age in (10, 100, 1000):
        job = catalog.jobs.submit(a_request(), NOW - DAY * age)
        catalog.jobs.remember(job.id, {"attempt": 1})
        catalog.jobs.move(job.id, JobState.QUEUED, JobState.FAILED, NOW - DAY * age)
        catalog.audit.add(AuditNote("ada", "do"), NOW - DAY * age)
    catalog.jobs.submit(a_request(), NOW - DAY * 1000)
    catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
    for age in (10, 100, 1000):
        found = pairs(a_cloud_instance(age))
        catalog.inventory.take_instances("id-west", found, NOW - DAY * age)
    catalog.replies.begin("ada", "k", "h", NOW - DAY)
    return catalog


def test_what_is_old_goes(old):
    assert tidy(old, NOW) == Tidied(jobs=2, audit=1, rounds=0, replies=1, changes=1)
    assert {job.state for job in old.jobs.page().items} == {JobState.FAILED, JobState.QUEUED}
    assert tidy(old, NOW) == Tidied(0, 0, 0, 0, 0)


def test_other_spans(old):
    old.settings.put(JOBS_DAYS, 500, NOW)
    old.settings.put(AUDIT_DAYS, 50, NOW)
    assert tidy(old, NOW) == Tidied(jobs=1, audit=2, rounds=0, replies=1, changes=2)


@pytest.mark.parametrize("days", [0, -1, "90", None, 1.5, True, 10**9, 5])
def test_a_span_that_is_none_does_no_harm(old, days):
    old.settings.put(JOBS_DAYS, days, NOW)
    assert tidy(old, NOW).jobs == 2
