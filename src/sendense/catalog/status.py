"""The state of everything in one value: what the status screen shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sendense.catalog.catalog import Catalog
from sendense.catalog.jobs import Failing
from sendense.catalog.points import PointFilter
from sendense.model.access import Grant
from sendense.model.fleet import HostHealth, Instance, InstanceName
from sendense.model.job import JobKind
from sendense.model.page import Paging
from sendense.model.point import PointState
from sendense.model.policy import Policy
from sendense.model.protection import (
    Growth,
    Protection,
    ProtectionVerdict,
    StatusSummary,
)
from sendense.model.schedule import GRACE, LOOK_BACK, last_due
from sendense.model.sla import Expected, Seen, judge

SILENT_AFTER = timedelta(minutes=2)
"""An agent that was not heard of for so long is silent."""
_WORSE = tuple(Protection)
_WORST_FIRST = (
    Protection.FAILING,
    Protection.LATE,
    Protection.MISSED,
    Protection.UNPROTECTED,
    Protection.NEW,
)
_ATTENTION = 100


def judge_all(
    catalog: Catalog, now: datetime, grant: Grant | None = None
) -> tuple[ProtectionVerdict, ...]:
    """Judge every present instance, in order of their names."""
    promises, good = _promises(catalog, now), catalog.points.newest_good()
    past = _past(catalog, promises, now)
    return tuple(
        _judge(instance, promises, good.get(instance.uuid), past, now)
        for instance in catalog.instances.names(grant)
    )


def judge_one(catalog: Catalog, instance: Instance, now: datetime) -> ProtectionVerdict:
    """Judge one instance."""
    good = PointFilter(machine_uuid=instance.uuid, state=PointState.COMPLETE, safety=False)
    newest = catalog.points.page(Paging(limit=1), good).items
    name = catalog.instances.name(instance.uuid)
    promises = _promises(catalog, now)
    past = _past(catalog, promises, now, instance.uuid)
    return _judge(name, promises, newest[0].taken_at if newest else None, past, now)


_Promises = list[tuple[Policy, tuple[datetime, ...]]]
"""The enabled policies, each with its newest runs that were due."""


@dataclass(frozen=True)
class _Past:
    """What became of runs."""

    failing: Mapping[str, Failing]
    made: Mapping[tuple[str, str], datetime]


def _promises(catalog: Catalog, now: datetime) -> _Promises:
    return [
        (policy, last_due(policy.rules.times, now - GRACE)) for policy in catalog.policies.enabled()
    ]


def _past(
    catalog: Catalog, promises: _Promises, now: datetime, subject: str | None = None
) -> _Past:
    """Look no further back than a run was due that may have been missed."""
    oldest = min((due[0] for _, due in promises if due), default=now)
    return _Past(
        catalog.jobs.failing(JobKind.BACKUP, now - LOOK_BACK, subject=subject),
        catalog.jobs.newest_of_policies(JobKind.BACKUP, oldest, subject=subject),
    )


def _judge(
    instance: InstanceName,
    promises: _Promises,
    newest_good: datetime | None,
    past: _Past,
    now: datetime,
) -> ProtectionVerdict:
    """Judge by all policies that take an instance; the one by which it stands worst counts."""
    taking = [each for each in promises if each[0].rules.match.match(instance)]
    bad = past.failing.get(instance.uuid)
    judged = [
        judge(
            _expected(policy, due, instance),
            Seen(
                last_good=newest_good,
                last_job=past.made.get((policy.id, instance.uuid)),
                failures=0 if bad is None else bad.count,
                last_failure="" if bad is None or bad.last is None else bad.last.message,
            ),
            now,
        )
        for policy, due in taking
    ] or [judge(None, Seen(newest_good), now)]
    worst = max(judged, key=lambda each: _WORSE.index(each.protection))
    return ProtectionVerdict(
        instance=instance,
        protection=worst.protection,
        reason=_not_to_be_protected(instance) or "; ".join(worst.reasons),
        policies=tuple(policy.name for policy, _ in taking),
        newest_good=newest_good,
        expected_by=worst.expected_by,
        reason_for_tenants="; ".join(worst.reasons_for_tenants),
    )


def _not_to_be_protected(instance: InstanceName) -> str:
    if not instance.own_of:
        return ""
    return f"CloudStack ({instance.own_of}) makes it for itself: no policy takes it"


def _expected(policy: Policy, due: tuple[datetime, ...], instance: InstanceName) -> Expected:
    # What was due before a policy was edited, or an instance was seen, nobody submits.
    since = max(policy.updated_at, instance.first_seen or policy.updated_at)
    return Expected(policy.name, since, due, policy.rules.sla)


def summarise(catalog: Catalog, now: datetime, *, attention: int = _ATTENTION) -> StatusSummary:
    """Sum up everything; reads each table once, so whoever asks often keeps the answer a while."""
    verdicts = judge_all(catalog, now)
    # What CloudStack makes for itself nobody has to protect.
    counted = [verdict for verdict in verdicts if not verdict.instance.own_of]
    counts = Counter(verdict.protection for verdict in counted)
    wanting = sorted(
        (verdict for verdict in counted if verdict.protection is not Protection.PROTECTED),
        key=lambda verdict: _WORST_FIRST.index(verdict.protection),
    )
    hosts = Counter(host.health(now, SILENT_AFTER) for host in catalog.hosts.every())
    holding = catalog.points.holding()
    return StatusSummary(
        at=now,
        counts={each: counts[each] for each in Protection},
        attention=tuple(wanting[:attention]),
        hosts={each.value: hosts[each] for each in HostHealth},
        jobs=catalog.jobs.counts(),
        points=holding.points,
        stored_bytes=holding.stored_bytes,
        growth=Growth(
            *(catalog.points.stored_since(now - timedelta(days=days)) for days in (1, 7, 30))
        ),
        clouds_own=len(verdicts) - len(counted),
        verdicts=verdicts,
    )
