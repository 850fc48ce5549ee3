"""What matches and restores of a cloud are planned from, with sensible defaults."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sendense.model.ascend import Aim, AscendRequest, CloudView, PlainFeatures
from sendense.model.cloud import (
    CloudAccount,
    CloudInstance,
    CloudNetwork,
    CloudNic,
    CloudOffering,
    CloudPool,
    CloudTemplate,
    CloudVolume,
    CloudZone,
    Owner,
)
from sendense.model.cloud_manifest import CloudManifest, ManifestDisk
from sendense.model.machine import Disk, Machine, NetworkCard, PowerState, SourceKind

GIB = 1 << 30
ZONE, CLUSTER = "zone-1", "cluster-1"
OWNER = Owner("domain-1", "ROOT/acme", account="acme")


def an_id(number: int) -> str:
    """Give a UUID that is not like its neighbours in any of its parts."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"object {number}"))


INSTANCE, POOL = an_id(1), an_id(2)


def a_pool(**changes: Any) -> CloudPool:
    """Give an NFS pool that is up and has room."""
    pool = CloudPool(
        id=POOL, name="nfs1", kind="NetworkFilesystem", path="/export", address="10.0.0.9",
        scope="CLUSTER", state="Up", zone_id=ZONE, cluster_id=CLUSTER,
        size=1000 * GIB, used=100 * GIB,
    )  # fmt: skip
    return replace(pool, **changes)


POOLS = {POOL: a_pool()}


def a_volume(device_id: int = 0, **changes: Any) -> CloudVolume:
    """Give a volume that is ready; device 0 is the root."""
    volume_id = changes.pop("id", an_id(100 + device_id))
    volume = CloudVolume(
        id=volume_id, name=f"vol-{device_id}", kind="DATADISK" if device_id else "ROOT",
        state="Ready", size=(10 + device_id) * GIB, device_id=device_id, path=volume_id,
        pool_id=POOL, pool="nfs1", offering_id="disk-custom" if device_id else "",
        offering="custom" if device_id else "", instance_id=INSTANCE, zone_id=ZONE,
    )  # fmt: skip
    return replace(volume, **changes)


def a_nic(device_id: int = 0, **changes: Any) -> CloudNic:
    """Give a network card; the first is the default one."""
    nic = CloudNic(
        id=f"nic-{device_id}", network_id=f"net-{device_id}", network=f"network {device_id}",
        mac=f"02:00:00:00:00:{device_id:02x}", ip=f"10.1.{device_id}.5",
        is_default=device_id == 0, device_id=device_id, kind="Isolated",
    )  # fmt: skip
    return replace(nic, **changes)


def an_instance(*volumes: CloudVolume, **changes: Any) -> CloudInstance:
    """Give a running instance with a root, a data disk and one card."""
    instance = CloudInstance(
        id=INSTANCE, name="web", state="Running", owner=OWNER, zone_id=ZONE,
        display_name="Web server", domain_name="i-2-10-VM", zone="Zone 1", host_id="host-1",
        host="kvm1", offering_id="offering-1", offering="small", template_id="template-1",
        template="Debian 12", hypervisor="KVM", cpus=2, cpu_mhz=1000, memory_bytes=512 << 20,
        boot_type="Bios", nics=(a_nic(),), volumes=volumes or (a_volume(), a_volume(1)),
    )  # fmt: skip
    return replace(instance, **changes)


def disk_of(volume: CloudVolume, **changes: Any) -> Disk:
    """Give the disk that a host shows of a volume in the NFS pool."""
    disk = Disk(
        target=f"vd{chr(ord('a') + (volume.device_id or 0))}",
        path=f"/mnt/{volume.pool_id}/{volume.path}",
        format="qcow2",
        kind=SourceKind.FILE,
        serial=volume.serial,
    )
    return replace(disk, **changes)


def machine_of(instance: CloudInstance, *disks: Disk, **changes: Any) -> Machine:
    """Give the machine that a host shows of an instance."""
    machine = Machine(
        uuid=instance.id,
        name=instance.domain_name,
        power=PowerState.RUNNING if instance.running else PowerState.STOPPED,
        persistent=False,
        disks=disks or tuple(disk_of(volume) for volume in instance.volumes),
        vcpus=instance.cpus,
        memory_bytes=instance.memory_bytes,
        cards=tuple(NetworkCard(nic.mac, "virtio", nic.network) for nic in instance.nics),
        agent_channel=True,
    )
    return replace(machine, **changes)


# --- what a restore into a cloud is planned from ---

RESTORES = frozenset(
    {
        "startVirtualMachine", "stopVirtualMachine", "deployVirtualMachine", "createVolume",
        "attachVolume", "detachVolume", "createTags", "deleteTags",
    }
)  # fmt: skip
IMPORTS = frozenset({"importVolume", "listVolumesForImport"})
_DEPLOY = frozenset({"name", "networkids", "startvm", "templateid"})


def features(version: str) -> PlainFeatures:
    """Give what a key for restores sees in a CloudStack of that version."""
    number = tuple(int(part) for part in version.split("."))
    apis = RESTORES
    apis |= {"importVm"} if number >= (4, 19, 0) else frozenset()
    apis |= IMPORTS if number >= (4, 19, 1) else frozenset()
    deploy = _DEPLOY | ({"volumeid", "snapshotid"} if number >= (4, 21) else frozenset())
    return PlainFeatures(apis, {"deployVirtualMachine": deploy}, version)


def a_manifest(instance: CloudInstance | None = None, **changes: Any) -> CloudManifest:
    """Give what a point of all disks of an instance remembers."""
    instance = instance or an_instance()
    disks = tuple(
        ManifestDisk(each.id, f"serial:{each.serial}")
        for each in instance.volumes
        if each.kind in ("ROOT", "DATADISK")
    )
    manifest = CloudManifest(
        "cloud-1", "prod", "4.20.1.0", datetime(2026, 1, 1, tzinfo=UTC), instance, disks, b"sealed"
    )
    return replace(manifest, **changes)


def a_view(**changes: Any) -> CloudView:
    """Give a cloud that has all that the instance needs, and the instance no more."""
    view = CloudView(
        cloud_id="cloud-1",
        features=features("4.22.0"),
        zones=(CloudZone(ZONE, "Zone 1"),),
        networks=tuple(CloudNetwork(f"net-{n}", f"network {n}", ZONE) for n in range(3)),
        service_offerings=(
            CloudOffering("offering-1", "small", cpus=2, cpu_mhz=1000, memory_bytes=512 << 20),
        ),
        disk_offerings=(CloudOffering("disk-custom", "custom", customized=True),),
        templates=(CloudTemplate("template-1", "Debian 12", ZONE, "KVM", "QCOW2", size=2 * GIB),),
        pools=(a_pool(),),
        accounts=(CloudAccount("account-1", "acme", "domain-1", state="enabled"),),
    )
    return replace(view, **changes)


def a_request(aim: Aim = Aim.RECREATE, **changes: Any) -> AscendRequest:
    """Give a request with a name for each new file."""
    names = {an_id(100 + device): an_id(500 + device) for device in range(30)}
    return replace(AscendRequest(aim, file_names=names), **changes)
