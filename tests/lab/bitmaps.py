"""What QEMU and qemu-img say about dirty bitmaps, read without the product's code."""

from __future__ import annotations

import json

import libvirt
import libvirt_qemu

from sendense_lab import CloudVm
from sendense_lab.commands import run


def checkpoint(vm: CloudVm, name: str, target: str) -> None:
    """Start a persistent bitmap on one disk, and on no other."""
    others = "".join(
        f"<disk name='{other}' checkpoint='no'/>" for other in vm.disks if other != target
    )
    vm.domain.checkpointCreateXML(
        f"<domaincheckpoint><name>{name}</name><disks>"
        f"<disk name='{target}' checkpoint='bitmap'/>{others}</disks></domaincheckpoint>",
        0,
    )


def dirty_bytes(domain: libvirt.virDomain, name: str) -> int:
    """How many bytes the recording bitmap of that name counts."""
    answer = libvirt_qemu.qemuMonitorCommand(
        domain, '{"execute":"query-named-block-nodes","arguments":{"flat":true}}', 0
    )
    for node in json.loads(answer)["return"]:
        for bitmap in node.get("dirty-bitmaps", []):
            if bitmap.get("name") == name and bitmap["recording"]:
                count: int = bitmap["count"]
                return count
    raise AssertionError(f"no recording bitmap {name}")


def stored_flags(vm: CloudVm, target: str) -> dict[str, list[str]]:
    """Bitmaps in the image of a stopped VM, and their flags."""
    info = json.loads(run(["qemu-img", "info", "--output=json", vm.disks[target].path]))
    bitmaps = info["format-specific"]["data"].get("bitmaps", [])
    return {bitmap["name"]: bitmap["flags"] for bitmap in bitmaps}
