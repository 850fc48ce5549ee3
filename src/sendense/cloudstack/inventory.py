"""All that a cloud shows, page by page.

A page of instances is one request.  Their volumes and snapshots are swept before, once for all of
them, and kept as small as they can be until their instance comes by: ten thousand instances with
two volumes each, and 2 KB of user data, were read with 24 MiB.

What belongs to projects is not in the lists of what belongs to accounts, and the other way round,
so those are read twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from sendense.cloudstack import mapping, mapping_around
from sendense.cloudstack.answers import Row, rows, text
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.mapping import WITH_MEMORY, Paths
from sendense.errors import NotFound
from sendense.model.cloud import (
    CloudAccount,
    CloudDomain,
    CloudHost,
    CloudInstance,
    CloudKind,
    CloudNetwork,
    CloudObject,
    CloudOffering,
    CloudPool,
    CloudProject,
    CloudTemplate,
    CloudVolume,
    CloudZone,
    InstanceSecrets,
)

_LOG = logging.getLogger(__name__)

Found = tuple[CloudInstance, InstanceSecrets]
T = TypeVar("T")

PARTS: Final = "group,nics,secgrp,tmpl,servoff,diskoff,backoff,iso,volume,affgrp"
"""What is asked of an instance; ``stats`` and ``all`` have CloudStack ask its hosts."""
PAGE: Final = 200
"""Instances at once: each may carry user data of some 32 KiB."""
_LATE: Final = 100
"""Instances of one sweep that are asked for their volumes one by one."""
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,64}")
"""Of what is around; most are UUIDs too."""
_ALL: Final[Mapping[str, Any]] = {"listall": True, "isrecursive": True}


# --- What is around


def zones(client: CloudClient) -> Iterator[list[CloudZone]]:
    """Give the zones."""
    return _mapped(client.every("listZones", "zone"), mapping_around.zone)


def hosts(client: CloudClient) -> Iterator[list[CloudHost]]:
    """Give all hosts, whatever they are and do."""
    return _mapped(client.every("listHosts", "host", details="min"), mapping_around.host)


def pools(client: CloudClient) -> Iterator[list[CloudPool]]:
    """Give the primary storages."""
    return _mapped(client.every("listStoragePools", "storagepool"), mapping_around.pool)


def networks(client: CloudClient) -> Iterator[list[CloudNetwork]]:
    """Give the guest networks."""
    paths = domain_paths(client)
    found = _owned(client, "listNetworks", "network")
    return _mapped(found, lambda row: mapping_around.network(row, paths))


def service_offerings(client: CloudClient) -> Iterator[list[CloudOffering]]:
    """Give the offerings of processors and memory."""
    found = client.every("listServiceOfferings", "serviceoffering", **_ALL)
    return _mapped(found, mapping_around.service_offering)


def disk_offerings(client: CloudClient) -> Iterator[list[CloudOffering]]:
    """Give the offerings of disks."""
    found = client.every("listDiskOfferings", "diskoffering", **_ALL)
    return _mapped(found, mapping_around.disk_offering)


def templates(client: CloudClient) -> Iterator[list[CloudTemplate]]:
    """Give the templates, once for each zone; those that the key may use where it is no admin's."""
    which = "all" if client.features().admin else "executable"
    found = client.every("listTemplates", "template", templatefilter=which, listall=True)
    return _mapped(found, mapping_around.template)


def domains(client: CloudClient) -> Iterator[list[CloudDomain]]:
    """Give the tree of domains."""
    return _mapped(client.every("listDomains", "domain", listall=True), mapping_around.domain)


def accounts(client: CloudClient) -> Iterator[list[CloudAccount]]:
    """Give the accounts."""
    paths = domain_paths(client)
    found = client.every("listAccounts", "account", **_ALL)
    return _mapped(found, lambda row: mapping_around.account(row, paths))


def projects(client: CloudClient) -> Iterator[list[CloudProject]]:
    """Give the projects."""
    paths = domain_paths(client)
    found = client.every("listProjects", "project", **_ALL)
    return _mapped(found, lambda row: mapping_around.project(row, paths))


READERS: Final[Mapping[CloudKind, Callable[[CloudClient], Iterator[list[Any]]]]] = {
    CloudKind.ZONE: zones,
    CloudKind.HOST: hosts,
    CloudKind.POOL: pools,
    CloudKind.NETWORK: networks,
    CloudKind.SERVICE_OFFERING: service_offerings,
    CloudKind.DISK_OFFERING: disk_offerings,
    CloudKind.TEMPLATE: templates,
    CloudKind.DOMAIN: domains,
    CloudKind.ACCOUNT: accounts,
    CloudKind.PROJECT: projects,
}
"""How the objects of a kind are read."""


def around(client: CloudClient, kind: CloudKind) -> Iterator[list[CloudObject]]:
    """Give the objects of a kind."""
    odd = 0
    for page in READERS[kind](client):
        sound = [one for one in page if _ID.fullmatch(one.id)]
        odd += len(page) - len(sound)
        yield sound
    client.left_out(f"{kind.value.replace('_', ' ')}s", odd)


def domain_paths(client: CloudClient) -> dict[str, str]:
    """Give the paths of domains by their ids; none where the key may not list domains."""
    if not client.features().has("listDomains"):
        return {}
    return {one.id: one.path for page in domains(client) for one in page}


# --- Instances


