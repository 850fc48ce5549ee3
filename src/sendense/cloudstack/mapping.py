"""Instances and volumes out of rows of the API.

Each field is taken by its name, what is not there is empty, and words that are new to us stay as
they are.  What may be secret (``details``, user data) goes into :class:`InstanceSecrets` and
nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Final

from sendense.cloudstack.answers import Row, flag, moment, number, rows, text
from sendense.model.cloud import CloudInstance, CloudNic, CloudVolume, InstanceSecrets, Owner
from sendense.model.secret import Secret
from sendense.units import MIB

WITH_MEMORY: Final = "DiskAndMemory"

Paths = Mapping[str, str]
"""Paths of domains by their ids: versions before 4.19 show only the name."""


def word(row: Row, *keys: str) -> str:
    """Give a text that many rows share, kept once."""
    return sys.intern(text(row, *keys))


def owner(row: Row, paths: Paths) -> Owner:
    """Give whose it is."""
    domain_id = word(row, "domainid")
    project_id = word(row, "projectid")
    return Owner(
        domain_id=domain_id,
        domain=word(row, "domainpath") or paths.get(domain_id, "") or word(row, "domain"),
        account="" if project_id else word(row, "account"),
        project_id=project_id,
        project=word(row, "project"),
    )


def volume(row: Row, paths: Paths) -> CloudVolume:
    """Read a volume."""
    place = row.get("deviceid")
    key = text(row, "id")
    path = text(row, "path")
    return CloudVolume(
        id=key,
        name=text(row, "name"),
        kind=word(row, "type"),
        state=word(row, "state"),
        size=number(row.get("size")),
        device_id=None if place is None or place == "" else number(place),
        path=key if path == key else path,
        pool_id=word(row, "storageid"),
        pool=word(row, "storage"),
        offering_id=word(row, "diskofferingid"),
        offering=word(row, "diskofferingname"),
        instance_id=word(row, "virtualmachineid"),
        zone_id=word(row, "zoneid"),
        owner=owner(row, paths),
        encryption=word(row, "encryptformat"),
    )


def instance(
    row: Row, paths: Paths, volumes: Iterable[CloudVolume], snapshots: tuple[int, int] = (0, 0)
) -> CloudInstance:
    """Read an instance; ``snapshots`` are those with memory, and those without."""
    return CloudInstance(
        id=text(row, "id"),
        name=text(row, "name"),
        display_name=text(row, "displayname"),
        state=word(row, "state"),
        owner=owner(row, paths),
        domain_name=text(row, "instancename"),
        zone_id=word(row, "zoneid"),
        zone=word(row, "zonename"),
        host_id=word(row, "hostid"),
        host=word(row, "hostname"),
        last_host_id=word(row, "lasthostid"),
        offering_id=word(row, "serviceofferingid"),
        offering=word(row, "serviceofferingname"),
        template_id=word(row, "templateid"),
        template=word(row, "templatename"),
        os_type_id=word(row, "ostypeid", "guestosid"),
        os_type=word(row, "osdisplayname"),
        hypervisor=word(row, "hypervisor"),
        cpus=number(row.get("cpunumber")),
        cpu_mhz=number(row.get("cpuspeed")),
        memory_bytes=number(row.get("memory")) * MIB,
        boot_type=word(row, "boottype"),
        boot_mode=word(row, "bootmode"),
        created=moment(row.get("created")),
        nics=tuple(nic(one) for one in _inner(row, "nic")),
        volumes=tuple(sorted(volumes, key=_place)),
        tags={text(one, "key"): text(one, "value") for one in _inner(row, "tags")},
        affinity_group_ids=tuple(text(one, "id") for one in _inner(row, "affinitygroup")),
        security_group_ids=tuple(text(one, "id") for one in _inner(row, "securitygroup")),
        keypairs=_split(text(row, "keypairs", "keypair")),
        group=word(row, "group"),
        user_data_id=word(row, "userdataid"),
        backup_offering=word(row, "backupofferingname", "backupofferingid"),
        memory_snapshots=snapshots[0],
        disk_snapshots=snapshots[1],
        ha=flag(row.get("haenable")),
        delete_protection=flag(row.get("deleteprotection")),
    )


def secrets(row: Row) -> InstanceSecrets:
    """Take what may be secret of an instance."""
    details = row.get("details")
    known = details.items() if isinstance(details, Mapping) else ()
    user_data = text(row, "userdata")
    return InstanceSecrets(
        details={str(key): Secret(str(value)) for key, value in known},
        user_data=Secret(user_data) if user_data else None,
    )


def nic(row: Row) -> CloudNic:
    """Read a network card."""
    return CloudNic(
        id=text(row, "id"),
        network_id=word(row, "networkid"),
        network=word(row, "networkname"),
        mac=text(row, "macaddress"),
        ip=text(row, "ipaddress"),
        is_default=flag(row.get("isdefault")),
        device_id=number(row.get("deviceid")),
        kind=word(row, "type"),
        secondary_ips=tuple(text(one, "ipaddress") for one in _inner(row, "secondaryip")),
    )


def _inner(row: Row, key: str) -> list[dict[str, object]]:
    """Give the list in a field; none where the field is absent."""
    return rows(row, key) if row.get(key) else []


def _split(words: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in words.split(",") if part.strip())


def _place(disk: CloudVolume) -> tuple[int, str]:
    """Sort for people; nothing is matched by this."""
    return (1 << 20 if disk.device_id is None else disk.device_id, disk.id)
