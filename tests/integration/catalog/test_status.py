"""The state of everything in one value."""

from __future__ import annotations

from datetime import timedelta

from sendense.catalog.status import summarise
from sendense.model.fleet import HostHealth
from sendense.model.job import JobState
from sendense.model.policy import MatchRules
from sendense.model.protection import Growth, Protection
from tests.support.builders import a_machine
from tests.support.fleet import (
    NOW,
    a_heartbeat,
    a_host,
    a_point_entry,
    a_policy,
    a_repository_entry,
    a_request,
)

DAY = timedelta(days=1)


def test_everything_is_summed_up(catalog):
    catalog.repositories.add(a_repository_entry())
    catalog.policies.add(a_policy(match=MatchRules(names=("web-*",)), sla=2 * DAY))
    catalog.hosts.add(a_host())
    catalog.hosts.heard("id-kvm1", a_heartbeat(), NOW)
    catalog.hosts.add(a_host("kvm2"))
    names = {"good": "web-1", "old": "web-2", "bad": "web-3", "none": "db-1", "new": "web-4"}
    machines = [a_machine(uuid=uuid, name=name) for uuid, name in names.items()]
    catalog.instances.see("id-kvm1", machines, NOW)
    ages = {"good": 1, "old": 5, "bad": 1, "none": 20}
    points = [
        a_point_entry(number, machine_uuid=uuid, taken_at=NOW - DAY * age + timedelta(hours=1))
        for number, (uuid, age) in enumerate(ages.items())
    ]
    catalog.points.put(points, NOW)
    job = catalog.jobs.submit(a_request(subject="bad"), NOW)
    catalog.jobs.move(job.id, JobState.QUEUED, JobState.FAILED, NOW)
    catalog.jobs.submit(a_request(subject="good"), NOW)

    summary = summarise(catalog, NOW)

    assert summary.counts == {
        Protection.PROTECTED: 1,
        Protection.UNPROTECTED: 1,
        Protection.FAILING: 1,
        Protection.LATE: 1,
        Protection.MISSED: 0,
        Protection.NEW: 1,
    }
    wanting = [(each.instance.uuid, each.protection) for each in summary.attention]
    assert wanting == [
        ("bad", Protection.FAILING),
        ("old", Protection.LATE),
        ("none", Protection.UNPROTECTED),
        ("new", Protection.NEW),
    ]
    assert summary.hosts[HostHealth.OK.value] == 1
    assert summary.hosts[HostHealth.SILENT.value] == 1
    assert summary.jobs[JobState.QUEUED] == 1
    assert (summary.points, summary.stored_bytes) == (4, 400)
    assert summary.growth == Growth(day=200, week=300, month=400)


def test_of_an_empty_catalogue(catalog):
    summary = summarise(catalog, NOW)
    assert set(summary.counts.values()) == {0}
    assert (summary.points, summary.attention) == (0, ())
