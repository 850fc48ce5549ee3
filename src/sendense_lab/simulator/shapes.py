"""Instances and what belongs to them, as answers show them.

What is not set is absent, never null. Hosts, instance names and paths are for accounts of type
Admin only, whatever else a role allows.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime

from sendense_lab.simulator.records import (
    Account,
    AffinityGroup,
    BackupOffering,
    DiskOffering,
    Domain,
    Host,
    Instance,
    Network,
    Nic,
    OsType,
    Pool,
    Project,
    SecurityGroup,
    ServiceOffering,
    Snapshot,
    Template,
    User,
    UserData,
    VmSnapshot,
    Volume,
    Zone,
)
from sendense_lab.simulator.world import World

Fields = dict[str, object]


def when(moment: datetime) -> str:
    """Write a moment: no colon in the offset."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S+0000")


def name_of(row: object) -> str:
    """Give the name of a row that may be gone."""
    return str(getattr(row, "name", ""))


def set_fields(fields: Fields) -> Fields:
    """Drop what is not set: answers have no nulls, and no empty texts."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def owner(world: World, account_id: str) -> Fields:
    """Give whose something is: a project, or an account, and the domain."""
    account = world.get(Account, account_id)
    domain = world.get(Domain, account.domain_id)
    fields: Fields = {"domainid": domain.id, "domain": domain.name}
    if world.since("4.19"):
        fields["domainpath"] = domain.path
    if account.kind == 5:
        project = world.get(Project, account.project_id)
        return {"projectid": project.id, "project": project.name, **fields}
    return {"account": account.name, **fields}


def tags(
    world: World, row_tags: Mapping[str, str], account_id: str, kind: str, key: str
) -> list[Fields]:
    """Give the tags of something as it shows them itself."""
    whose = owner(world, account_id)
    return [
        {"key": name, "value": value, "resourcetype": kind, "resourceid": key, **whose}
        for name, value in row_tags.items()
    ]


def nic(world: World, card: Nic, *, full: bool) -> Fields:
    """Show a network card."""
    network = world.get(Network, card.network_id)
    fields: Fields = {
        "id": card.id,
        "networkid": network.id,
        "networkname": network.name,
        "netmask": network.netmask,
        "gateway": network.gateway,
        "ipaddress": card.ip,
        "traffictype": "Guest",
        "type": network.kind,
        "isdefault": card.is_default,
        "macaddress": card.mac,
        "secondaryip": [{"id": card.id, "ipaddress": ip} for ip in card.secondary_ips],
        "extradhcpoption": [],
        "deviceid": str(card.device_id),
    }
    if full:
        fields["isolationuri"] = fields["broadcasturi"] = f"vlan://{network.vlan}"
    if world.since("4.22"):
        fields["isenabled"] = card.enabled
    return set_fields(fields)


DETAILS = frozenset({
    "group", "nics", "stats", "secgrp", "tmpl", "servoff", "diskoff", "backoff", "iso", "volume",
    "affgrp",
})  # fmt: skip


def wanted(world: World, asked: Iterable[str]) -> frozenset[str]:
    """Give the parts of an instance that `details` asks for."""
    asked = frozenset(asked)
    if "all" in asked:
        return DETAILS
    if not asked:
        stats = world.is_set("list.vm.default.details.stats")
        return DETAILS if stats else DETAILS - {"stats"}
    return asked - {"min"}


def instance(
    world: World,
    vm: Instance,
    *,
    full: bool,
    parts: frozenset[str] = DETAILS,
    user_data: bool = False,
) -> Fields:
    """Show an instance."""
    zone = world.get(Zone, vm.zone_id)
    user = world.find(User, vm.user_id)
    fields: Fields = {
        "id": vm.id,
        "name": vm.name,
        "displayname": vm.display_name or vm.name,
        **owner(world, vm.account_id),
        "userid": vm.user_id,
        "username": user.name if user else "",
        "created": when(vm.created),
        "lastupdated": when(vm.updated) if vm.updated else "",
        "state": vm.state,
        "haenable": vm.ha,
        "zoneid": zone.id,
        "zonename": zone.name,
        "hypervisor": "KVM",
        "details": dict(vm.details),
        "displayvm": True,
        "isdynamicallyscalable": False,
        "rootdeviceid": 0,
        "rootdevicetype": "ROOT",
        "tags": tags(world, vm.tags, vm.account_id, "UserVm", vm.id),
        "keypairs": ",".join(vm.keypairs),
        **_system(world, vm),
        **_parts(world, vm, parts, full=full),
    }
    if full:
        fields["instancename"] = vm.instance_name
        fields |= _place(world, vm)
    if user_data:
        fields |= _user_data(world, vm)
    if world.since("4.20"):
        fields |= {"arch": "x86_64", "deleteprotection": vm.delete_protection}
    return set_fields(fields)


def _system(world: World, vm: Instance) -> Fields:
    kind = world.find(OsType, vm.os_type_id)
    fields: Fields = {"ostypeid": vm.os_type_id, "guestosid": vm.os_type_id}
    if kind:
        fields["osdisplayname"] = kind.name
    if vm.host_id or vm.uefi:
        fields |= {"boottype": "UEFI" if vm.uefi else "Bios", "bootmode": vm.boot_mode.lower()}
    root = world.root_of(vm)
    pool = world.find(Pool, root.pool_id) if root else None
    return {**fields, "pooltype": pool.kind if pool else ""}


def _place(world: World, vm: Instance) -> Fields:
    host = world.find(Host, vm.host_id)
    return (
        {"hostid": host.id, "hostname": host.name, "hostcontrolstate": host.resource_state}
        if host
        else {}
    )


def _user_data(world: World, vm: Instance) -> Fields:
    stored = world.find(UserData, vm.user_data_id)
    fields: Fields = {"userdata": vm.user_data}
    if stored:
        fields |= {"userdataid": stored.id, "userdataname": stored.name, "userdatapolicy": ""}
    return fields


def _parts(world: World, vm: Instance, parts: frozenset[str], *, full: bool) -> Fields:
    """Give what `details` chooses from."""
    fields: Fields = {"securitygroup": [], "affinitygroup": [], "nic": []}
    if "group" in parts:
        fields |= {"groupid": vm.group_id, "group": vm.group}
    if "nics" in parts:
        fields["nic"] = [nic(world, card, full=full) for card in vm.nics]
    if "secgrp" in parts:
        fields["securitygroup"] = [
            {"id": key, "name": name_of(world.find(SecurityGroup, key))}
            for key in vm.security_group_ids
        ]
    if "affgrp" in parts:
        fields["affinitygroup"] = [
            affinity_group(world, group)
            for group in (world.find(AffinityGroup, key) for key in vm.affinity_ids)
            if group
        ]
    if "stats" in parts and vm.state == "Running":
        fields |= {"cpuused": "10%", "networkkbsread": 917504, "networkkbswrite": 458752,
                   "diskkbsread": 0, "diskkbswrite": 0, "memorykbs": vm.memory_mib * 1024,
                   "memoryintfreekbs": 0, "memorytargetkbs": 0, "diskioread": 0,
                   "diskiowrite": 0}  # fmt: skip
    return {**fields, **_made_of(world, vm, parts)}


def _made_of(world: World, vm: Instance, parts: frozenset[str]) -> Fields:
    fields: Fields = {}
    if "tmpl" in parts:
        template = world.find(Template, vm.template_id)
        fields |= {
            "templateid": vm.template_id,
            "templatename": name_of(template),
            "templatedisplaytext": name_of(template),
            "passwordenabled": False,
        }
    if "servoff" in parts:
        fields |= {
            "serviceofferingid": vm.offering_id,
            "serviceofferingname": name_of(world.find(ServiceOffering, vm.offering_id)),
            "cpunumber": vm.cpus,
            "cpuspeed": vm.cpu_mhz,
            "memory": vm.memory_mib,
        }
    if "backoff" in parts and vm.backup_offering_id:
        fields |= {
            "backupofferingid": vm.backup_offering_id,
            "backupofferingname": name_of(world.find(BackupOffering, vm.backup_offering_id)),
        }
    if "iso" in parts and vm.iso_id:
        fields |= {"isoid": vm.iso_id, "isoname": name_of(world.find(Template, vm.iso_id))}
    return fields


def affinity_group(world: World, group: AffinityGroup) -> Fields:
    """Show an affinity group."""
    return set_fields({
        "id": group.id, "name": group.name, "type": group.kind, "description": group.description,
        **owner(world, group.account_id),
    })  # fmt: skip


def volume(world: World, disk: Volume, *, full: bool) -> Fields:
    """Show a volume."""
    zone = world.get(Zone, disk.zone_id)
    fields: Fields = {
        "id": disk.id,
        "name": disk.name,
        "type": disk.kind,
        "state": disk.state,
        "size": disk.size,
        "virtualsize": disk.size if disk.state == "Ready" else None,
        "deviceid": disk.device_id,
        "zoneid": zone.id,
        "zonename": zone.name,
        **owner(world, disk.account_id),
        "created": when(disk.created),
        "attached": when(disk.attached) if disk.attached else "",
        "provisioningtype": "thin",
        "storagetype": "shared",
        "isextractable": True,
        "destroyed": disk.state in {"Destroy", "Expunging", "Expunged"},
        "quiescevm": False,
        "supportsstoragesnapshot": False,
        "displayvolume": True,
        "hasannotations": False,
        "chaininfo": disk.chain,
        "templateid": disk.template_id,
        "encryptformat": disk.encryption,
        "tags": tags(world, disk.tags, disk.account_id, "Volume", disk.id),
        **_user_of(world, disk),
        **_offering_of(world, disk),
    }
    if full:
        fields |= _stored(world, disk)
    if world.since("4.20"):
        fields["deleteprotection"] = disk.delete_protection
    return set_fields(fields)


def _user_of(world: World, disk: Volume) -> Fields:
    vm = world.find(Instance, disk.instance_id)
    if vm is None:
        return {}
    return {
        "virtualmachineid": vm.id,
        "vmname": vm.name,
        "vmdisplayname": vm.display_name or vm.name,
        "vmstate": vm.state,
    }


def _offering_of(world: World, disk: Volume) -> Fields:
    offering = world.find(DiskOffering, disk.offering_id)
    if offering:
        return {
            "diskofferingid": offering.id,
            "diskofferingname": offering.name,
            "diskofferingdisplaytext": offering.display_text,
        }
    vm = world.find(Instance, disk.instance_id)
    service = world.find(ServiceOffering, vm.offering_id) if vm else None
    if service is None:
        return {}
    return {
        "serviceofferingid": service.id,
        "serviceofferingname": service.name,
        "serviceofferingdisplaytext": service.display_text,
    }


def _stored(world: World, disk: Volume) -> Fields:
    fields: Fields = {"path": disk.path, "hypervisor": "KVM"}
    pool = world.find(Pool, disk.pool_id)
    if pool:
        fields |= {
            "storageid": pool.id,
            "storage": pool.name,
            "storagetype": "local" if pool.host else "shared",
            "clusterid": pool.cluster_id,
            "podid": pool.pod_id,
        }
    return fields


def snapshot(world: World, shot: Snapshot) -> Fields:
    """Show a volume snapshot."""
    disk = world.find(Volume, shot.volume_id)
    fields: Fields = {
        "id": shot.id,
        "name": shot.name,
        "volumeid": shot.volume_id,
        "volumename": name_of(disk),
        "volumetype": disk.kind if disk else "",
        "snapshottype": "MANUAL",
        "intervaltype": "MANUAL",
        "state": shot.state,
        "created": when(shot.created),
        "zoneid": shot.zone_id,
        "virtualsize": shot.size,
        "physicalsize": shot.size,
        "revertable": True,
        **owner(world, shot.account_id),
        "tags": tags(world, shot.tags, shot.account_id, "Snapshot", shot.id),
    }
    return set_fields(fields)


def vm_snapshot(world: World, shot: VmSnapshot) -> Fields:
    """Show a snapshot of an instance."""
    vm = world.find(Instance, shot.instance_id)
    parent = world.find(VmSnapshot, shot.parent_id)
    return set_fields({
        "id": shot.id,
        "name": shot.name,
        "displayname": shot.display_name,
        "description": shot.description,
        "virtualmachineid": shot.instance_id,
        "virtualmachinename": vm.name if vm else "",
        "zoneid": vm.zone_id if vm else "",
        "type": shot.kind,
        "state": shot.state,
        "current": shot.current,
        "parent": shot.parent_id,
        "parentName": parent.display_name if parent else "",
        "created": when(shot.created),
        "hypervisor": "KVM",
        **owner(world, shot.account_id),
        "tags": tags(world, shot.tags, shot.account_id, "VMSnapshot", shot.id),
    })  # fmt: skip


def plain_user_data(vm: Instance) -> str:
    """Read the user data of an instance."""
    return base64.b64decode(vm.user_data).decode()
