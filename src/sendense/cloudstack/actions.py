"""What restores have a cloud do, one function for each, with what CloudStack wants of it.

A function that changes something waits for the end of its job.  ``check`` is asked meanwhile and
may raise to leave; the job goes on in CloudStack then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sendense import clock
from sendense.cloudstack import answers, inventory, jobs, mapping
from sendense.cloudstack.answers import flag, number, text
from sendense.cloudstack.client import CloudClient
from sendense.errors import NotFound, Rejected, SendenseError
from sendense.model.cloud import CloudVolume, Owner
from sendense.model.secret import Secret
from sendense.units import GIB

_LOG = logging.getLogger(__name__)

Check = Callable[[], None]

_LOOK_BACK = timedelta(hours=38)
"""A day, and what the zones of two clocks differ by at most."""


@dataclass(frozen=True)
class Card:
    """A network card of an instance that is made."""

    network_id: str
    mac: str = ""
    ip: str = ""


@dataclass(frozen=True)
class NewInstance:
    """An instance to be made."""

    name: str
    zone_id: str
    offering_id: str
    owner: Owner
    template_id: str = ""
    volume_id: str = ""
    """Its root, where it is made around a volume (4.21 and newer); else a template."""
    display_name: str = ""
    cards: Sequence[Card] = ()
    start: bool = True
    host_id: str = ""
    details: Mapping[str, str | Secret] = field(default_factory=dict)
    """Also ``cpuNumber``, ``cpuSpeed`` and ``memory`` (MiB) for an offering without a size."""
    user_data: Secret | None = None
    user_data_id: str = ""
    affinity_group_ids: Sequence[str] = ()
    security_group_ids: Sequence[str] = ()
    keypairs: Sequence[str] = ()
    group: str = ""
    disk_offering_id: str = ""
    root_disk_bytes: int = 0
    boot_type: str = ""
    boot_mode: str = ""


@dataclass(frozen=True)
class ImportableFile:
    """A file of a pool that could become a volume."""

    path: str
    format: str
    size: int
    """Bytes on the storage."""
    virtual_size: int
    backing: str = ""
    encrypted: bool = False
    locked: bool = False

    @property
    def hindrance(self) -> str:
        """Say why CloudStack would refuse it; empty where it would not."""
        if self.backing:
            return f"it has a backing file, {self.backing}"
        if self.encrypted:
            return "it is encrypted"
        return "it is in use" if self.locked else ""


@dataclass(frozen=True)
class BusyJob:
    """A job that is under way."""

    id: str
    command: str
    """Its Java class, without its package."""
    object_id: str = ""


# --- Power


def start(
    client: CloudClient, uuid: str, *, host_id: str = "", check: Check = jobs.nothing
) -> None:
    """Start an instance."""
    client.run("startVirtualMachine", check=check, id=uuid, hostid=host_id or None)


def stop(
    client: CloudClient, uuid: str, *, forced: bool = False, check: Check = jobs.nothing
) -> None:
    """Stop an instance."""
    client.run("stopVirtualMachine", check=check, id=uuid, forced=True if forced else None)


def state(client: CloudClient, uuid: str) -> str:
    """Give the state of an instance now; empty where it is not there."""
    row = inventory.one_row(client, "listVirtualMachines", "virtualmachine", uuid, details="min")
    return "" if row is None else text(row, "state")


# --- Instances


def deploy(
    client: CloudClient, new: NewInstance, *, check: Check = jobs.nothing, job_id: str = ""
) -> str:
    """Make an instance and give its id."""
    job = client.start("deployVirtualMachine", job_id=job_id, **_deployed(client, new))
    result = answers.only(client.wait(job, check=check))
    return text(result, "id") or job.object_id


def import_vm(  # noqa: PLR0913 - what the command takes
    client: CloudClient,
    *,
    name: str,
    path: str,
    pool_id: str,
    zone_id: str,
    network_id: str,
    offering_id: str,
    owner: Owner,
    cluster_id: str = "",
    host_id: str = "",
    display_name: str = "",
    details: Mapping[str, str | Secret] | None = None,
    check: Check = jobs.nothing,
    job_id: str = "",
) -> str:
    """Make a stopped instance of a root disk in a pool (4.19 and newer); ``host_id``: local."""
    result = client.run(
        "importVm",
        check=check,
        job_id=job_id,
        importsource="local" if host_id else "shared",
        hypervisor="KVM",
        name=name,
        displayname=display_name or None,
        diskpath=path,
        storageid=pool_id,
        zoneid=zone_id,
        clusterid=cluster_id or None,
        hostid=host_id or None,
        networkid=network_id,
        serviceofferingid=offering_id,
        details=dict(details) if details else None,
        **_owned_by(owner),
    )
    return text(answers.only(result), "id")


def update(client: CloudClient, uuid: str, **fields: Any) -> None:
    """Change fields of an instance: ``displayname``, ``details``, ``userdata`` ..."""
    client.call("updateVirtualMachine", id=uuid, **fields)


def assign(client: CloudClient, uuid: str, owner: Owner) -> None:
    """Give a stopped instance to an account or project."""
    client.call("assignVirtualMachine", virtualmachineid=uuid, **_owned_by(owner))


# --- Volumes


def create_volume(  # noqa: PLR0913 - what the command takes
    client: CloudClient,
    *,
    name: str,
    zone_id: str,
    offering_id: str,
    size: int,
    owner: Owner,
    customized: bool = True,
    pool_id: str = "",
    check: Check = jobs.nothing,
    job_id: str = "",
) -> str:
    """Make a volume and give its id; its file is there only after it was attached."""
    params: dict[str, Any] = {"name": name, "zoneid": zone_id, "diskofferingid": offering_id}
    if customized:
        # CloudStack counts in whole GiB here: never less than what has to fit.
        params["size"] = -(-size // GIB)
    if pool_id:
        if not client.features().takes("createVolume", "storageid"):
            raise Rejected("this version of CloudStack makes no volume on a chosen pool")
        params["storageid"] = pool_id
    job = client.start("createVolume", job_id=job_id, **params, **_owned_by(owner))
    return text(answers.only(client.wait(job, check=check)), "id") or job.object_id


def import_volume(  # noqa: PLR0913 - what the command takes
    client: CloudClient,
    *,
    path: str,
    pool_id: str,
    name: str,
    owner: Owner,
    offering_id: str = "",
    check: Check = jobs.nothing,
    job_id: str = "",
) -> str:
    """Take a file of a pool as a volume (4.19.1 and newer), and give its id."""
    result = client.run(
        "importVolume", check=check, job_id=job_id, path=path, storageid=pool_id, name=name,
        diskofferingid=offering_id or None, **_owned_by(owner),
    )  # fmt: skip
    return text(answers.only(result), "id")


def volumes_for_import(client: CloudClient, pool_id: str, path: str = "") -> list[ImportableFile]:
    """Give the files of a pool that can be taken as volumes."""
    found = []
    for page in client.every("listVolumesForImport", storageid=pool_id, path=path or None):
        found += [_importable(row) for row in page]
    return found


def _importable(row: answers.Row) -> ImportableFile:
    details = row.get("details")
    told: Mapping[str, Any] = details if isinstance(details, Mapping) else {}
    return ImportableFile(
        path=text(row, "path", "name"),
        format=text(row, "format"),
        size=number(row.get("size")),
        virtual_size=number(row.get("virtualsize")),
        backing=text(told, "BACKING_FILE"),
        encrypted=bool(text(row, "qemuencryptformat")) or flag(told.get("IS_ENCRYPTED")),
        locked=flag(told.get("IS_LOCKED")),
    )


def attach(
    client: CloudClient,
    volume_id: str,
    uuid: str,
    *,
    device_id: int | None = None,
    check: Check = jobs.nothing,
) -> CloudVolume:
    """Attach a volume; ``device_id`` 0 makes it the root of a stopped instance."""
    if device_id == 3:
        raise Rejected("device 3 is the one of the ISO", hint="choose 1, 2, or from 4 on")
    result = client.run(
        "attachVolume", check=check, id=volume_id, virtualmachineid=uuid, deviceid=device_id
    )
    return mapping.volume(answers.only(result), {})


def detach(client: CloudClient, volume_id: str, *, check: Check = jobs.nothing) -> None:
    """Detach a volume."""
    client.run("detachVolume", check=check, id=volume_id)


def rename_volume(
    client: CloudClient, volume_id: str, name: str, *, check: Check = jobs.nothing
) -> None:
    """Give a volume another name."""
    client.run("updateVolume", check=check, id=volume_id, name=name)


def volume(client: CloudClient, volume_id: str) -> CloudVolume:
    """Give a volume as it is now."""
    row = inventory.one_row(client, "listVolumes", "volume", volume_id)
    if row is None:
        raise NotFound(f"there is no volume {volume_id}", id=volume_id)
    return mapping.volume(row, {})


# --- Tags and jobs


def add_address(client: CloudClient, nic_id: str, ip: str, *, check: Check = jobs.nothing) -> None:
    """Give a card of an instance, in any state, a secondary address; one that it has is refused."""
    client.run("addIpToNic", check=check, nicid=nic_id, ipaddress=ip)


def tag(
    client: CloudClient,
    uuid: str,
    tags: Mapping[str, str],
    *,
    kind: str = "UserVm",
    check: Check = jobs.nothing,
) -> None:
    """Put tags on something."""
    if tags:
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        _done(client, "createTags", check, resourceids=uuid, resourcetype=kind, tags=pairs)


def untag(
    client: CloudClient,
    uuid: str,
    keys: Sequence[str],
    *,
    kind: str = "UserVm",
    check: Check = jobs.nothing,
) -> None:
    """Take tags off something; one that is not there is no error."""
    row_key = {
        "UserVm": ("listVirtualMachines", "virtualmachine"),
        "Volume": ("listVolumes", "volume"),
    }
    if kind in row_key:
        row = inventory.one_row(client, *row_key[kind], uuid) or {}
        there = {text(one, "key") for one in answers.rows(row, "tags") if row.get("tags")}
        keys = [key for key in keys if key in there]
    if keys:
        pairs = [{"key": key} for key in keys]
        _done(client, "deleteTags", check, resourceids=uuid, resourcetype=kind, tags=pairs)


def busy_jobs(client: CloudClient, *ids: str) -> list[BusyJob]:
    """Give the jobs that are under way on an instance or its volumes, as far as the key sees."""
    return [job for job in unfinished_jobs(client) if job.object_id in ids]


def unfinished_jobs(client: CloudClient) -> list[BusyJob]:
    """Give all jobs that are under way and were begun since about a day, as far as the key sees.

    The list has those that have ended too, a day of them at least: from its beginning on it would
    be read for minutes where a cloud keeps them for long.
    """
    wanted: dict[str, Any] = {"listall": True, "isrecursive": True}
    if client.features().takes("listAsyncJobs", "startdate"):
        try:
            return _unfinished(client, wanted | {"startdate": _some_day_ago(client)})
        except Rejected as error:
            # Versions read dates differently; all of the list is right for each.
            _LOG.debug("%s takes no such date: %s", client, error)
    return _unfinished(client, wanted)


def _unfinished(client: CloudClient, wanted: Mapping[str, Any]) -> list[BusyJob]:
    return [
        BusyJob(text(row, "jobid"), text(row, "cmd").rsplit(".", 1)[-1], text(row, "jobinstanceid"))
        for page in client.every("listAsyncJobs", "asyncjobs", **wanted)
        for row in page
        if number(row.get("jobstatus")) == 0
    ]


def _some_day_ago(client: CloudClient) -> str:
    """Give the midnight that is a day ago at least, whatever the cloud takes for its zone.

    By the cloud's clock.  Some versions read the date alone, others the time and zone as well.
    """
    then = clock.now() + timedelta(seconds=client.skew_s) - _LOOK_BACK
    return f"{then:%Y-%m-%d}T00:00:00+0000"


# --- Parameters


def _deployed(client: CloudClient, new: NewInstance) -> dict[str, Any]:
    params: dict[str, Any] = {
        "name": new.name,
        "displayname": new.display_name or None,
        "zoneid": new.zone_id,
        "serviceofferingid": new.offering_id,
        "templateid": new.template_id or None,
        "volumeid": new.volume_id or None,
        "startvm": None if new.start else False,
        "hostid": new.host_id or None,
        "hypervisor": "KVM",
        "details": dict(new.details) or None,
        "userdata": new.user_data,
        "userdataid": new.user_data_id or None,
        "affinitygroupids": list(new.affinity_group_ids) or None,
        "securitygroupids": list(new.security_group_ids) or None,
        "group": new.group or None,
        "diskofferingid": new.disk_offering_id or None,
        "rootdisksize": -(-new.root_disk_bytes // GIB) or None,
        "boottype": new.boot_type or None,
        "bootmode": new.boot_mode or None,
        **_cards(new.cards),
        **_owned_by(new.owner),
    }
    if new.keypairs:
        if client.features().takes("deployVirtualMachine", "keypairs"):
            params["keypairs"] = list(new.keypairs)
        else:
            params["keypair"] = new.keypairs[0]
    return params


def _cards(cards: Sequence[Card]) -> dict[str, Any]:
    """Give networks with their addresses; a list of plain ids would lose both."""
    if not cards:
        return {}
    told = [{"networkid": card.network_id, "mac": card.mac or None, "ip": card.ip or None}
            for card in cards]  # fmt: skip
    return {"iptonetworklist": told}


def _owned_by(owner: Owner) -> dict[str, Any]:
    """Give whose it shall be; a project has its domain itself."""
    if owner.project_id:
        return {"projectid": owner.project_id}
    if not owner.account:
        return {}
    return {"account": owner.account, "domainid": owner.domain_id}


def _done(client: CloudClient, command: str, check: Check, **params: Any) -> None:
    result = client.run(command, check=check, **params)
    if "success" in result and not flag(result["success"]):
        raise SendenseError(
            f"CloudStack could not do {command}: {text(result, 'displaytext') or 'no reason'}",
            command=command,
        )
