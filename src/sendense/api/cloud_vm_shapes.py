"""Bodies about instances of clouds: as their cloud has them, and how they are protected here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from pydantic import Field

from sendense.api.cloud_shapes import ChangeShape
from sendense.api.fleet_shapes import ProtectionShape, protection_shape
from sendense.api.shapes import Shape
from sendense.catalog.inventory_reading import InstanceEntry
from sendense.model.capability import Flag, FlagCode, Severity
from sendense.model.cloud import CloudInstance
from sendense.model.protection import ProtectionVerdict


class OwnerShape(Shape):
    """Whose an instance is."""

    domain_id: str
    domain: str
    """Path of the domain."""
    account: str
    """Empty for what a project owns."""
    project_id: str
    project: str


class VmNicShape(Shape):
    """A network card."""

    id: str
    network_id: str
    network: str
    mac: str
    ip: str
    is_default: bool
    device_id: int
    kind: str
    secondary_ips: list[str]


class VmVolumeShape(Shape):
    """A disk, as the cloud has it."""

    id: str
    name: str
    kind: str
    """`ROOT` or `DATADISK`."""
    state: str
    size: int
    """Bytes that the guest sees."""
    device_id: int | None
    path: str
    """Its file's name in the pool; tenants do not see it."""
    pool_id: str
    pool: str
    offering_id: str
    offering: str
    encryption: str
    """Its format; empty where it is not encrypted."""


class FlagShape(Shape):
    """One thing that is so, and what follows from it for backups and restores."""

    code: FlagCode
    severity: Severity
    """`blocks`: no backup is taken until it is different."""
    message: str
    hint: str
    volume_ids: list[str]
    """Which disks; none: the whole instance."""


class VmShape(Shape):
    """An instance of a cloud."""

    id: str
    name: str
    display_name: str
    instance_name: str
    """Of the domain on its host; tenants do not see it."""
    state: str
    cloud_id: str
    cloud: str
    owner: OwnerShape
    zone_id: str
    zone: str
    host_id: str
    """CloudStack's; empty where it does not run, and for tenants."""
    host: str
    agent_host_id: str | None
    """Of our host where it was seen last."""
    offering_id: str
    offering: str
    template_id: str
    template: str
    os_type: str
    hypervisor: str
    cpus: int
    cpu_mhz: int
    memory_bytes: int
    boot_type: str
    created: datetime | None
    nics: list[VmNicShape]
    volumes: list[VmVolumeShape]
    tags: dict[str, str]
    group: str
    backup_offering: str
    """CloudStack's own; empty where it has none."""
    memory_snapshots: int
    disk_snapshots: int
    ha: bool
    delete_protection: bool
    first_seen: datetime
    seen_at: datetime
    gone_at: datetime | None
    """Since when its cloud has it no longer."""
    protection: ProtectionShape | None
    """How well it is protected; null for one that is gone."""
    policies: list[str]
    """Names of those that take it; not for tenants."""
    flags: list[FlagShape]
    """What blocks comes first."""


class PolicyReason(Shape):
    """What a policy says of an instance."""

    id: str
    name: str
    enabled: bool
    taken: bool
    why: str


class VmPoints(Shape):
    """The points of an instance, in all repositories."""

    count: int
    newest: datetime | None
    newest_good: datetime | None


class VmInFull(VmShape):
    """An instance of a cloud, and all that is known of it."""

    matched: list[PolicyReason] = Field(default=[])
    """What each policy says of it, those that take it first; not for tenants."""
    points: VmPoints
    history: list[ChangeShape] = Field(default=[])
    """Its newest changes in the cloud; not for tenants: it may have been another's."""


def vm_shape(
    entry: InstanceEntry,
    cloud: str,
    verdict: ProtectionVerdict | None,
    flags: Iterable[Flag],
    *,
    for_tenant: bool = False,
) -> VmShape:
    """Describe an instance, for tenants as their cloud would."""
    instance = _as_a_tenant_sees(entry.instance) if for_tenant else entry.instance
    agent_host_id = None if verdict is None or for_tenant else verdict.instance.host_id
    return VmShape(
        **{name: getattr(instance, name) for name in _AS_IT_IS},
        instance_name=instance.domain_name,
        cloud_id=entry.cloud_id,
        cloud=cloud,
        owner=OwnerShape.model_validate(instance.owner),
        agent_host_id=agent_host_id,
        nics=[VmNicShape.model_validate(nic) for nic in instance.nics],
        volumes=[VmVolumeShape.model_validate(volume) for volume in instance.volumes],
        tags=dict(instance.tags),
        first_seen=entry.first_seen,
        seen_at=entry.seen_at,
        gone_at=entry.gone_at,
        protection=None if verdict is None else _protection(verdict, for_tenant=for_tenant),
        policies=[] if verdict is None or for_tenant else list(verdict.policies),
        flags=[FlagShape.model_validate(flag) for flag in flags],
    )


def _protection(verdict: ProtectionVerdict, *, for_tenant: bool) -> ProtectionShape:
    shape = protection_shape(verdict, for_tenant=for_tenant)
    return shape.model_copy(update={"host_id": None}) if for_tenant else shape


def _as_a_tenant_sees(instance: CloudInstance) -> CloudInstance:
    """Leave out what CloudStack shows to accounts of type Admin only."""
    volumes = tuple(replace(each, path="", pool_id="", pool="") for each in instance.volumes)
    return replace(instance, domain_name="", host_id="", host="", last_host_id="", volumes=volumes)


_AS_IT_IS = (
    "id", "name", "display_name", "state", "zone_id", "zone", "host_id", "host", "offering_id",
    "offering", "template_id", "template", "os_type", "hypervisor", "cpus", "cpu_mhz",
    "memory_bytes", "boot_type", "created", "group", "backup_offering", "memory_snapshots",
    "disk_snapshots", "ha", "delete_protection",
)  # fmt: skip
