"""What happens to the disks of a running VM, done as CloudStack does it.

CloudStack's volume snapshot is an external snapshot of one disk, a copy of the file that froze,
and an active block commit back into it. The base must always be named: without it libvirt takes
the bottom of the chain, which is the template of everybody.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from sendense_lab.commands import wait_until
from sendense_lab.domain_xml import MachineShape, disk_xml
from sendense_lab.errors import LabError
from sendense_lab.live_xml import disk_elements
from sendense_lab.pool import Volume

# Device id 3 (letter d) stays free for the ISO.
TARGETS = tuple(f"vd{letter}" for letter in "abcefghijklm")


def free_target(disks: Mapping[str, Volume]) -> str:
    """The next letter as CloudStack gives them out."""
    for target in TARGETS:
        if target not in disks:
            return target
    raise LabError("no free disk letter")


def attach(domain: libvirt.virDomain, shape: MachineShape, target: str, volume: Volume) -> None:
    domain.attachDeviceFlags(disk_xml(shape, target, volume), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def detach(domain: libvirt.virDomain, target: str) -> None:
    xml = ElementTree.tostring(disk_elements(domain)[target], encoding="unicode")
    domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    wait_until(
        lambda: target not in disk_elements(domain),
        f"the guest's release of {target}",
        timeout_s=90,
    )


def snapshot(domain: libvirt.virDomain, target: str, volume: Volume) -> Volume:
    """Put an overlay on the disk; the volume's file is frozen from then on."""
    identity = str(uuid.uuid4())
    overlay = volume.path.with_name(identity)
    snapshot_together(domain, {target: overlay})
    return Volume(identity, overlay, "qcow2", volume.size)


def snapshot_together(domain: libvirt.virDomain, overlays: Mapping[str, Path]) -> None:
    """Put overlays on several disks in one moment; libvirt makes their files."""
    external = "".join(
        f"<disk name='{target}' snapshot='external'><source file='{overlay}'/></disk>"
        for target, overlay in overlays.items()
    )
    others = "".join(
        f"<disk name='{name}' snapshot='no'/>"
        for name in disk_elements(domain)
        if name not in overlays
    )
    name = uuid.uuid4()
    xml = f"<domainsnapshot><name>{name}</name><disks>{external}{others}</disks></domainsnapshot>"
    flags = (
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    )
    domain.snapshotCreateXML(xml, flags)


def commit(domain: libvirt.virDomain, target: str, base: Path) -> None:
    """Active commit into `base`, then pivot."""
    domain.blockCommit(target, str(base), None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    wait_until(lambda: _ready(domain, target), f"the commit of {target}", timeout_s=60)
    domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)


def _ready(domain: libvirt.virDomain, target: str) -> bool:
    mirror = disk_elements(domain)[target].find("mirror")
    return mirror is not None and mirror.get("ready") == "yes"
