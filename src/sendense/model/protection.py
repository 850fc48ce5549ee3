"""How well instances are protected: the words, and what is told of one and of all.

What is decided, and by what, is in :mod:`sendense.model.sla`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Optional

from sendense.model.fleet import InstanceName
from sendense.model.job import JobState


class Protection(str, Enum):
    """How well an instance is protected; the later ones of this list are the worse."""

    PROTECTED = "protected"
    NEW = "new"
    MISSED = "missed"
    FAILING = "failing"
    LATE = "late"
    UNPROTECTED = "unprotected"


@dataclass(frozen=True)
class ProtectionVerdict:
    """One instance, and how well it is protected."""

    instance: InstanceName
    protection: Protection
    reason: str
    """All reasons there are, the one that counts among them."""
    policies: tuple[str, ...]
    """Names of those that take it."""
    newest_good: Optional[datetime]
    expected_by: Optional[datetime] = None
    """Where it has an SLA: when its next good point is needed."""
    reason_for_tenants: str = ""
    """The same reasons, without what the policy is called."""


@dataclass(frozen=True)
class Growth:
    """Bytes that were stored lately."""

    day: int
    week: int
    month: int


@dataclass(frozen=True)
class StatusSummary:
    """All instances in a few numbers, and which need attention."""

    at: datetime
    counts: dict[Protection, int]
    attention: tuple[ProtectionVerdict, ...]
    """Those that are not protected, the most urgent first; at most so many as were asked."""
    hosts: dict[str, int]
    """Count by health."""
    jobs: dict[JobState, int]
    """Count of those that have not ended."""
    points: int
    stored_bytes: int
    growth: Growth
    clouds_own: int = 0
    """Machines that CloudStack makes for itself: in no count, and taken by no policy."""
    verdicts: tuple[ProtectionVerdict, ...] = ()
    """Of all instances that are there, by name."""
