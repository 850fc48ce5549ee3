"""Where the volumes of a cloud lie on a host, and a machine that is off as domain XML.

CloudStack's domains are transient: of an instance that is off, no host knows anything.  What the
inventory has is enough to read its disks all the same: the pool's kind and path give the file, and
:func:`domain_xml_of` gives the XML that its capture is planned from and that its point keeps.

Only pools of files are here.  What else there is has a reason why not, instead of a guess.
What the API says is data of others: a path that would lead out of its pool is no place.
"""

from __future__ import annotations

import posixpath
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional, Union

from sendense.errors import Rejected, Unsupported
from sendense.model.cloud import CloudInstance, CloudNic, CloudPool, CloudVolume
from sendense.model.machine import Disk, Machine, SourceKind

FILE_POOLS = frozenset({"NetworkFilesystem", "Filesystem", "SharedMountPoint"})
"""Kinds of pools whose volumes are files."""

DISKS = frozenset({"ROOT", "DATADISK"})
"""Kinds of volumes that are disks; an ISO is none."""

ISO_DEVICE = 3
"""The device id that CloudStack leaves to the ISO."""

_BLOCK_POOLS = {
    "RBD": "its volumes are images of Ceph, which no agent reads yet",
    "Linstor": "its volumes are block devices of DRBD, which no agent reads yet",
    "PowerFlex": "its volumes are block devices of PowerFlex, which no agent reads yet",
    "CLVM": "its volumes are logical volumes, which no agent reads yet",
}
_NVRAM = "/var/lib/libvirt/qemu/nvram"
_CHANNELS = "/var/lib/libvirt/qemu"
_AGENT_CHANNEL = "org.qemu.guest_agent.0"
_PREFIXES = {"virtio": "vd", "ide": "hd"}
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Place:
    """Where a file is on every host that has its pool."""

    path: str
    reason: str


@dataclass(frozen=True)
class NoPlace:
    """Why there is no file that an agent can open."""

    reason: str
    hint: str


def place_of(volume: CloudVolume, pool: Optional[CloudPool]) -> Union[Place, NoPlace]:
    """Tell where a volume's file is."""
    if pool is None:
        return NoPlace(
            f"the pool of volume {volume.name} is not known",
            "give the cloud a key of an account of type Admin, and let it be read again",
        )
    if not volume.path:
        if volume.state == "Allocated":
            return NoPlace(
                f"volume {volume.name} has no file yet: CloudStack makes it at the first start",
                "start its instance once",
            )
        return NoPlace(
            f"the cloud does not say where volume {volume.name} lies",
            "paths are shown to accounts of type Admin only: use a key of one",
        )
    return file_in(pool, volume.path)


def file_in(pool: CloudPool, name: str) -> Union[Place, NoPlace]:
    """Tell where a file of that name is in a pool."""
    if pool.kind not in FILE_POOLS:
        known = _BLOCK_POOLS.get(pool.kind, "only pools of files can be read and written")
        return NoPlace(
            f"pool {pool.name} is of kind {pool.kind or 'unknown'}: {known}",
            f"use a pool of one of these kinds: {', '.join(sorted(FILE_POOLS))}",
        )
    folder = f"/mnt/{pool.id}" if pool.kind == "NetworkFilesystem" else pool.path
    if not _leads_nowhere_else(folder, name) or "/" in pool.id:
        return NoPlace(
            f"{name!r} is no file inside pool {pool.name} at {folder or 'no path'}",
            "look at the volume and its pool in CloudStack",
        )
    words = f"pool {pool.name} ({pool.kind}) is at {folder}"
    return Place(posixpath.join(posixpath.normpath(folder), name), words)


def _leads_nowhere_else(folder: str, name: str) -> bool:
    if not folder.startswith("/") or _UNPRINTABLE.search(folder + name):
        return False
    parts = name.split("/")
    return all(part not in ("", ".", "..") for part in parts) and ".." not in folder.split("/")


def target_of(device_id: int, bus: str = "virtio") -> str:
    """Give the target that CloudStack gives a disk: the device id as a letter."""
    if bus == "ide" and device_id > 0:
        device_id += 2  # data disks of IDE skip two letters
    letters, number = "", device_id
    while number >= 0:
        letters = chr(ord("a") + number % 26) + letters
        number = number // 26 - 1
    return _PREFIXES.get(bus, "sd") + letters


def disks_of(instance: CloudInstance) -> tuple[CloudVolume, ...]:
    """Give the volumes that are disks, root first, then by device."""
    disks = [volume for volume in instance.volumes if volume.kind in DISKS]
    return tuple(
        sorted(
            disks,
            key=lambda item: (
                item.kind != "ROOT",
                1 << 30 if item.device_id is None else item.device_id,
                item.id,
            ),
        )
    )


