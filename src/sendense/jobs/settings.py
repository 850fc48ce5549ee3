"""How jobs are run: limits, patience and pauses, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from sendense.errors import Rejected
from sendense.model.admission import Limits


@dataclass(frozen=True)
class RetryRules:
    """How often, and after how long, a job is tried again."""

    attempts: int = 4
    """In all."""
    first: timedelta = timedelta(seconds=30)
    """The pause before the second attempt; each further pause is ``factor`` times as long."""
    factor: int = 4
    longest: timedelta = timedelta(hours=1)


@dataclass(frozen=True)
class JobSettings:
    """Everything that durable jobs are run by."""

    limits: Limits = field(default_factory=Limits)
    retry: RetryRules = field(default_factory=RetryRules)
    slots: int = 8
    """Jobs that one worker takes at once."""
    poll_s: float = 0.5
    """How often the dispatcher looks for jobs that may begin."""
    schedule_s: float = 2.0
    """How often it looks at the schedules."""
    beat_s: float = 1.0
    """How often a worker says that it lives, writes progress, and hears of wishes to cancel."""
    fence_s: float = 20.0
    """A worker that cannot say so for so long lets go of its jobs."""
    lease_s: float = 40.0
    """A worker that did not say so for so long is dead: its jobs go to others."""
    turn_s: float = 15.0
    """A dispatcher that did nothing for so long is dead: another takes its turn."""
    takes: int = 10
    """Workers that a job may lose before it fails: it may be what kills them."""
    drain_s: float = 30.0
    """How long a worker that is asked to stop lets its jobs go on before it breaks them off."""

    def __post_init__(self) -> None:
        """Refuse patience that would let two workers hold one job."""
        if self.lease_s < self.fence_s * 1.5:
            raise Rejected(
                f"workers let go of their jobs after {self.fence_s:g} s without the database, "
                f"so others may take them after {self.fence_s * 1.5:g} s at the earliest"
            )
