"""The two documents that begin a capture: what to export, and what to remember.

libvirt, "Backup XML format" and "Checkpoint XML format".  All disks are always
listed in both, with ``no`` for the ones left out: what libvirt does with
unlisted disks differs between the two calls, and a listed disk without a
``<scratch>`` makes it look for a file name that is not there (measured on 9.0).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Optional

from sendense.model.decision import Method
from sendense.model.plan import CapturePlan


def backup_xml(plan: CapturePlan, *, socket: Path, scratch: Mapping[str, Path]) -> str:
    """Describe the pull-mode backup job of a plan; ``scratch`` names a file per target."""
    root = ET.Element("domainbackup", mode="pull")
    ET.SubElement(root, "server", transport="unix", socket=str(socket))
    disks = ET.SubElement(root, "disks")
    for item in plan.disks:
        attributes = {
            "name": item.target,
            "backup": "yes",
            "type": "file",
            "backupmode": "full",
            "exportname": item.target,
        }
        if item.decision.method is Method.BITMAP and item.decision.bitmap is not None:
            attributes["backupmode"] = "incremental"
            attributes["incremental"] = item.decision.bitmap
            attributes["exportbitmap"] = export_bitmap(item.target)
        element = ET.SubElement(disks, "disk", attributes)
        ET.SubElement(element, "driver", type="qcow2")
        ET.SubElement(element, "scratch", file=str(scratch[item.target]))
    taken = {item.target for item in plan.disks}
    for disk in plan.survey.machine.disks:
        if disk.target not in taken:
            ET.SubElement(disks, "disk", name=disk.target, backup="no")
    return ET.tostring(root, encoding="unicode")


def export_bitmap(target: str) -> str:
    """Name the bitmap under which a disk's changes are asked for over NBD."""
    return f"dirty-{target}"


def checkpoint_xml(plan: CapturePlan) -> Optional[str]:
    """Describe the new checkpoint of a plan; none where no disk can be tracked."""
    if not plan.tracked:
        return None
    tracked = {item.target for item in plan.tracked}
    all_targets = [disk.target for disk in plan.survey.machine.disks]
    return _checkpoint(plan.checkpoint, tracked, untracked=set(all_targets) - tracked)


def redefinition_xml(name: str, targets: Iterable[str], *, created: int) -> str:
    """Describe a checkpoint that libvirt forgot, over bitmaps that are in the images.

    ``created`` is its creation time in seconds since the epoch; libvirt insists
    on one and only sorts by it.
    """
    return _checkpoint(name, set(targets), created=created)


def _checkpoint(
    name: str,
    targets: set[str],
    *,
    untracked: Iterable[str] = (),
    created: Optional[int] = None,
) -> str:
    root = ET.Element("domaincheckpoint")
    ET.SubElement(root, "name").text = name
    if created is not None:
        ET.SubElement(root, "creationTime").text = str(created)
    disks = ET.SubElement(root, "disks")
    for target in sorted(targets):
        ET.SubElement(disks, "disk", name=target, checkpoint="bitmap", bitmap=name)
    for target in sorted(untracked):
        ET.SubElement(disks, "disk", name=target, checkpoint="no")
    return ET.tostring(root, encoding="unicode")


def mentions_path(job_xml: str, path: str) -> bool:
    """Tell whether a running job's description names one of our files: then it is ours."""
    root = ET.fromstring(job_xml)  # noqa: S314 - libvirt's own document
    return any(path in element.attrib.values() for element in root.iter())


def scratch_indexes(job_xml: str) -> dict[str, str]:
    """Give, per target, the index by which libvirt names a job's scratch file in events."""
    root = ET.fromstring(job_xml)  # noqa: S314 - libvirt's own document
    return {
        str(disk.get("name")): str(disk.get("index"))
        for disk in root.iter("disk")
        if disk.get("index") and disk.get("name")
    }
