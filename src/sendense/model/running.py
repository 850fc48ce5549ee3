"""Who runs a job: workers, and the hold that one of them has on a job that runs.

A worker's **incarnation** is one life of its process: a worker that comes back under its name is
another incarnation, and holds nothing of what the one before held.

A **run** is a job in the hands of a worker.  Its ``take`` counts the hands it went through: only
the newest may say what became of the job.  That is the fence: a worker that was taken for dead, and
only slept, finds that its take is no longer the newest, and nothing that it says is written.

``beat`` is a number that the holder raises every second.  Whoever watches measures by its own clock
how long it stood still, so the clocks of two machines are never compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from sendense.model.job import JobFailure


@dataclass(frozen=True)
class Worker:
    """A process that carries out jobs."""

    name: str
    incarnation: str
    slots: int
    """How many jobs it takes at once; 0 while it stops."""
    version: str
    """Of Sendense."""
    flows: str
    """Of the steps of its jobs: it is given only jobs of these."""
    started_at: datetime
    seen_at: datetime
    """By its own clock, for people."""
    beat: int = 0


@dataclass(frozen=True)
class Run:
    """A job that is running or about to."""

    job_id: str
    attempt: int
    take: int
    """From 1, in each attempt."""
    workflow_id: str
    """Of the durable workflow that carries it out."""
    worker: str
    incarnation: str
    placed_at: datetime
    begun_at: Optional[datetime] = None
    """When the first of its workers began; from then on there may be something to take back."""
    beat: int = 0


@dataclass(frozen=True)
class Attempt:
    """An attempt at a job that has ended."""

    job_id: str
    attempt: int
    worker: str
    takes: int
    """How many workers had it: more than 1 where one of them died."""
    started_at: datetime
    finished_at: datetime
    failure: Optional[JobFailure]
    then: str
    """What followed, and why."""


@dataclass(frozen=True)
class Round:
    """One due time of a policy, and what was made of it."""

    policy_id: str
    due: datetime
    at: datetime
    """When it was seen."""
    submitted: int
    skipped: int
    """Instances whose run before still waits or runs."""
    missed: int
    """Due times before it that nobody saw."""
    late: bool
    reason: str
