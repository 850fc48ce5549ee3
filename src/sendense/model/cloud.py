"""What CloudStack shows of a cloud, as values: instances, volumes, hosts, pools and what is around.

Names are CloudStack's where a person sees them in its API and pages.  Everything is identified by
the UUID that CloudStack gave it.  Unknown words (states, types of storage) are kept as they came:
a version that is newer than ours must not stop a backup.

Secrets are no fields of these values: what ``details`` and user data hold travels as
:class:`InstanceSecrets`, is stored sealed, and shown to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Optional, Union

from sendense.model.secret import Secret


class CloudKind(str, Enum):
    """A kind of object of a cloud that is kept beside its instances."""

    ZONE = "zone"
    HOST = "host"
    POOL = "pool"
    NETWORK = "network"
    SERVICE_OFFERING = "service-offering"
    DISK_OFFERING = "disk-offering"
    TEMPLATE = "template"
    DOMAIN = "domain"
    ACCOUNT = "account"
    PROJECT = "project"


@dataclass(frozen=True)
class Cloud:
    """One CloudStack that is protected; its keys are asked for one by one."""

    id: str
    name: str
    endpoint: str
    """``https://host[:8443]/client/api``."""
    created_at: datetime
    ca_pem: str = ""
    """Certificates that its server is checked with; none: the system's."""
    enabled: bool = True
    has_restore_key: bool = False
    has_webhook: bool = False
    state: CloudState = field(default_factory=lambda: CloudState())


@dataclass(frozen=True)
class CloudState:
    """How a cloud answered last."""

    looked_at: Optional[datetime] = None
    """When it was read whole, the last time that this went well."""
    failed_at: Optional[datetime] = None
    """Since when it does not answer as it should; none while it does."""
    failure: str = ""
    version: str = ""
    clock_skew_s: float = 0.0
    """Seconds that its clock is ahead of ours."""
    warnings: tuple[str, ...] = ()
    instances: int = 0
    hosts: int = 0


@dataclass(frozen=True)
class CloudKeys:
    """What requests to a cloud are signed with."""

    api_key: str
    secret: Secret
    restore_api_key: Optional[str] = None
    """Of another user, for what changes something; none: the same."""
    restore_secret: Optional[Secret] = None
    webhook_secret: Optional[Secret] = None


@dataclass(frozen=True)
class Owner:
    """Whose something is: an account's or a project's, in a domain."""

    domain_id: str
    domain: str = ""
    """Its path: ``ROOT/customers/acme``."""
    account: str = ""
    """Name of the account; empty for what a project owns."""
    project_id: str = ""
    project: str = ""

    @property
    def words(self) -> str:
        """Name it for people."""
        return f"project {self.project}" if self.project_id else f"{self.domain}/{self.account}"

    def is_same(self, other: Optional[Owner]) -> bool:
        """Tell whether both are one by their ids; what names nobody is nobody's."""
        if other is None or (self.project_id or other.project_id):
            return other is not None and self.project_id == other.project_id
        mine = (self.domain_id, self.account)
        return all(mine) and mine == (other.domain_id, other.account)


@dataclass(frozen=True)
class CloudNic:
    """One network card."""

    id: str
    network_id: str
    network: str
    mac: str
    ip: str = ""
    is_default: bool = False
    device_id: int = 0
    kind: str = ""
    """``Isolated``, ``Shared``, ``L2``."""
    secondary_ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class CloudVolume:
    """One disk, as CloudStack has it."""

    id: str
    name: str
    kind: str
    """``ROOT`` or ``DATADISK``."""
    state: str
    size: int
    """Bytes that the guest sees."""
    device_id: Optional[int] = None
    path: str = ""
    """Its file's name in the pool; not always its id, and only seen by accounts of type Admin."""
    pool_id: str = ""
    pool: str = ""
    offering_id: str = ""
    offering: str = ""
    instance_id: str = ""
    zone_id: str = ""
    owner: Optional[Owner] = None
    encryption: str = ""
    """``encryptformat``; empty where it is not encrypted."""
    has_snapshots: bool = False

    @property
    def serial(self) -> str:
        """Give the serial that CloudStack sets: the UUID without dashes, cut to 20 characters."""
        return self.id.replace("-", "")[:20]


