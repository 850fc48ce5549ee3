"""Which waiting jobs may begin now, and on which worker: all limits at once.

A job begins only if there is room in total, on its host, in its repository and on a worker, and if
no other job works on the same subject.  The jobs come in the order of their rank, and one that has
to wait does not hold up those behind it: a full host keeps no other host idle.

Pure, so that the promise "never more than N" is a property that tests hold, and so that the reason
why a job waits is the same that kept it from beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Optional

from sendense.model.job import JobKind

BURDEN_HOSTS = frozenset({JobKind.BACKUP, JobKind.RESTORE})
"""Kinds that move a host's data; asking a host what runs there costs it nothing."""


@dataclass(frozen=True)
class Limits:
    """How many jobs may run at once."""

    total: int = 64
    per_host: int = 4
    per_repository: int = 16
    hosts: Mapping[str, int] = field(default_factory=dict)
    """Of single hosts, by their ids: what their agents take."""

    def of_host(self, host_id: str) -> int:
        """Give how many a host takes."""
        return min(self.per_host, self.hosts.get(host_id, self.per_host))


@dataclass(frozen=True)
class Waiting:
    """What counts of a job that waits, or that runs."""

    job_id: str
    kind: JobKind
    subject: str
    host_id: Optional[str] = None
    repository_id: Optional[str] = None

    @property
    def burdened_host(self) -> Optional[str]:
        """Give the host whose limit it counts against."""
        return self.host_id if self.kind in BURDEN_HOSTS else None


@dataclass(frozen=True)
class Placement:
    """A job that may begin, and where."""

    job: Waiting
    worker: str


class Load:
    """What runs now, as far as it counts."""

    def __init__(self, limits: Limits, running: Iterable[Waiting]) -> None:
        """Count what runs."""
        self.limits = limits
        self._total = 0
        self._hosts: Counter[str] = Counter()
        self._repositories: Counter[str] = Counter()
        self._subjects: dict[str, str] = {}
        for job in running:
            self.add(job)

    def add(self, job: Waiting) -> None:
        """Count one more."""
        self._total += 1
        self._subjects[job.subject] = job.job_id
        if job.burdened_host is not None:
            self._hosts[job.burdened_host] += 1
        if job.repository_id is not None:
            self._repositories[job.repository_id] += 1

    @property
    def room(self) -> int:
        """Give how many more may begin in total."""
        return max(0, self.limits.total - self._total)

    def full_hosts(self) -> tuple[str, ...]:
        """Give the hosts that take no more; a paused one takes none at all."""
        known = self._hosts.keys() | self.limits.hosts.keys()
        return tuple(host for host in known if self._hosts[host] >= self.limits.of_host(host))

    def full_repositories(self) -> tuple[str, ...]:
        """Give the repositories that take no more."""
        most = self.limits.per_repository
        return tuple(each for each, count in self._repositories.items() if count >= most)

    def waits_for(self, job: Waiting) -> Optional[str]:
        """Say why a job may not begin now; none if it may."""
        if self._total >= self.limits.total:
            return f"{self._total} jobs run, the limit in total is {self.limits.total}"
        if job.subject in self._subjects:
            return f"job {self._subjects[job.subject]} works on the same"
        host = job.burdened_host
        if host is not None and self._hosts[host] >= self.limits.of_host(host):
            return f"{self._hosts[host]} jobs run on its host, which is its limit"
        place = job.repository_id
        if place is not None and self._repositories[place] >= self.limits.per_repository:
            return f"{self._repositories[place]} jobs use its repository, which is the limit"
        return None


def admit(load: Load, waiting: Iterable[Waiting], free: Mapping[str, int]) -> Iterator[Placement]:
    """Give the jobs that may begin, by rank, each on the worker that has most slots free.

    ``load`` counts what is given.  ``waiting`` is read only as far as there is room.
    """
    slots = {worker: count for worker, count in free.items() if count > 0}
    if not slots or load.room == 0:
        return
    for job in waiting:
        if load.waits_for(job) is not None:
            continue
        worker = max(sorted(slots), key=lambda each: slots[each])
        load.add(job)
        yield Placement(job, worker)
        slots[worker] -= 1
        if slots[worker] == 0:
            del slots[worker]
        if not slots or load.room == 0:
            return