def instances(client: CloudClient) -> Iterator[list[Found]]:
    """Give the instances of all accounts and projects, with their volumes."""
    paths = domain_paths(client)
    volumes = _volumes(client, paths)
    snapshots = _snapshots(client)
    late = odd = 0
    for page in _owned(
        client, "listVirtualMachines", "virtualmachine", size=PAGE, **_wanted(client)
    ):
        found = []
        for row in page:
            key = text(row, "id")
            if not _UUID.fullmatch(key):
                odd += 1
                continue
            disks: tuple[CloudVolume, ...] = volumes.pop(key, ())
            if not disks and late < _LATE:
                # Made after the sweep of volumes, or none of them is made yet.
                late += 1
                disks = volumes_of(client, key, paths)
            one = mapping.instance(row, paths, disks, snapshots.pop(key, (0, 0)))
            found.append((one, mapping.secrets(row)))
        yield found
    client.left_out("instances", odd)


def instance(client: CloudClient, uuid: str, paths: Paths | None = None) -> Found:
    """Give one instance as it is now; whoever asks for many gives the paths of domains along."""
    paths = domain_paths(client) if paths is None else paths
    row = one_row(client, "listVirtualMachines", "virtualmachine", uuid, **_wanted(client))
    if row is None:
        raise NotFound(f"there is no instance {uuid} in {client.name or 'the cloud'}", id=uuid)
    disks = volumes_of(client, uuid, paths)
    counted = _counted(_snapshot_rows(client, virtualmachineid=uuid))
    return mapping.instance(row, paths, disks, counted.get(uuid, (0, 0))), mapping.secrets(row)


def volumes_of(
    client: CloudClient, uuid: str, paths: Paths | None = None
) -> tuple[CloudVolume, ...]:
    """Give the volumes of an instance; none where it is not there any more."""
    try:
        pages = list(_owned(client, "listVolumes", "volume", virtualmachineid=uuid))
    except NotFound:
        return ()
    return tuple(mapping.volume(row, paths or {}) for page in pages for row in page)


def one_row(
    client: CloudClient, command: str, key: str, uuid: str, **params: Any
) -> dict[str, Any] | None:
    """Give the row of an id, whoever owns it; none where it is not there."""
    for scope in _scopes(client, command):
        try:
            found = rows(client.call(command, id=uuid, **_ALL, **scope, **params), key)
        except NotFound:
            continue
        for row in found:
            if text(row, "id") == uuid:
                return row
    return None


def _wanted(client: CloudClient) -> dict[str, Any]:
    asked: dict[str, Any] = {"details": PARTS}
    if client.features().takes("listVirtualMachines", "userdata"):
        asked["userdata"] = True
    return asked


def _volumes(client: CloudClient, paths: Paths) -> dict[str, tuple[CloudVolume, ...]]:
    found: dict[str, tuple[CloudVolume, ...]] = {}
    for page in _owned(client, "listVolumes", "volume"):
        for row in page:
            if text(row, "virtualmachineid"):
                disk = mapping.volume(row, paths)
                found[disk.instance_id] = (*found.get(disk.instance_id, ()), disk)
    return found


def _snapshots(client: CloudClient) -> dict[str, tuple[int, int]]:
    return _counted(_snapshot_rows(client))


def _snapshot_rows(client: CloudClient, **params: Any) -> Iterator[dict[str, Any]]:
    """Give the snapshots of instances; nothing where the key may not see them."""
    if not client.features().has("listVMSnapshot"):
        _LOG.warning("%s: the key may not use listVMSnapshot, none is counted", client.name)
        return
    try:
        for page in _owned(client, "listVMSnapshot", "vmSnapshot", **params):
            yield from page
    except NotFound:
        return


def _counted(snapshots: Iterator[Row]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in snapshots:
        key = text(row, "virtualmachineid")
        memory, disk = found.get(key, (0, 0))
        # What is neither counts as without: only memory makes a bitmap dangerous.
        with_memory = text(row, "type") == WITH_MEMORY
        found[key] = (memory + 1, disk) if with_memory else (memory, disk + 1)
    return found


# --- Reading


def _owned(
    client: CloudClient, command: str, key: str, *, size: int | None = None, **params: Any
) -> Iterator[list[dict[str, Any]]]:
    """Give the rows of a list, of accounts first, then of projects, each once."""
    seen: set[str] = set()
    for scope in _scopes(client, command):
        for page in client.every(command, key, size=size, **_ALL, **scope, **params):
            fresh = [row for row in page if text(row, "id") not in seen]
            seen.update(text(row, "id") for row in fresh)
            if fresh:
                yield fresh


def _scopes(client: CloudClient, command: str) -> tuple[dict[str, Any], ...]:
    """Say how to ask for all: ``projectid=-1`` is all projects, and without it none is listed."""
    return ({}, {"projectid": "-1"}) if _takes_projects(client, command) else ({},)


def asks_projects(client: CloudClient) -> bool:
    """Tell whether instances of projects are asked for."""
    return _takes_projects(client, "listVirtualMachines")


def _takes_projects(client: CloudClient, command: str) -> bool:
    """Only a command that is told without this parameter has it not; all versions have it."""
    features = client.features()
    return not features.has(command) or features.takes(command, "projectid")


def _mapped(pages: Iterator[list[dict[str, Any]]], read: Callable[[Row], T]) -> Iterator[list[T]]:
    for page in pages:
        yield [read(row) for row in page]
