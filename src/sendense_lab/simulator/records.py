"""Rows of the management server's database, as far as its API shows them.

They are changed in place, under `World.lock`. References are ids (UUIDs), as a client sees them;
`db_id` is the number that CloudStack counts by and makes instance names of.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime


def new_id() -> str:
    """Give a fresh UUID."""
    return str(uuid.uuid4())


def now() -> datetime:
    """Give the moment."""
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Record:
    """What every row has."""

    id: str = field(default_factory=new_id)
    name: str = ""
    created: datetime = field(default_factory=now)
    db_id: int = 0


@dataclass(kw_only=True)
class Zone(Record):
    network_type: str = "Advanced"
    security_groups: bool = False
    local_storage: bool = True


@dataclass(kw_only=True)
class Pod(Record):
    zone_id: str = ""


@dataclass(kw_only=True)
class Cluster(Record):
    zone_id: str = ""
    pod_id: str = ""


@dataclass(kw_only=True)
class Host(Record):
    zone_id: str = ""
    pod_id: str = ""
    cluster_id: str = ""
    address: str = ""
    state: str = "Up"
    resource_state: str = "Enabled"
    kind: str = "Routing"
    hypervisor: str = "KVM"
    hypervisor_version: str = ""
    details: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Pool(Record):
    zone_id: str = ""
    pod_id: str = ""
    cluster_id: str = ""
    kind: str = "NetworkFilesystem"
    path: str = ""
    address: str = "192.0.2.1"
    scope: str = "CLUSTER"
    state: str = "Up"
    host: str = ""
    size: int = 10 << 40


@dataclass(kw_only=True)
class Domain(Record):
    parent_id: str = ""
    path: str = "ROOT"
    """As the API shows it: `ROOT/customers/acme`."""
    level: int = 0
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Role(Record):
    kind: str = "User"
    """`Admin`, `ResourceAdmin`, `DomainAdmin` or `User`."""
    description: str = ""
    is_default: bool = False
    is_public: bool = True
    state: str = "enabled"


@dataclass(kw_only=True)
class RoleRule(Record):
    role_id: str = ""
    rule: str = ""
    allow: bool = False
    description: str = ""


@dataclass(kw_only=True)
class Account(Record):
    domain_id: str = ""
    kind: int = 0
    """0 user, 1 root administrator, 2 domain administrator, 3 resource administrator, 5 project."""
    role_id: str = ""
    state: str = "enabled"
    project_id: str = ""
    """Of the project whose account it is; such an account has no users."""
    api_access: str = "inherit"
    limits: dict[str, int] = field(default_factory=dict)
    """By the name of the resource (`user_vm`, `volume`, `primary_storage` ...)."""


@dataclass(kw_only=True)
class User(Record):
    account_id: str = ""
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    state: str = "enabled"
    api_access: str = "inherit"
    password: str = field(default="", repr=False)
    """None: nobody logs in as this user."""
    two_factor: bool = False
    must_change_password: bool = False
    wrong_passwords: int = 0
    """In a row."""


@dataclass(kw_only=True)
class KeyPairOfUser(Record):
    """An API key. From 4.23 on a user can have several, each with rules and an end."""

    user_id: str = ""
    api_key: str = ""
    secret: str = field(default="", repr=False)
    starts: datetime | None = None
    ends: datetime | None = None
    rules: list[tuple[str, bool]] = field(default_factory=list)


@dataclass(kw_only=True)
class Project(Record):
    domain_id: str = ""
    account_id: str = ""
    """The account that owns what the project owns."""
    display_text: str = ""
    owner_id: str = ""
    member_ids: list[str] = field(default_factory=list)
    state: str = "Active"


@dataclass(kw_only=True)
class Owned(Record):
    account_id: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Network(Owned):
    zone_id: str = ""
    kind: str = "Isolated"
    cidr: str = "10.1.1.0/24"
    gateway: str = "10.1.1.1"
    netmask: str = "255.255.255.0"
    state: str = "Implemented"
    vlan: int = 1000
    next_host: int = 10
    public: bool = False
    """Everybody may use it: a shared network of the zone."""


@dataclass(kw_only=True)
class ServiceOffering(Record):
    display_text: str = ""
    cpus: int = 0
    cpu_mhz: int = 0
    memory_mib: int = 0
    customized: bool = False
    storage_type: str = "shared"
    domain_ids: list[str] = field(default_factory=list)
    zone_ids: list[str] = field(default_factory=list)
    state: str = "Active"
    disk_offering_id: str = ""


@dataclass(kw_only=True)
class DiskOffering(Record):
    display_text: str = ""
    size_gib: int = 0
    customized: bool = False
    storage_type: str = "shared"
    domain_ids: list[str] = field(default_factory=list)
    zone_ids: list[str] = field(default_factory=list)
    state: str = "Active"
    encrypt: bool = False


@dataclass(kw_only=True)
class OsType(Record):
    category_id: str = ""


@dataclass(kw_only=True)
class Template(Owned):
    zone_id: str = ""
    os_type_id: str = ""
    size: int = 0
    format: str = "QCOW2"
    ready: bool = True
    featured: bool = True
    public: bool = True
    kind: str = "USER"
    machine_name: str = ""
    """As the machines know it."""
    is_iso: bool = False


@dataclass(kw_only=True)
class AffinityGroup(Owned):
    kind: str = "host anti-affinity"
    description: str = ""


@dataclass(kw_only=True)
class SecurityGroup(Owned):
    description: str = ""


@dataclass(kw_only=True)
class SshKeyPair(Owned):
    fingerprint: str = ""


@dataclass(kw_only=True)
class UserData(Owned):
    content: str = ""


@dataclass(kw_only=True)
class BackupOffering(Record):
    zone_id: str = ""
    description: str = ""


@dataclass(kw_only=True)
class Nic(Record):
    network_id: str = ""
    mac: str = ""
    ip: str = ""
    is_default: bool = False
    device_id: int = 0
    secondary_ips: list[str] = field(default_factory=list)
    enabled: bool = True


@dataclass(kw_only=True)
class Instance(Owned):
    display_name: str = ""
    state: str = "Stopped"
    zone_id: str = ""
    host_id: str = ""
    last_host_id: str = ""
    instance_name: str = ""
    offering_id: str = ""
    cpus: int = 0
    cpu_mhz: int = 0
    memory_mib: int = 0
    template_id: str = ""
    iso_id: str = ""
    os_type_id: str = ""
    nics: list[Nic] = field(default_factory=list)
    volume_ids: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    user_data: str = ""
    user_data_id: str = ""
    affinity_ids: list[str] = field(default_factory=list)
    security_group_ids: list[str] = field(default_factory=list)
    keypairs: list[str] = field(default_factory=list)
    group: str = ""
    group_id: str = ""
    backup_offering_id: str = ""
    uefi: bool = False
    boot_mode: str = "LEGACY"
    ha: bool = False
    delete_protection: bool = False
    user_id: str = ""
    updated: datetime | None = None


@dataclass(kw_only=True)
class Volume(Owned):
    kind: str = "DATADISK"
    state: str = "Allocated"
    size: int = 0
    device_id: int | None = None
    instance_id: str = ""
    zone_id: str = ""
    pool_id: str = ""
    path: str = ""
    format: str = "qcow2"
    offering_id: str = ""
    """Of its disk offering; a root volume has that of the instance."""
    template_id: str = ""
    attached: datetime | None = None
    encryption: str = ""
    chain: str = ""
    delete_protection: bool = False


@dataclass(kw_only=True)
class Snapshot(Owned):
    volume_id: str = ""
    state: str = "BackedUp"
    size: int = 0
    zone_id: str = ""


@dataclass(kw_only=True)
class VmSnapshot(Owned):
    display_name: str = ""
    description: str = ""
    instance_id: str = ""
    kind: str = "Disk"
    """`Disk` or `DiskAndMemory`."""
    state: str = "Ready"
    current: bool = True
    parent_id: str = ""
    overlays: bool = False
    """It left the volumes on new files, on top of those before."""


@dataclass(kw_only=True)
class Event(Record):
    kind: str = ""
    level: str = "INFO"
    description: str = ""
    state: str = "Completed"
    account_id: str = ""
    user_id: str = ""
    resource_id: str = ""
    resource_kind: str = ""
    resource_name: str = ""
    parent_id: str = ""


@dataclass(kw_only=True)
class Webhook(Record):
    account_id: str = ""
    url: str = ""
    scope: str = "Local"
    secret: str = field(default="", repr=False)
    verify: bool = True
    state: str = "Enabled"
    description: str = ""
