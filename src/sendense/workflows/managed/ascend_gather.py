"""What a restore into a cloud is planned from: what the point remembers, and what the cloud has.

The cloud is asked afresh, by the key that will carry the restore out: an inventory that is minutes
old would give plans that fail half-way.  Only what the aim needs is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sendense import clock
from sendense.catalog.inventory_reading import InstanceEntry
from sendense.cloudstack import answers, inventory, mapping
from sendense.cloudstack.client import CloudClient
from sendense.errors import NotFound, Rejected
from sendense.model.ascend import Aim, AscendRequest, CloudView, KnownExtras, Quota
from sendense.model.cloud import CloudInstance, CloudKind, InstanceSecrets, Owner
from sendense.model.cloud_manifest import (
    ATTACHMENT,
    CloudManifest,
    ManifestDisk,
    manifest_from_bytes,
    secrets_from_bytes,
    secrets_to_bytes,
)
from sendense.model.matching import match_disks
from sendense.model.point import RecoveryPoint
from sendense.model.secret import Secret
from sendense.repository.protocol import Repository
from sendense.units import GIB, MIB
from sendense.workflows.managed.cloud_hosts import pools_of
from sendense.workflows.managed.estate import Estate

_ATTACH_BESIDE = "backup.enable.attach.detach.of.volumes"
_KINDS = {
    Aim.IN_PLACE: (CloudKind.POOL,),
    Aim.DATA_DISK: (CloudKind.POOL, CloudKind.DISK_OFFERING),
    Aim.RECREATE: (
        CloudKind.ZONE, CloudKind.NETWORK, CloudKind.SERVICE_OFFERING, CloudKind.DISK_OFFERING,
        CloudKind.TEMPLATE, CloudKind.POOL, CloudKind.ACCOUNT, CloudKind.PROJECT,
    ),
}  # fmt: skip
_FIELDS = {
    CloudKind.ZONE: "zones",
    CloudKind.NETWORK: "networks",
    CloudKind.SERVICE_OFFERING: "service_offerings",
    CloudKind.DISK_OFFERING: "disk_offerings",
    CloudKind.TEMPLATE: "templates",
    CloudKind.POOL: "pools",
    CloudKind.ACCOUNT: "accounts",
    CloudKind.PROJECT: "projects",
}


# --- What the point remembers


@dataclass(frozen=True)
class Remembered:
    """What there is to tell of an instance as it was at its point."""

    manifest: CloudManifest
    warnings: tuple[str, ...] = ()
    """What is not known for sure, or not at all."""
    strays: tuple[str, ...] = ()
    """Targets of disks of the point that no volume is known to be."""


def manifest_of(estate: Estate, repository: Repository, point: RecoveryPoint) -> CloudManifest:
    """Give what a point remembers of its instance in the cloud; see :func:`remembered`."""
    return remembered(estate, repository, point).manifest


def remembered(estate: Estate, repository: Repository, point: RecoveryPoint) -> Remembered:
    """Give what a point remembers of its instance in the cloud.

    One that was made before its cloud was known remembers nothing; of such the inventory tells,
    also of an instance that is gone, if each disk is one of its volumes without a doubt.
    """
    if any(item.name == ATTACHMENT for item in point.attachments):
        with repository.open(point.id) as reader:
            return Remembered(manifest_from_bytes(reader.attachment(ATTACHMENT)))
    try:
        entry = estate.catalog.inventory.instance(point.machine.uuid)
    except NotFound:
        raise Rejected(
            f"point {point.id} of {point.machine.name} remembers nothing of a cloud,"
            " and no known cloud had its instance",
            hint="restore its disks to files of a pool, and attach them by hand",
        ) from None
    return _of_inventory(estate, point, entry)


def _of_inventory(estate: Estate, point: RecoveryPoint, entry: InstanceEntry) -> Remembered:
    cloud = estate.catalog.clouds.get(entry.cloud_id)
    match = match_disks(point.machine, entry.instance, pools_of(estate, cloud.id))
    match.ensure_sure()
    secrets = estate.catalog.inventory.secrets(entry.instance.id)
    sealed = None
    if secrets.details or secrets.user_data is not None:
        content = Secret(secrets_to_bytes(secrets))
        sealed = estate.catalog.seal_for_points(entry.instance.id, content)
    sizes = {image.disk.identity: image.size for image in point.disks}
    pairs = [pair for pair in match.pairs if pair.disk.identity in sizes]
    then = {pair.volume.id: sizes[pair.disk.identity] for pair in pairs}
    manifest = CloudManifest(
        cloud_id=cloud.id,
        cloud=cloud.name,
        version=cloud.state.version,
        taken_at=entry.seen_at,
        # A volume may have been resized since; what the point has is as large as it was.
        instance=replace(
            entry.instance,
            volumes=tuple(
                replace(volume, size=then.get(volume.id, volume.size))
                for volume in entry.instance.volumes
            ),
        ),
        disks=tuple(
            ManifestDisk(pair.volume.id, pair.disk.identity, pair.disk.format) for pair in pairs
        ),
        sealed=sealed,
    )
    extra = tuple(disk.target for disk in match.extra_disks if disk.identity in sizes)
    return Remembered(manifest, _doubtful(entry, extra), extra)


def _doubtful(entry: InstanceEntry, extra: tuple[str, ...]) -> tuple[str, ...]:
    words = (
        "the point remembers nothing of its cloud: volumes, offering, networks and tags are those"
        f" that the instance had when it was seen last, {entry.seen_at:%Y-%m-%d %H:%M} UTC"
    )
    if not extra:
        return (words,)
    return (
        words,
        f"not restored, because no volume of the instance is known to be it: {', '.join(extra)};"
        " a restore into files of a pool gives them (sendense job restore --pool)",
    )


def secrets_of(estate: Estate, manifest: CloudManifest) -> InstanceSecrets:
    """Open what the point has sealed of its instance."""
    if manifest.sealed is None:
        return InstanceSecrets()
    opened = estate.catalog.open_from_point(manifest.instance.id, manifest.sealed)
    return secrets_from_bytes(opened.reveal())


# --- What the cloud has


def view_of(
    client: CloudClient, cloud_id: str, manifest: CloudManifest, request: AscendRequest
) -> CloudView:
    """Ask a cloud for all that a plan is made of."""
    parts: dict[str, Any] = {
        _FIELDS[kind]: tuple(each for page in inventory.around(client, kind) for each in page)
        for kind in _KINDS[request.aim]
    }
    instance = _instance(client, manifest.instance.id)
    target = _instance(client, request.instance_id) if request.instance_id else None
    if request.aim is Aim.RECREATE:
        owner = request.owner or manifest.instance.owner
        parts |= {
            "taken_names": frozenset(_names(client, owner)),
            "taken_addresses": frozenset(_addresses(client, manifest.instance)),
            "quota": _quota(client, owner),
            "extras": _extras(client, owner),
        }
    if request.aim is Aim.DATA_DISK:
        whose = target or instance
        parts |= {
            "quota": _quota(client, whose.owner) if whose is not None else Quota(),
            "attach_beside_backup": _setting(client, _ATTACH_BESIDE),
        }
    return CloudView(
        cloud_id=cloud_id, features=client.features(), instance=instance, target=target, **parts
    )


def _instance(client: CloudClient, uuid: str) -> CloudInstance | None:
    try:
        return inventory.instance(client, uuid)[0]
    except NotFound:
        return None


def _owned(owner: Owner) -> dict[str, Any]:
    if owner.project_id:
        return {"projectid": owner.project_id}
    return {"account": owner.account, "domainid": owner.domain_id}


def _rows(client: CloudClient, command: str, **params: Any) -> Iterator[dict[str, Any]]:
    """Give the rows of a list; none where the key may not ask, or the owner is not there."""
    if not client.features().has(command):
        return
    try:
        for page in client.every(command, listall=True, **params):
            yield from page
    except Rejected:
        return


def _names(client: CloudClient, owner: Owner) -> Iterator[str]:
    for row in _rows(client, "listVirtualMachines", details="min", **_owned(owner)):
        yield answers.text(row, "name")


def _addresses(client: CloudClient, was: CloudInstance) -> Iterator[tuple[str, str]]:
    """Give the addresses in use in the networks where secondary ones are wanted again."""
    projects = ({"projectid": "-1"},) if inventory.asks_projects(client) else ()
    wanted = {nic.network_id for nic in was.nics if nic.secondary_ips}
    for network_id in sorted(wanted):
        for scope in ({"isrecursive": True}, *projects):
            for row in _rows(
                client, "listVirtualMachines", networkid=network_id, details="nics", **scope
            ):
                for nic in map(mapping.nic, answers.rows(row, "nic") if row.get("nic") else ()):
                    if nic.network_id == network_id:
                        yield from ((network_id, ip) for ip in (nic.ip, *nic.secondary_ips))


def _quota(client: CloudClient, owner: Owner) -> Quota:
    """Give what an owner may still take; what is not told is not limited here."""
    if owner.project_id:
        rows = _rows(client, "listProjects", id=owner.project_id)
    else:
        rows = _rows(client, "listAccounts", name=owner.account, domainid=owner.domain_id)
    row = next(rows, {})

    def left(name: str, unit: int = 1) -> int | None:
        said = answers.text(row, f"{name}available")
        return max(0, int(said)) * unit if said.lstrip("-").isdigit() and said != "-1" else None

    return Quota(
        instances=left("vm"),
        volumes=left("volume"),
        primary_bytes=left("primarystorage", GIB),
        cpus=left("cpu"),
        memory_bytes=left("memory", MIB),
    )


def _extras(client: CloudClient, owner: Owner) -> KnownExtras:
    def ids(command: str, key: str = "id") -> frozenset[str]:
        return frozenset(answers.text(row, key) for row in _rows(client, command, **_owned(owner)))

    return KnownExtras(
        affinity_groups=ids("listAffinityGroups"),
        security_groups=ids("listSecurityGroups"),
        keypairs=ids("listSSHKeyPairs", "name"),
        user_data=ids("listUserData"),
    )


def _setting(client: CloudClient, name: str) -> bool:
    rows = _rows(client, "listConfigurations", name=name)
    return any(
        answers.text(row, "name") == name and answers.text(row, "value") == "true" for row in rows
    )


def looked_at(estate: Estate, cloud_id: str, uuid: str) -> None:
    """Have the inventory know an instance as it is now."""
    found = inventory.instance(estate.cloud(cloud_id), uuid)
    estate.catalog.inventory.take_instances(cloud_id, [found], clock.now())
