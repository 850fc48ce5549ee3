"""Bodies about clouds, and what is in them save for their instances."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, SecretStr, StringConstraints

from sendense.api.shapes import Asked, LongText, Name, Shape, Text
from sendense.catalog.inventory_reading import ObjectEntry
from sendense.catalog.status import SILENT_AFTER
from sendense.model.cloud import Cloud, CloudHost, CloudKind, CloudPool
from sendense.model.cloud_check import Purpose
from sendense.model.coding import encode
from sendense.model.fleet import Host, HostHealth
from sendense.workflows.managed.cloud_hosts import folders_on, same_host

ApiKey = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]
SecretKey = Annotated[SecretStr, Field(min_length=1, max_length=1000)]
Pem = Annotated[str, StringConstraints(max_length=100_000)]


class NewCloud(Asked):
    """A CloudStack whose instances are to be protected."""

    name: Name = Field(examples=["zone1"])
    """Its own; people know the cloud by it."""
    endpoint: LongText = Field(examples=["https://cloud.example.net:8443/client/api"])
    """Of its API."""
    api_key: ApiKey
    """Of a user who may read; of an account of type Admin, for hosts and paths to be seen."""
    secret_key: SecretKey
    """It is sealed, and never given out again."""
    restore_api_key: ApiKey | None = None
    """Of another user, who may stop, start and make instances; none: the same."""
    restore_secret_key: SecretKey | None = None
    ca_pem: Pem = ""
    """Certificates that its server is checked with; none: those of the system."""
    enabled: bool = True
    """Whether it is looked at."""


class CloudChange(Asked):
    """What is to be different; what is left out stays."""

    name: Name | None = None
    endpoint: LongText | None = None
    api_key: ApiKey | None = None
    """With its secret."""
    secret_key: SecretKey | None = None
    restore_api_key: ApiKey | None = None
    """With its secret."""
    restore_secret_key: SecretKey | None = None
    forget_restore_key: bool = False
    """Restore with the key that reads from now on."""
    ca_pem: Pem | None = None
    """An empty text: the certificates of the system."""
    enabled: bool | None = None


class CloudStateShape(Shape):
    """How a cloud answered last."""

    looked_at: datetime | None
    """When it was read whole, the last time that this went well."""
    failed_at: datetime | None
    """Since when it does not answer as it should; null while it does."""
    failure: str
    version: str
    clock_skew_s: float
    warnings: list[str]
    instances: int
    hosts: int


class CloudShape(Shape):
    """A cloud; its keys are not shown, only which there are."""

    id: str
    name: str
    endpoint: str
    created_at: datetime
    enabled: bool
    has_restore_key: bool
    has_webhook: bool
    has_ca: bool
    """Whether it is checked with certificates of its own."""
    state: CloudStateShape


class MissingShape(Shape):
    """A command of the cloud that a key may not use, or that its version does not have."""

    api: str
    why: str
    """What it is needed for."""
    optional: bool
    """Without it something is not shown, or not possible."""
    since: str
    """The first version that has it, where not all do."""


class PurposeShape(Shape):
    """How fit a key is for one purpose."""

    purpose: Purpose
    good: bool
    """Whether all is there that is needed."""
    own_key: bool
    """Whether there is a key for this alone."""
    wanted: bool
    """Whether anybody asked for it: webhooks are wanted once one is set. What an unwanted purpose
    would need is optional."""
    missing: list[MissingShape]
    failure: str
    """Why the key could not be tried; empty where it was."""


class CloudCheckShape(Shape):
    """How a cloud answers now."""

    reachable: bool
    failure: str
    hint: str
    version: str
    skew_s: float
    """Seconds that its clock is ahead of ours."""
    admin: bool
    """Whether its answers tell hosts and paths."""
    features: dict[str, bool]
    """What this version can do, of what restores and events make use of."""
    purposes: list[PurposeShape]
    beyond: list[str]
    """Commands that the keys may use and need not."""
    warnings: list[str]


class RoleShape(Shape):
    """A role of a cloud that has what is needed and nothing else."""

    name: str
    commands: str
    """For CloudMonkey, as root administrator; read them first."""


class WebhookAsked(Asked):
    """Where a cloud is to send its events."""

    url: LongText = Field(examples=["https://backup.example.net:8443"])
    """Of this server, as the cloud reaches it."""


class ObjectShape(Shape):
    """Something of a cloud that is around its instances."""

    kind: CloudKind
    id: str
    name: str
    value: dict[str, Any]
    """All that is kept of it; its fields depend on its kind."""
    first_seen: datetime
    seen_at: datetime
    gone_at: datetime | None
    """Since when the cloud has it no longer."""


class CloudHostShape(Shape):
    """A host of a cloud, and what of ours is on it."""

    id: str
    """CloudStack's."""
    name: str
    address: str
    zone_id: str
    cluster_id: str
    state: str
    resource_state: str
    hypervisor: str
    hypervisor_version: str
    version: str
    """Of CloudStack's agent on it."""
    usable: bool
    """Whether instances of it can be backed up: a KVM host that is up and enabled."""
    why_not: Text
    host_id: str | None
    """Of our entry with its address or name; null: there is none, or more than one."""
    health: HostHealth | None
    """Of our agent on it."""
    agent_version: str
    pools: list[str]
    """Folders of the pools of files that it has, for its agent's setting `pools`."""


