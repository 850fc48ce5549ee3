"""Hosts with their agents, and the instances that run there, as the control plane knows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Optional

from sendense.model.agent_status import Heartbeat, Level
from sendense.model.cloud import CloudFacts
from sendense.model.machine import Machine, PowerState


class Transport(str, Enum):
    """How the bytes of a host's disks travel."""

    SSH = "ssh"
    TLS = "tls"
    LOCAL = "local"


@dataclass(frozen=True)
class Host:
    """One KVM host and the agent on it; they have one id."""

    id: str
    name: str
    address: str
    """Where SSH reaches it for its deployment."""
    transport: Transport
    created_at: datetime
    control_port: Optional[int] = None
    """Port of the gateway's loopback that leads to the agent's API."""
    data_ports: tuple[int, ...] = ()
    """Ports of the gateway's loopback that lead to the agent's gate."""
    public_key: str = ""
    """Of its tunnels, as in ``authorized_keys``."""
    enrolled_at: Optional[datetime] = None
    revoked_at: Optional[datetime] = None
    """From then on its key and its tickets open nothing."""
    heartbeat: Optional[Heartbeat] = None
    """The last one."""
    last_seen: Optional[datetime] = None
    version: str = ""
    """Of Sendense on it."""
    paused_until: Optional[datetime] = None
    """Till then it is given no new captures and restores: its agent is being replaced, say."""

    def health(self, now: datetime, silent_after: timedelta) -> HostHealth:
        """Say how it is, from what it said last and when."""
        if self.revoked_at is not None:
            return HostHealth.REVOKED
        if self.enrolled_at is None:
            return HostHealth.NOT_ENROLLED
        if self.last_seen is None or now - self.last_seen > silent_after:
            return HostHealth.SILENT
        levels = {check.level for check in self.heartbeat.health} if self.heartbeat else set()
        if Level.FAILED in levels:
            return HostHealth.FAILED
        return HostHealth.WARNING if Level.WARNING in levels else HostHealth.OK


class HostHealth(str, Enum):
    """How a host is, in one word."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SILENT = "silent"
    """Nothing was heard of it for too long."""
    NOT_ENROLLED = "not-enrolled"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Instance:
    """One machine, wherever it runs."""

    uuid: str
    name: str
    host_id: Optional[str]
    """Where it was seen last; none where it is off and belongs to no host."""
    power: PowerState
    machine: Machine
    first_seen: datetime
    seen_at: datetime
    gone_at: Optional[datetime] = None
    """Since when no host shows it, and no cloud has it; its points stay."""


@dataclass(frozen=True)
class InstanceName:
    """What rules match an instance by, and since when there is something to ask for."""

    uuid: str
    name: str
    host_id: Optional[str]
    first_seen: Optional[datetime] = None
    cloud: Optional[CloudFacts] = None
    """None where no cloud has, or had, it."""
    own_of: str = ""
    """The cloud that makes such machines for itself (system VMs, routers, console proxies), on
    whose host it is; no policy takes it."""


_FRESH = timedelta(minutes=10)


def may_take_over(known: Instance, host_id: str, power: PowerState, now: datetime) -> bool:
    """Tell whether what a host shows of an instance is the newest that is known of it.

    During a live migration both hosts show it: where it runs wins.  So does where it ran a moment
    ago, over a host that only has its definition, or the paused end of a migration.
    """
    if known.host_id in (None, host_id) or known.gone_at is not None:
        return True
    if power is PowerState.RUNNING:
        return True
    return known.power is not PowerState.RUNNING or now - known.seen_at > _FRESH
