"""Bodies about hosts, agents and instances."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from sendense.api.shapes import Asked, Name, Shape, Text
from sendense.catalog.status import SILENT_AFTER
from sendense.model.agent_status import Level
from sendense.model.cloud import CloudFacts
from sendense.model.fleet import Host, HostHealth, Instance, Transport
from sendense.model.machine import PowerState
from sendense.model.protection import Protection, ProtectionVerdict

Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:_\[\]-]{1,255}$")]


class NewHost(Asked):
    """A host to be known; its agent is deployed to it afterwards."""

    name: Name = Field(examples=["kvm-07"])
    """Its own; people know the host by it."""
    address: Address = Field(examples=["kvm-07.example.net"])
    """Where SSH reaches it."""
    transport: Transport = Transport.SSH
    """How the bytes of its disks travel."""


class HostChange(Asked):
    """What is to be different; what is left out stays."""

    name: Name | None = None
    address: Address | None = None
    transport: Transport | None = None


class HostShape(Shape):
    """A KVM host, and how its agent is."""

    id: str
    name: str
    address: str
    transport: Transport
    health: HostHealth
    """`silent`: nothing was heard of its agent for two minutes."""
    created_at: datetime
    enrolled_at: datetime | None
    revoked_at: datetime | None
    last_seen: datetime | None
    version: str
    control_port: int | None
    data_ports: list[int]
    paused_until: datetime | None = None
    """Till then it is given no new work."""


class CheckShape(Shape):
    """One thing that an agent watches."""

    name: str
    level: Level
    message: str
    hint: str | None


class AgentShape(Shape):
    """An agent as it described itself last."""

    id: str
    """Of its host."""
    host: str
    """Name of its host."""
    health: HostHealth
    last_seen: datetime | None
    transport: Transport
    version: str
    versions: str = ""
    """Of libvirt and QEMU too."""
    incremental: bool | None = None
    """Whether the host can make checkpoints; null: not known yet."""
    running: int = 0
    """Captures and restores under way."""
    queued: int = 0
    max_concurrent_vms: int | None = None
    bandwidth_limit_mbps: int | None = None
    backup_window: str | None = None
    checks: list[CheckShape] = Field(default_factory=list)


class DiskShape(Shape):
    """A disk of an instance."""

    target: str
    path: str
    format: str
    serial: str | None


class InstanceCloudShape(Shape):
    """What a cloud calls an instance, and where it has it; `/cloudstack/vms/{vm_id}` has more."""

    cloud_id: str
    cloud: str
    name: str
    """As its owner sees it."""
    other_name: str
    """The other of its two names there."""
    zone: str
    domain: str
    account: str
    project: str
    offering: str
    tags: dict[str, str]


class InstanceShape(Shape):
    """An instance."""

    uuid: str
    name: str
    host_id: str | None
    power: PowerState
    vcpus: int
    memory_bytes: int
    disks: list[DiskShape]
    first_seen: datetime
    seen_at: datetime
    gone_at: datetime | None
    """Since when no host shows it, and no cloud has it; its points stay."""
    cloud: InstanceCloudShape | None
    """What the cloud says that has it, a minute old at most; null where none does."""


class ProtectionShape(Shape):
    """How well an instance is protected."""

    uuid: str
    name: str
    cloud_name: str | None
    """What its owner calls it, where a cloud has it."""
    host_id: str | None
    protection: Protection
    reason: Text
    policies: list[str]
    """Names of those that take it; not for tenants: they may be called as other customers are."""
    newest_good: datetime | None
    """When the newest point that can be trusted was taken."""


class InstanceInFull(InstanceShape):
    """An instance, and how well it is protected."""

    protection: ProtectionShape


def host_shape(host: Host, now: datetime) -> HostShape:
    """Describe a host."""
    return HostShape(
        id=host.id,
        name=host.name,
        address=host.address,
        transport=host.transport,
        health=host.health(now, SILENT_AFTER),
        created_at=host.created_at,
        enrolled_at=host.enrolled_at,
        revoked_at=host.revoked_at,
        last_seen=host.last_seen,
        version=host.version,
        control_port=host.control_port,
        data_ports=list(host.data_ports),
        paused_until=host.paused_until,
    )


def agent_shape(host: Host, now: datetime) -> AgentShape:
    """Describe the agent of a host."""
    known = AgentShape(
        id=host.id,
        host=host.name,
        health=host.health(now, SILENT_AFTER),
        last_seen=host.last_seen,
        transport=host.transport,
        version=host.version,
    )
    if host.heartbeat is None:
        return known
    heartbeat, facts = host.heartbeat, host.heartbeat.facts
    return known.model_copy(
        update={
            "versions": facts.versions,
            "incremental": facts.incremental,
            "running": len(heartbeat.running),
            "queued": heartbeat.queued,
            "max_concurrent_vms": facts.max_concurrent_vms,
            "bandwidth_limit_mbps": facts.bandwidth_limit_mbps,
            "backup_window": facts.backup_window,
            "checks": [CheckShape.model_validate(check) for check in heartbeat.health],
        }
    )


def instance_shape(instance: Instance, cloud: CloudFacts | None) -> InstanceShape:
    """Describe an instance."""
    return InstanceShape(
        uuid=instance.uuid,
        name=instance.name,
        host_id=instance.host_id,
        power=instance.power,
        vcpus=instance.machine.vcpus,
        memory_bytes=instance.machine.memory_bytes,
        disks=[DiskShape.model_validate(disk) for disk in instance.machine.disks],
        first_seen=instance.first_seen,
        seen_at=instance.seen_at,
        gone_at=instance.gone_at,
        cloud=None if cloud is None else InstanceCloudShape.model_validate(cloud),
    )


def protection_shape(verdict: ProtectionVerdict, *, for_tenant: bool = False) -> ProtectionShape:
    """Describe how well an instance is protected; no policy by its name for a tenant."""
    return ProtectionShape(
        uuid=verdict.instance.uuid,
        name=verdict.instance.name,
        cloud_name=verdict.instance.cloud.name if verdict.instance.cloud else None,
        host_id=verdict.instance.host_id,
        protection=verdict.protection,
        reason=verdict.reason_for_tenants if for_tenant else verdict.reason,
        policies=[] if for_tenant else list(verdict.policies),
        newest_good=verdict.newest_good,
    )