@dataclass(frozen=True)
class CloudInstance:
    """One VM of a cloud with its volumes."""

    id: str
    name: str
    state: str
    owner: Owner
    zone_id: str
    display_name: str = ""
    domain_name: str = ""
    """``instancename``: the name of the libvirt domain.  An opaque word: never parsed."""
    zone: str = ""
    host_id: str = ""
    """CloudStack's id of the host where it runs; empty where it does not run."""
    host: str = ""
    last_host_id: str = ""
    offering_id: str = ""
    offering: str = ""
    template_id: str = ""
    template: str = ""
    os_type_id: str = ""
    os_type: str = ""
    hypervisor: str = ""
    cpus: int = 0
    cpu_mhz: int = 0
    memory_bytes: int = 0
    boot_type: str = ""
    """``Bios`` or ``UEFI``."""
    boot_mode: str = ""
    created: Optional[datetime] = None
    nics: tuple[CloudNic, ...] = ()
    volumes: tuple[CloudVolume, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    affinity_group_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    keypairs: tuple[str, ...] = ()
    group: str = ""
    user_data_id: str = ""
    backup_offering: str = ""
    """Name of CloudStack's own backup offering; empty where it has none."""
    memory_snapshots: int = 0
    """VM snapshots with memory."""
    disk_snapshots: int = 0
    """VM snapshots without memory."""
    ha: bool = False
    delete_protection: bool = False

    @property
    def shown_name(self) -> str:
        """Give the name that its owner gave it."""
        return self.display_name or self.name

    @property
    def running(self) -> bool:
        """Tell whether it runs, by its state."""
        return self.state == "Running"


@dataclass(frozen=True)
class InstanceSecrets:
    """What may hold passwords and keys of an instance."""

    details: Mapping[str, Secret] = field(default_factory=dict)
    user_data: Optional[Secret] = None
    """As CloudStack gives it: base64."""


@dataclass(frozen=True)
class CloudZone:
    """One zone."""

    id: str
    name: str
    network_type: str = ""
    security_groups: bool = False
    local_storage: bool = False


@dataclass(frozen=True)
class CloudHost:
    """One hypervisor; also those that are not ours to touch, so that they can be told apart."""

    id: str
    name: str
    address: str
    state: str
    resource_state: str
    kind: str
    """``Routing`` for a hypervisor."""
    hypervisor: str
    zone_id: str = ""
    cluster_id: str = ""
    version: str = ""
    """Of CloudStack's agent on it."""
    hypervisor_version: str = ""

    @property
    def usable(self) -> bool:
        """Tell whether instances of it can be backed up: a KVM host that is up and enabled."""
        return (self.kind, self.hypervisor, self.state, self.resource_state) == (
            "Routing", "KVM", "Up", "Enabled",
        )  # fmt: skip


@dataclass(frozen=True)
class CloudPool:
    """One primary storage."""

    id: str
    name: str
    kind: str
    """``NetworkFilesystem``, ``Filesystem``, ``SharedMountPoint``, ``RBD``, ``Linstor`` ..."""
    path: str = ""
    address: str = ""
    scope: str = ""
    """``HOST``, ``CLUSTER`` or ``ZONE``."""
    state: str = ""
    zone_id: str = ""
    cluster_id: str = ""
    size: int = 0
    used: int = 0


@dataclass(frozen=True)
class CloudNetwork:
    """One guest network."""

    id: str
    name: str
    zone_id: str
    kind: str = ""
    """``Isolated``, ``Shared``, ``L2``."""
    owner: Optional[Owner] = None
    state: str = ""
    cidr: str = ""
    vpc_id: str = ""


@dataclass(frozen=True)
class CloudOffering:
    """One service or disk offering."""

    id: str
    name: str
    customized: bool = False
    """Its size (CPU and memory) is chosen with each use."""
    cpus: int = 0
    cpu_mhz: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    zone_ids: tuple[str, ...] = ()
    """Where it may be used; none: everywhere."""
    domain_ids: tuple[str, ...] = ()
    state: str = ""


@dataclass(frozen=True)
class CloudTemplate:
    """One template in one zone."""

    id: str
    name: str
    zone_id: str = ""
    hypervisor: str = ""
    format: str = ""
    os_type_id: str = ""
    ready: bool = True
    size: int = 0
    boot_type: str = ""


@dataclass(frozen=True)
class CloudDomain:
    """One domain of the tree."""

    id: str
    name: str
    path: str
    parent_id: str = ""


@dataclass(frozen=True)
class CloudAccount:
    """One account."""

    id: str
    name: str
    domain_id: str
    domain: str = ""
    kind: int = 0
    """CloudStack's ``accounttype``: 0 user, 1 root admin, 2 domain admin."""
    state: str = ""


@dataclass(frozen=True)
class CloudProject:
    """One project."""

    id: str
    name: str
    domain_id: str
    domain: str = ""
    state: str = ""


CloudObject = Union[
    CloudZone, CloudHost, CloudPool, CloudNetwork, CloudOffering, CloudTemplate, CloudDomain,
    CloudAccount, CloudProject,
]  # fmt: skip

KINDS: Mapping[CloudKind, type[CloudObject]] = {
    CloudKind.ZONE: CloudZone,
    CloudKind.HOST: CloudHost,
    CloudKind.POOL: CloudPool,
    CloudKind.NETWORK: CloudNetwork,
    CloudKind.SERVICE_OFFERING: CloudOffering,
    CloudKind.DISK_OFFERING: CloudOffering,
    CloudKind.TEMPLATE: CloudTemplate,
    CloudKind.DOMAIN: CloudDomain,
    CloudKind.ACCOUNT: CloudAccount,
    CloudKind.PROJECT: CloudProject,
}
"""What the objects of a kind are."""


@dataclass(frozen=True)
class CloudFacts:
    """What rules match an instance of a cloud by."""

    cloud_id: str
    cloud: str
    """Its name."""
    name: str
    """The instance's, as its owner sees it."""
    zone: str = ""
    domain: str = ""
    """Path of the owner's domain."""
    account: str = ""
    project: str = ""
    offering: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    other_name: str = ""
    """The other of its two names: an instance has a name and a display name."""
    domain_id: str = ""
    project_id: str = ""
    account_id: str = ""
    """Of the account; empty where its cloud does not tell it."""
    above: str = ""
    """Ids of the domains above the owner's, from the root on: ``/id/id/``."""


@dataclass(frozen=True)
class CloudChange:
    """Something of a cloud that is not as it was, found by a look at it."""

    id: int
    cloud_id: str
    at: datetime
    kind: str
    """``instance``, or a :class:`CloudKind`."""
    object_id: str
    name: str
    what: str
    """``appeared``, ``changed`` or ``gone``."""
    fields: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What changed: before and after, as text."""
