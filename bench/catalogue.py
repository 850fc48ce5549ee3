"""How fast a full catalogue answers: the lists and sums that pages and programs ask for.

The same questions on SQLite and on PostgreSQL, with the fleet that the product is made for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
from sqlalchemy import insert

from bench.figures import Better, Figure, Goal
from sendense.catalog.catalog import Catalog
from sendense.catalog.inventory_reading import CloudInstanceFilter, InstanceEntry
from sendense.catalog.jobs import JobFilter
from sendense.catalog.points import PointFilter
from sendense.catalog.rows import row_of
from sendense.catalog.status import summarise
from sendense.catalog.tables import JOBS
from sendense.model.access import Grant, TenantScope
from sendense.model.cloud import CloudInstance, Owner
from sendense.model.job import Job, JobKind, JobState
from sendense.model.page import Page, Paging
from sendense.model.policy import MatchRules
from tests.support.builders import a_disk, a_machine
from tests.support.catalogs import catalog_at, new_urls
from tests.support.clouds import KEYS_OF_CLOUD, NOTHING, a_cloud, a_cloud_instance
from tests.support.fleet import a_heartbeat, a_host, a_point_entry, a_policy, a_repository_entry

_START = datetime(2026, 1, 1, tzinfo=UTC)
GOAL_MS = Goal(50)
DATABASES = ("sqlite", "postgresql")
_BESIDE = {"names of all", "status", "cloud, a look at all of it, unchanged"}
"""Nobody waits for them: they are counted beside, once in a while."""
_CUSTOMERS = 40


@dataclass(frozen=True)
class Fleet:
    """How much is in the catalogue."""

    hosts: int = 1_000
    instances: int = 10_000
    points: int = 100_000
    jobs: int = 50_000
    asks: int = 60
    """How often each question is put."""

    @property
    def now(self) -> datetime:
        """Give the moment after the last point."""
        return _START + timedelta(minutes=self.points)


QUICK = Fleet(hosts=10, instances=100, points=1_000, jobs=500, asks=5)

Question = Callable[[Catalog, Random], object]


def measure_catalogue(fleet: Fleet) -> Iterator[Figure]:
    """Fill a catalogue on each database, and put every question to it."""
    for kind in DATABASES:
        with new_urls(kind) as new_url, catalog_at(url := new_url()) as catalog:
            began = time.monotonic()
            fill(catalog, fleet)
            settle(url)
            filled = time.monotonic() - began
            yield Figure(f"catalogue, {kind}: filled", "s", Better.LOWER, filled)
            for name, ask in questions(fleet).items():
                goal = None if name in _BESIDE else GOAL_MS
                yield _measure(f"catalogue, {kind}: {name}", catalog, ask, fleet.asks, goal)


def _measure(name: str, catalog: Catalog, ask: Question, asks: int, goal: Goal | None) -> Figure:
    random = Random(1)
    runs = []
    for _ in range(asks):
        began = time.perf_counter()
        ask(catalog, random)
        runs.append(1000 * (time.perf_counter() - began))
    p95 = statistics.quantiles(runs, n=20)[-1] if len(runs) > 1 else runs[0]
    median = statistics.median(runs)
    note = f"median {median:.1f}"
    return Figure(f"{name}, p95", "ms", Better.LOWER, p95, goal=goal, note=note)


def questions(fleet: Fleet) -> dict[str, Question]:
    """Give what is asked; each call may ask for another thing of the kind."""

    def host(random: Random) -> str:
        return f"id-kvm{random.randrange(fleet.hosts):04d}"

    def uuid(random: Random) -> str:
        return f"u{random.randrange(fleet.instances):05d}"

    points, jobs = "points", "jobs"
    return {
        "hosts, a page": lambda c, r: c.hosts.page(Paging(limit=100)),
        "instances, a page": lambda c, r: c.instances.page(Paging(limit=100)),
        "instances, of a host": lambda c, r: c.instances.page(host_id=host(r)),
        "instances, by a part of the name": lambda c, r: c.instances.page(search=f"7{r.random()}"),
        "instances, of a tenant": lambda c, r: c.instances.page(grant=Grant(names=("c7-*",))),
        "points, the newest": lambda c, r: c.points.page(Paging(limit=100)),
        "points, a page in the middle": lambda c, r: _deep(lambda at: c.points.page(at), points),
        "points, of an instance": lambda c, r: c.points.page(
            wanted=PointFilter(machine_uuid=uuid(r))
        ),
        "points, of a tenant": lambda c, r: c.points.page(
            wanted=PointFilter(grant=Grant(names=(f"c{r.randrange(_CUSTOMERS)}-*",)))
        ),
        "points, of a tenant without any": lambda c, r: c.points.page(
            wanted=PointFilter(grant=Grant(names=("none-*",)))
        ),
        "jobs, the newest": lambda c, r: c.jobs.page(Paging(limit=100)),
        "jobs, a page in the middle": lambda c, r: _deep(lambda at: c.jobs.page(at), jobs),
        "jobs, those that failed": lambda c, r: c.jobs.page(
            wanted=JobFilter(states=(JobState.FAILED,))
        ),
        "jobs, those that are not done": lambda c, r: c.jobs.page(
            wanted=JobFilter(states=(JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING))
        ),
        "jobs, of an instance": lambda c, r: c.jobs.page(wanted=JobFilter(subject=uuid(r))),
        "cloud, a page": lambda c, r: c.inventory.page(Paging(limit=100)),
        "cloud, by a part of a name": lambda c, r: _cloud(c, search=f"7{r.random()}"),
        "cloud, by a tag": lambda c, r: _cloud(c, tag=f"n={r.randrange(100)}"),
        "cloud, of a tenant": lambda c, r: _cloud(c, grant=_tenant(r)),
        "instances, of a tenant of a cloud": lambda c, r: c.instances.page(grant=_tenant(r)),
        "points, of a tenant of a cloud": lambda c, r: c.points.page(
            wanted=PointFilter(grant=_tenant(r))
        ),
        "jobs, of a tenant of a cloud": lambda c, r: c.jobs.page(
            wanted=JobFilter(grant=_tenant(r))
        ),
        "cloud, a look at all of it, unchanged": lambda c, r: _look(c, fleet),
        "names of all": lambda c, r: c.instances.names(),
        "holding": lambda c, r: c.points.holding(),
        "status": lambda c, r: summarise(c, fleet.now),
    }


def _tenant(random: Random) -> Grant:
    return Grant(tenants=(TenantScope("id-west", f"ROOT/c{random.randrange(_CUSTOMERS)}"),))


def _cloud(catalog: Catalog, **wanted: Any) -> Page[InstanceEntry]:
    return catalog.inventory.page(Paging(limit=100), CloudInstanceFilter(**wanted))


def _look(catalog: Catalog, fleet: Fleet) -> None:
    """Take over all instances of the cloud, in pages."""
    for first in range(0, fleet.instances, 500):
        some = range(first, min(first + 500, fleet.instances))
        found = [(_instance(number), NOTHING) for number in some]
        catalog.inventory.take_instances("id-west", found, fleet.now)


_DEEP: dict[str, Paging] = {}


def _deep(fetch: Callable[[Paging], Page[Any]], name: str) -> Page[Any]:
    """Read a page that lies far behind the first one."""
    if name not in _DEEP:
        paging = Paging(limit=1000)
        for _ in range(20):
            paging = Paging(limit=1000, cursor=fetch(paging).next_cursor)
        _DEEP[name] = Paging(limit=100, cursor=paging.cursor)
    return fetch(_DEEP[name])


def fill(catalog: Catalog, fleet: Fleet) -> None:
    """Fill a catalogue: instances spread over hosts, points over instances, jobs beside them."""
    catalog.repositories.add(a_repository_entry())
    for number in range(10):
        rules = {"match": MatchRules(names=(f"c{number}-*", f"c{number + 20}-*"))}
        catalog.policies.add(a_policy(f"p{number}", **rules, sla=timedelta(days=2)))
    per_host = fleet.instances // fleet.hosts
    for number in range(fleet.hosts):
        host = a_host(f"kvm{number:04d}", heartbeat=a_heartbeat(), last_seen=fleet.now)
        catalog.hosts.add(host)
        machines = [
            a_machine(
                a_disk("vda"), a_disk("vdb"), uuid=f"u{each:05d}", name=_name(each)
            )
            for each in range(number * per_host, (number + 1) * per_host)
        ]  # fmt: skip
        catalog.instances.see(host.id, machines, fleet.now)
    catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
    _look(catalog, fleet)
    catalog.points.put(
        (
            a_point_entry(
                number,
                machine_uuid=f"u{number % fleet.instances:05d}",
                machine_name=_name(number % fleet.instances),
                taken_at=_START + timedelta(minutes=number),
            )
            for number in range(fleet.points)
        ),
        fleet.now,
    )
    rows = [row_of(_job(number, fleet), JOBS) for number in range(fleet.jobs)]
    with catalog.database.write() as connection:
        connection.execute(insert(JOBS), rows)


def settle(url: str) -> None:
    """Do what PostgreSQL does by itself some minutes later; SQLite has no need of it."""
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")


def _instance(number: int) -> CloudInstance:
    customer = f"c{number % _CUSTOMERS}"
    return a_cloud_instance(
        number,
        id=f"u{number:05d}",
        domain_name=_name(number),
        owner=Owner(f"d-{customer}", f"ROOT/{customer}", "admin"),
        tags={"backup": "daily", "n": str(number % 100)},
    )


def _name(number: int) -> str:
    return f"c{number % _CUSTOMERS}-i-2-{number:05d}-VM"


def _job(number: int, fleet: Fleet) -> Job:
    state = JobState.SUCCEEDED if number % 50 else JobState.FAILED
    if number > fleet.jobs - 200:
        state = JobState.QUEUED if number % 2 else JobState.RUNNING
    moment = _START + timedelta(minutes=2 * number)
    return Job(
        id=f"j{number:08d}",
        kind=JobKind.BACKUP,
        subject=f"u{number % fleet.instances:05d}",
        content={"mode": "auto", "consistency": "filesystem"},
        state=state,
        attempt=1,
        priority=0,
        requested_by="policy:p1",
        created_at=moment,
        host_id=f"id-kvm{number % fleet.hosts:04d}",
        finished_at=None if state in {JobState.QUEUED, JobState.RUNNING} else moment,
    )