def domain_xml_of(
    instance: CloudInstance,
    pools: Mapping[str, CloudPool],
    *,
    like: Optional[Machine] = None,
    only: Optional[Iterable[str]] = None,
) -> str:
    """Give the domain XML of an instance that is off, made of the inventory.

    ``like`` is the machine as a host showed it last: of disks and cards that are the same (serial,
    MAC) it gives what the inventory lacks: bus and model, and the image format of a disk that still
    lies where it lay.  ``only`` names the volumes to put in, by id; none: all.  What cannot be
    described is refused, with all reasons at once.
    """
    chosen = None if only is None else frozenset(only)
    volumes = [each for each in disks_of(instance) if chosen is None or each.id in chosen]
    disks, doubts = _placed(volumes, pools, like)
    if not instance.domain_name:
        doubts.append("the cloud does not say how libvirt names it (shown to type Admin only)")
    if doubts:
        raise Unsupported(
            f"{instance.shown_name} cannot be described: {'; '.join(doubts)}",
            hint="start the instance and take its backup while it runs",
            instance=instance.id,
        )
    return _domain(instance, disks, like)


def _placed(
    volumes: Iterable[CloudVolume], pools: Mapping[str, CloudPool], like: Optional[Machine]
) -> tuple[list[tuple[CloudVolume, Disk]], list[str]]:
    """Give each volume its disk, and what is in the way."""
    found: list[tuple[CloudVolume, Disk]] = []
    doubts: list[str] = []
    targets: set[str] = set()
    for volume in volumes:
        place = place_of(volume, pools.get(volume.pool_id))
        if isinstance(place, NoPlace):
            doubts.append(place.reason)
            continue
        if volume.encryption:
            doubts.append(f"volume {volume.name} is encrypted, and its key is CloudStack's")
            continue
        if volume.device_id is None or volume.device_id < 0:
            doubts.append(f"volume {volume.name} has no device id")
            continue
        disk = _disk(volume, volume.device_id, place.path, like)
        if disk.target in targets:
            doubts.append(f"two volumes have the device id {volume.device_id}")
        targets.add(disk.target)
        found.append((volume, disk))
    return found, doubts


def _disk(volume: CloudVolume, device_id: int, path: str, like: Optional[Machine]) -> Disk:
    seen = [disk for disk in like.disks if disk.serial == volume.serial] if like else []
    # CloudStack makes qcow2 in pools of files, and opens what is there as such.  A volume that was
    # moved since is another image: a raw one comes out of another kind of pool as qcow2, and read
    # as raw its header and tables would be stored as the disk.
    same = len(seen) == 1 and seen[0].path == path
    image_format = seen[0].format if same else "qcow2"
    bus = seen[0].bus if len(seen) == 1 else "virtio"
    return Disk(
        target=target_of(device_id, bus),
        path=path,
        format=image_format,
        kind=SourceKind.FILE,
        serial=volume.serial,
        bus=bus,
    )


def _domain(
    instance: CloudInstance, disks: Iterable[tuple[CloudVolume, Disk]], like: Optional[Machine]
) -> str:
    root = ET.Element("domain", type="kvm")
    _text(root, "name", instance.domain_name)
    _text(root, "uuid", instance.id)
    _text(root, "memory", str(instance.memory_bytes), unit="b")
    _text(root, "vcpu", str(max(instance.cpus, 1)))
    _boot(root, instance)
    devices = ET.SubElement(root, "devices")
    for _, disk in disks:
        _disk_element(devices, disk)
    models = {card.mac.lower(): card.model for card in like.cards} if like else {}
    for nic in sorted(instance.nics, key=lambda item: (item.device_id, item.id)):
        _card_element(devices, nic, models.get(nic.mac.lower()) or "virtio")
    channel = ET.SubElement(devices, "channel", type="unix")
    socket = f"{_CHANNELS}/{instance.domain_name}.{_AGENT_CHANNEL}"
    ET.SubElement(channel, "source", mode="bind", path=_sound(socket))
    ET.SubElement(channel, "target", type="virtio", name=_AGENT_CHANNEL)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _boot(root: ET.Element, instance: CloudInstance) -> None:
    uefi = instance.boot_type.upper() == "UEFI"
    attributes = {"firmware": "efi"} if uefi else {}
    boot = ET.SubElement(root, "os", attributes)
    _text(boot, "type", "hvm", machine="q35" if uefi else "pc")
    if uefi:
        if instance.boot_mode.upper() == "SECURE":
            ET.SubElement(boot, "loader", secure="yes")
        _text(boot, "nvram", f"{_NVRAM}/{instance.id}.fd")


def _disk_element(devices: ET.Element, disk: Disk) -> None:
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type=disk.format, cache="none")
    ET.SubElement(element, "source", file=_sound(disk.path))
    ET.SubElement(element, "target", dev=disk.target, bus=disk.bus)
    _text(element, "serial", disk.serial or "")


def _card_element(devices: ET.Element, nic: CloudNic, model: str) -> None:
    # The bridge is made by the host where it starts; the network's name is what is known.
    element = ET.SubElement(devices, "interface", type="network")
    ET.SubElement(element, "mac", address=_sound(nic.mac))
    ET.SubElement(element, "source", network=_sound(nic.network or nic.network_id))
    ET.SubElement(element, "model", type=model)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = _sound(text)


def _sound(text: str) -> str:
    """Refuse what XML cannot carry; the API gives raw control characters at times."""
    if _UNPRINTABLE.search(text):
        raise Rejected(f"{text!r} holds control characters", hint="rename it in CloudStack")
    return text
