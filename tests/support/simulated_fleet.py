"""A fleet in the catalogue alone: hosts, instances, and workers whose jobs end by themselves."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.catalog.database import Database
from sendense.catalog.runs import Ending, end_run
from sendense.catalog.tables import JOBS
from sendense.jobs.dispatcher import Dispatcher
from sendense.jobs.durable import WORKFLOW_VERSION
from sendense.model.job import JobState
from sendense.model.running import Worker
from tests.support.builders import a_machine
from tests.support.fleet import a_host, a_policy, a_repository_entry

_HELD = (JobState.RUNNING, JobState.CANCELLING)


@dataclass
class Night:
    """What happened while a nightly schedule was worked off."""

    rounds: int = 0
    jobs: int = 0
    most_in_total: int = 0
    most_per_host: int = 0
    overlaps: int = 0
    """Looks at which two jobs worked on one instance."""
    schedule_cpu_s: float = 0.0
    place_cpu_s: float = 0.0
    longest_tick_s: float = 0.0
    hosts_at_once: list[int] = field(default_factory=list)


class SimulatedFleet:
    """Fills a catalogue, and plays the workers."""

    def __init__(
        self, catalog: Catalog, hosts: int, instances: int, slots: tuple[int, ...]
    ) -> None:
        """Make so many hosts with so many instances each, and a worker for each number of slots."""
        self._catalog = catalog
        now = clock.now()
        catalog.repositories.add(a_repository_entry())
        for number in range(hosts):
            host = a_host(f"kvm{number:04d}")
            catalog.hosts.add(host)
            shown = [
                a_machine(uuid=f"{number:04d}-{each}", name=f"vm-{number:04d}-{each}")
                for each in range(instances)
            ]
            catalog.instances.see(host.id, shown, now)
        self.workers = [
            Worker(f"w{number}", f"life-{number}", count, "1", WORKFLOW_VERSION, now, now)
            for number, count in enumerate(slots)
        ]
        for worker in self.workers:
            catalog.workers.register(worker)

    def add_nightly(self, made_at: datetime) -> None:
        """Add a policy that takes everything, and is due."""
        due = clock.now() - timedelta(minutes=1)
        policy = a_policy(schedule=f"{due.minute} {due.hour} * * *")
        self._catalog.policies.add(
            type(policy)(policy.id, policy.name, True, policy.rules, made_at, made_at)
        )

    def work_off(self, dispatcher: Dispatcher) -> Night:
        """Dispatch until nothing is left; each job takes one round."""
        night = Night()
        cpu = time.process_time()
        dispatcher.tick()
        night.schedule_cpu_s = time.process_time() - cpu
        while running := self._look(night):
            self._end(running)
            night.jobs += len(running)
            for worker in self.workers:
                self._catalog.runs.renew(worker, clock.now(), {}, {})
            cpu, began = time.process_time(), time.monotonic()
            dispatcher.tick()
            night.place_cpu_s += time.process_time() - cpu
            night.longest_tick_s = max(night.longest_tick_s, time.monotonic() - began)
            night.rounds += 1
        return night

    def _look(self, night: Night) -> list[str]:
        database: Database = self._catalog.database
        query = select(JOBS.c.id, JOBS.c.host_id, JOBS.c.subject).where(JOBS.c.state.in_(_HELD))
        with database.read() as connection:
            rows = connection.execute(query).all()
        hosts = Counter(row.host_id for row in rows if row.host_id is not None)
        night.most_in_total = max(night.most_in_total, len(rows))
        night.most_per_host = max([night.most_per_host, *hosts.values()])
        night.overlaps += len(rows) - len({row.subject for row in rows})
        night.hosts_at_once.append(len(hosts))
        return [row.id for row in rows]

    def _end(self, job_ids: list[str]) -> None:
        wanted, ending = set(job_ids), Ending(JobState.SUCCEEDED, "done")
        runs = [run for run in self._catalog.runs.list() if run.job_id in wanted]
        with self._catalog.database.write() as connection:
            for run in runs:
                end_run(connection, run, ending, clock.now())

    def left(self) -> int:
        """Count the jobs that have not ended."""
        query = select(func.count()).where(JOBS.c.finished_at.is_(None))
        with self._catalog.database.read() as connection:
            return int(connection.execute(query).scalar_one())
