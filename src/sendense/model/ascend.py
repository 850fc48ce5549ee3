"""Restores into CloudStack: what is asked for, what the cloud is like, and the plan.

:func:`sendense.model.ascend_planning.plan_ascent` makes an :class:`AscendPlan` of a manifest (what
the point remembers), a :class:`CloudView` (what the cloud has now) and an :class:`AscendRequest`.
The plan names its way with the reason, why no better one can be gone, each step, what will not be
as it was, and *all* that has to be changed first.  Nothing is asked and nothing is touched here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional, Protocol

from sendense.errors import Conflict
from sendense.model.ascend_steps import Step
from sendense.model.cloud import (
    CloudAccount,
    CloudInstance,
    CloudNetwork,
    CloudOffering,
    CloudPool,
    CloudProject,
    CloudTemplate,
    CloudZone,
    Owner,
)


class Aim(str, Enum):
    """What a restore is to give."""

    IN_PLACE = "in-place"
    """The same instance with the disks of the point: all, or the volumes named."""
    DATA_DISK = "data-disk"
    """One disk of the point as a new data volume of the same or another instance."""
    RECREATE = "recreate"
    """An instance that is lost, or another one, in this or another zone or cloud."""


class Way(str, Enum):
    """How a disk comes back; the best for a new instance is the first that can be gone."""

    IN_PLACE = "in-place"
    NEW_DATA_VOLUME = "new-data-volume"
    IMPORT_AND_DEPLOY = "import-and-deploy"
    """4.21 and later: import the disks, deploy around the root."""
    DEPLOY_AND_SWAP_ROOT = "deploy-and-swap-root"
    """4.19.1 and later: deploy from a template, put the imported root in place of its own."""
    IMPORT_VM = "import-vm"
    """4.19 and later: make an instance of the root's file; one card, and no template."""
    DEPLOY_AND_OVERWRITE = "deploy-and-overwrite"
    """Every version: deploy from a template, stop, write over its disks."""


class FeatureSet(Protocol):
    """What a key may call in a cloud: the part of the client's features that decides."""

    @property
    def apis(self) -> frozenset[str]:
        """Names of the calls."""

    @property
    def params(self) -> Mapping[str, frozenset[str]]:
        """What each call takes."""

    @property
    def version(self) -> str:
        """CloudStack's, for what no feature tells."""


@dataclass(frozen=True)
class PlainFeatures:
    """Features as a value of their own."""

    apis: frozenset[str]
    params: Mapping[str, frozenset[str]] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True)
class AscendRequest:
    """What somebody asks for."""

    aim: Aim
    volumes: tuple[str, ...] = ()
    """Ids of volumes of the point; none: all that it holds. Exactly one with ``data-disk``."""
    onto: Mapping[str, str] = field(default_factory=dict)
    """In place: volume of the point to the volume that it goes over now, where that is another."""
    instance_id: str = ""
    """Data disk: whose it becomes; empty: the instance's of the point."""
    name: str = ""
    """Recreate: another name than the instance had."""
    zone_id: str = ""
    owner: Optional[Owner] = None
    offering_id: str = ""
    template_id: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Network of the point to network now; those that are still there need none."""
    disk_offerings: Mapping[str, str] = field(default_factory=dict)
    """Volume of the point, or its offering, to a disk offering now."""
    pool_id: str = ""
    """Where new files go; empty: the pool of the point, or one that fits."""
    file_names: Mapping[str, str] = field(default_factory=dict)
    """Volume of the point to a new UUID, the name of its new file. Chosen by the caller."""
    start: Optional[bool] = None
    """Whether it runs in the end; none: as it did (in place now, otherwise in the point)."""
    safety_point: bool = True
    allow_larger: bool = False
    """In place: volumes that were enlarged since may stay so; the rest reads as zero."""
    allow_unencrypted: bool = False
    """Disks that CloudStack encrypted may come back as volumes that are not."""
    with_secrets: bool = False
    """Recreate: another owner, or another cloud, gets details and user data of the point too."""


@dataclass(frozen=True)
class Quota:
    """What the new owner may still take; none: as much as it wants, or not known."""

    instances: Optional[int] = None
    volumes: Optional[int] = None
    primary_bytes: Optional[int] = None
    cpus: Optional[int] = None
    memory_bytes: Optional[int] = None


@dataclass(frozen=True)
class KnownExtras:
    """Ids (keypairs: names) of small things that exist for the new owner."""

    affinity_groups: frozenset[str] = frozenset()
    security_groups: frozenset[str] = frozenset()
    keypairs: frozenset[str] = frozenset()
    user_data: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CloudView:
    """The cloud that is restored to, as it is now."""

    cloud_id: str
    features: FeatureSet
    instance: Optional[CloudInstance] = None
    """The instance of the point, if the cloud still shows it (also Destroyed)."""
    target: Optional[CloudInstance] = None
    """The instance that ``request.instance_id`` names."""
    zones: tuple[CloudZone, ...] = ()
    networks: tuple[CloudNetwork, ...] = ()
    service_offerings: tuple[CloudOffering, ...] = ()
    disk_offerings: tuple[CloudOffering, ...] = ()
    templates: tuple[CloudTemplate, ...] = ()
    pools: tuple[CloudPool, ...] = ()
    accounts: tuple[CloudAccount, ...] = ()
    projects: tuple[CloudProject, ...] = ()
    taken_names: frozenset[str] = frozenset()
    """Names of the new owner's instances."""
    taken_addresses: frozenset[tuple[str, str]] = frozenset()
    """Of networks whose secondary addresses are wanted: network and address of each card there."""
    quota: Quota = field(default_factory=Quota)
    extras: KnownExtras = field(default_factory=KnownExtras)
    attach_beside_backup: bool = False
    """Setting ``backup.enable.attach.detach.of.volumes``."""

    def pool(self, pool_id: str) -> Optional[CloudPool]:
        """Give a pool that is there."""
        return next((pool for pool in self.pools if pool.id == pool_id), None)

    def may(self, api: str) -> bool:
        """Tell whether a call can be made."""
        return api in self.features.apis

    def takes(self, api: str, parameter: str) -> bool:
        """Tell whether a call knows a parameter."""
        return self.may(api) and parameter in self.features.params.get(api, frozenset())


