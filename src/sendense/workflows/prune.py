"""Prune: judge the points of machines by rules, and delete those that no rule keeps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from sendense.model.forecast import Foreseen, Schedule, forecast
from sendense.model.point import RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.model.retention import KeepRules, Verdict, plan_retention
from sendense.repository.protocol import Repository

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """A point and what happens to it."""

    point: RecoveryPoint
    verdict: Verdict


@dataclass(frozen=True)
class PrunePlan:
    """All that a prune would do."""

    judged: tuple[Judged, ...]

    @property
    def removed(self) -> tuple[RecoveryPoint, ...]:
        """List the points that go."""
        return tuple(item.point for item in self.judged if not item.verdict.keep)


def plan_prune(
    repository: Repository,
    rules: KeepRules,
    *,
    machine: str | None,
    now: datetime,
    needed: Mapping[str, str] = MappingProxyType({}),
) -> PrunePlan:
    """Judge the points of one machine (by UUID), or of all; changes nothing.

    ``needed`` are points that work under way relies on, each with what to say of it.
    """
    points = {point.id: point for point in repository.points(machine)}
    verdicts = plan_retention(points.values(), rules, now, repository.holds(machine), needed=needed)
    return PrunePlan(tuple(Judged(points[item.point_id], item) for item in verdicts))


def foresee_prune(
    repository: Repository,
    rules: KeepRules,
    schedule: Schedule,
    *,
    machine: str | None,
    until: datetime,
) -> tuple[Foreseen, ...]:
    """Judge the points that there are and those that will come, as of a later moment."""
    points, holds = repository.points(machine), repository.holds(machine)
    return forecast(points, rules, schedule, until, holds)


def run_prune(
    repository: Repository, plan: PrunePlan, *, listener: ProgressListener = silent
) -> tuple[str, ...]:
    """Carry a plan out; gives the ids of the points deleted."""
    ids = [point.id for point in plan.removed]
    if not ids:
        return ()
    deleted = repository.delete(ids, progress=listener)
    for point_id in deleted:
        log.info("point %s deleted: no retention rule keeps it", point_id)
    return deleted
