"""Policies into jobs: every few seconds, what has come due is submitted, exactly once.

A due time of a policy becomes one **round**: a backup for each instance that the policy takes.  An
instance whose run before still waits or runs gets no second one: it would only stand in the queue
behind the first.

Whoever runs a policy by hand makes a round too, due at that moment; or the one that has come due
meanwhile, and that nobody saw yet, with all that was missed before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sendense.catalog.catalog import Catalog
from sendense.catalog.rounds import alone_with, newest_due, remember, still_open
from sendense.catalog.runs import submit_all
from sendense.catalog.tenants import those_with_repository
from sendense.clock import format_utc
from sendense.errors import Conflict, NotFound
from sendense.model.fleet import InstanceName
from sendense.model.job import JobKind, JobRequest
from sendense.model.policy import Policy, PolicyRules
from sendense.model.running import Round
from sendense.model.schedule import DueRun, Timetable, due_run
from sendense.model.tenant import Tenant, destination

_TICK = timedelta(microseconds=1)


def timetable(rules: PolicyRules) -> Timetable:
    """Give the times of a policy."""
    return rules.times


class Timetables:
    """The enabled policies with their times, as of the last look."""

    def __init__(self, catalog: Catalog) -> None:
        """Read nothing yet."""
        self._catalog = catalog
        self._read: tuple[tuple[Policy, Timetable], ...] = ()

    def refresh(self) -> None:
        """Look at the policies again."""
        self._read = tuple((each, each.rules.times) for each in self._catalog.policies.enabled())

    def __iter__(self) -> Iterator[tuple[Policy, Timetable]]:
        """Give them."""
        return iter(self._read)

    def closed(self, now: datetime) -> dict[str, str]:
        """Give the policies whose jobs may not begin now, and why."""
        reasons = {policy.id: times.forbids(now) for policy, times in self}
        return {policy_id: reason for policy_id, reason in reasons.items() if reason is not None}


def due_rounds(
    timetables: Timetables, newest: dict[str, datetime], now: datetime
) -> Iterator[tuple[Policy, DueRun]]:
    """Give what has come due, by policy.

    What was due before a policy was made, or edited, is not asked for.
    """
    for policy, times in timetables:
        run = _has_come_due(policy, times, newest.get(policy.id), now)
        if run is not None:
            yield policy, run


def _has_come_due(
    policy: Policy, times: Timetable, newest: datetime | None, now: datetime
) -> DueRun | None:
    seen = max(newest or policy.updated_at, policy.updated_at)
    return due_run(times, seen, now)


def run_now(catalog: Catalog, policy_id: str, who: str, now: datetime) -> Round:
    """Submit a round of a policy at once, because somebody asks for it.

    Its window and its blackout dates hold; its jitter does not count.
    """
    policy = catalog.policies.get(policy_id)
    times, instances = policy.rules.times, catalog.instances.names()
    with catalog.database.write() as connection:
        if not alone_with(connection, policy.id):
            raise NotFound(f"there is no policy {policy_id}")
        newest = newest_due(connection, policy.id)
        due = _has_come_due(policy, times, newest, now) if policy.enabled else None
        if due is None:
            # A clock that was set back meanwhile: a round of a moment is made once.
            moment = now if newest is None else max(now, newest + _TICK)
            due = DueRun(moment, late=False, missed=(), reason="")
        why = [part for part in (due.reason, f"asked for by {who}", times.forbids(now)) if part]
        run = replace(due, reason="; ".join(why))
        made = submit_round(connection, policy, run, instances, now, asked_by=who)
    if made is None:
        raise Conflict(f"the policy {policy.name} was run this very moment")
    return made


def submit_round(
    connection: Connection,
    policy: Policy,
    run: DueRun,
    instances: Collection[InstanceName],
    now: datetime,
    *,
    asked_by: str | None = None,
) -> Round | None:
    """Submit the jobs of a due time; none if it was dealt with before."""
    if not alone_with(connection, policy.id):
        return None
    taken = [each for each in instances if policy.rules.match.match(each)]
    busy = still_open(connection, policy.id, JobKind.BACKUP)
    fresh = [each for each in taken if each.uuid not in busy]
    reason = run.reason
    own = sum(1 for each in instances if policy.rules.match.would_match(each))
    if own:
        reason += f"; {own} machines that CloudStack makes for itself are left out"
    if len(fresh) < len(taken):
        reason += f"; {len(taken) - len(fresh)} instances still have a run that waits or runs"
    made = Round(
        policy_id=policy.id,
        due=run.due,
        at=now,
        submitted=len(fresh),
        skipped=len(taken) - len(fresh),
        missed=len(run.missed),
        late=run.late,
        reason=reason,
    )
    if not remember(connection, made):
        return None
    places = those_with_repository(connection)
    times, requests = policy.rules.times, [_backup(policy, run, each, places) for each in fresh]
    if asked_by is None:
        requests = [
            replace(each, not_before=times.begins(run.due, policy.id, each.subject))
            for each in requests
        ]
    else:
        begins = times.allowed_from(now)
        requests = [replace(each, requested_by=asked_by, not_before=begins) for each in requests]
    submit_all(connection, requests, now)
    return made


def _backup(
    policy: Policy, run: DueRun, instance: InstanceName, tenants: Collection[Tenant]
) -> JobRequest:
    rules = policy.rules
    place = destination(tenants, instance.cloud, rules.repository_id)
    return JobRequest(
        kind=JobKind.BACKUP,
        subject=instance.uuid,
        content={
            "mode": "auto",
            "consistency": rules.consistency.value,
            "full_every": rules.full_every,
            "beside_cloudstack": rules.beside_cloudstack,
            "keep_bitmaps": rules.keep_bitmaps,
            "due": format_utc(run.due),
            **place.said,
        },
        requested_by=f"policy:{policy.name}",
        priority=rules.priority,
        host_id=instance.host_id,
        repository_id=place.repository_id,
        policy_id=policy.id,
    )