class RefusalCode(str, Enum):
    """Why a plan cannot be carried out."""

    NOT_THERE = "not-there"
    STILL_THERE = "still-there"
    NOT_STOPPABLE = "not-stoppable"
    NO_API = "no-api"
    NO_VOLUME = "no-volume"
    VOLUME_NOT_READY = "volume-not-ready"
    SIZE = "size"
    ENCRYPTED = "encrypted"
    PATH = "path"
    POOL = "pool"
    ZONE = "zone"
    NETWORK = "network"
    SERVICE_OFFERING = "service-offering"
    DISK_OFFERING = "disk-offering"
    TEMPLATE = "template"
    OWNER = "owner"
    NAME = "name"
    QUOTA = "quota"
    SNAPSHOTS = "snapshots"
    BACKUP_OFFERING = "backup-offering"
    REQUEST = "request"


@dataclass(frozen=True)
class Refusal:
    """One thing that has to be changed first."""

    code: RefusalCode
    reason: str
    hint: str
    """What to change."""


@dataclass(frozen=True)
class WayNotTaken:
    """A better way, and why it cannot be gone."""

    way: Way
    reason: str


@dataclass(frozen=True)
class AscendPlan:
    """All that a restore into CloudStack will do, before anything is touched."""

    request: AscendRequest
    way: Optional[Way]
    """None only with refusals."""
    why: str = ""
    steps: tuple[Step, ...] = ()
    """Empty with refusals."""
    not_taken: tuple[WayNotTaken, ...] = ()
    warnings: tuple[str, ...] = ()
    """What will not be as it was."""
    refusals: tuple[Refusal, ...] = ()

    @property
    def refused(self) -> bool:
        """Tell whether something has to be changed first."""
        return bool(self.refusals)

    def ensure(self) -> None:
        """Raise all refusals as one error."""
        if self.refusals:
            raise Conflict(
                "this restore cannot be carried out: "
                + "; ".join(refusal.reason for refusal in self.refusals),
                hint="; ".join(dict.fromkeys(refusal.hint for refusal in self.refusals)),
                codes=", ".join(refusal.code.value for refusal in self.refusals),
            )


def describe(plan: AscendPlan) -> list[str]:
    """Give the plan as lines for people."""
    lines = []
    if plan.way is not None:
        lines.append(f"way: {plan.way.value}, because {plan.why}")
    lines += [f"  not {item.way.value}: {item.reason}" for item in plan.not_taken]
    lines += [f"{number}. {step.words}" for number, step in enumerate(plan.steps, 1)]
    lines += [f"warning: {warning}" for warning in plan.warnings]
    for refusal in plan.refusals:
        lines += [f"refused: {refusal.reason}", f"  change: {refusal.hint}"]
    return lines