class ChangeShape(Shape):
    """Something of a cloud that was found to be not as it was."""

    id: int
    at: datetime
    kind: str
    """`instance`, or a kind of object."""
    object_id: str
    name: str
    what: str
    """`appeared`, `changed` or `gone`."""
    fields: dict[str, list[str]]
    """What changed: before and after."""


def cloud_shape(cloud: Cloud) -> CloudShape:
    """Describe a cloud."""
    return CloudShape(
        id=cloud.id,
        name=cloud.name,
        endpoint=cloud.endpoint,
        created_at=cloud.created_at,
        enabled=cloud.enabled,
        has_restore_key=cloud.has_restore_key,
        has_webhook=cloud.has_webhook,
        has_ca=bool(cloud.ca_pem),
        state=CloudStateShape.model_validate(cloud.state),
    )


def object_shape(entry: ObjectEntry) -> ObjectShape:
    """Describe an object."""
    return ObjectShape(
        kind=entry.kind,
        id=entry.value.id,
        name=getattr(entry.value, "path", "")
        if entry.kind is CloudKind.DOMAIN
        else entry.value.name,
        value=encode(entry.value),
        first_seen=entry.first_seen,
        seen_at=entry.seen_at,
        gone_at=entry.gone_at,
    )


def cloud_host_shape(
    host: CloudHost, ours: Iterable[Host], pools: Iterable[CloudPool], now: datetime
) -> CloudHostShape:
    """Describe a host of a cloud beside ours."""
    known = same_host(host, ours)
    return CloudHostShape(
        **{name: getattr(host, name) for name in _OF_HOSTS},
        why_not=_why_not(host),
        host_id=None if known is None else known.id,
        health=None if known is None else known.health(now, SILENT_AFTER),
        agent_version="" if known is None else known.version,
        pools=list(folders_on(host, pools)),
    )


def _why_not(host: CloudHost) -> str:
    """Say why instances of a host cannot be backed up; empty where they can."""
    if host.kind != "Routing":
        return f"it is no hypervisor but of type {host.kind or 'unknown'}"
    if host.hypervisor != "KVM":
        return f"its hypervisor is {host.hypervisor or 'unknown'}, and only KVM is backed up"
    if host.state != "Up":
        return f"its state is {host.state or 'unknown'}"
    if host.resource_state != "Enabled":
        return f"its resource state is {host.resource_state or 'unknown'}"
    return ""


_OF_HOSTS = (
    "id", "name", "address", "zone_id", "cluster_id", "state", "resource_state", "hypervisor",
    "hypervisor_version", "version", "usable",
)  # fmt: skip
