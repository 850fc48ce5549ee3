"""Reading the live definition of a domain: which disks it has and how they are called inside."""

from __future__ import annotations

from xml.etree import ElementTree

import libvirt


def disk_elements(domain: libvirt.virDomain) -> dict[str, ElementTree.Element]:
    """Targets (vda, hdc...) and their `<disk>` elements."""
    # S314 fears hostile XML; this is libvirt's own output.
    root = ElementTree.fromstring(domain.XMLDesc(0))  # noqa: S314
    found = {}
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        if target is not None:
            found[target.get("dev", "")] = disk
    return found
