"""Values of the control plane with sensible defaults: hosts, policies, points, requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sendense.model.agent_status import AgentFacts, HealthCheck, Heartbeat, Level
from sendense.model.decision import Mode
from sendense.model.fleet import Host, Transport
from sendense.model.holdings import PointEntry, RepositoryEntry
from sendense.model.job import JobKind, JobRequest
from sendense.model.point import Consistency, PointState
from sendense.model.policy import MatchRules, Policy, PolicyRules
from sendense.model.retention import KeepRules

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_host(name: str = "kvm1", **changes: Any) -> Host:
    """Give a host that is enrolled."""
    host = Host(
        id=f"id-{name}",
        name=name,
        address=f"{name}.example",
        transport=Transport.SSH,
        created_at=NOW,
        enrolled_at=NOW,
    )
    return replace(host, **changes)


def a_heartbeat(level: Level = Level.OK, **changes: Any) -> Heartbeat:
    """Give what a well agent says."""
    facts = AgentFacts(
        id="id-kvm1",
        host="kvm1",
        version="1.2.3",
        versions="libvirt 9.0.0",
        protocol=1,
        boot_id="b1",
        started_at=NOW,
        now=NOW,
        incremental=True,
        transport="ssh",
        max_concurrent_vms=10,
        max_concurrent_exports=10,
        bandwidth_limit_mbps=1000,
        backup_window=None,
    )
    check = HealthCheck("libvirt", level, "it answers")
    return replace(Heartbeat(facts, (check,), (), 0, 0), **changes)


def a_repository_entry(name: str = "main", **changes: Any) -> RepositoryEntry:
    """Give a repository."""
    entry = RepositoryEntry(id=f"id-{name}", name=name, url=f"/srv/{name}", created_at=NOW)
    return replace(entry, **changes)


def a_policy(name: str = "nightly", **rules: Any) -> Policy:
    """Give a policy that takes everything; ``rules`` are changes of what it says."""
    said = PolicyRules(
        repository_id="id-main",
        schedule="0 1 * * *",
        keep=KeepRules(daily=7),
        match=MatchRules(names=("*",)),
    )
    return Policy(f"id-{name}", name, True, replace(said, **rules), NOW, NOW)


def a_point_entry(number: int = 1, **changes: Any) -> PointEntry:
    """Give the point of a number; later ones are younger."""
    entry = PointEntry(
        id=f"p{number:06d}",
        repository_id="id-main",
        machine_uuid="u1",
        machine_name="vm1",
        sequence=number,
        taken_at=NOW + timedelta(minutes=number),
        mode=Mode.INCREMENTAL,
        consistency=Consistency.CRASH,
        state=PointState.COMPLETE,
        size=1 << 30,
        read_bytes=1000,
        stored_bytes=100,
    )
    return replace(entry, **changes)


def a_request(kind: JobKind = JobKind.BACKUP, **changes: Any) -> JobRequest:
    """Give a request."""
    request = JobRequest(kind=kind, subject="u1", content={"mode": "auto"}, requested_by="ada")
    return replace(request, **changes)
