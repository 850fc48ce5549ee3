"""Disks of a machine as CloudStack's agent changes them: letters and snapshots.

Names of files change under a running machine (an overlay of a VM snapshot stays), the volume's
identity and its serial never do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import libvirt
import libvirt_qemu

from sendense_lab import volume_changes
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import run
from sendense_lab.errors import LabError
from sendense_lab.live_xml import disk_elements
from sendense_lab.pool import Volume
from sendense_lab.simulator.lab_storage import copy
from sendense_lab.simulator.machines import MachineError

FOR_THE_ISO = 3


def target(device_id: int) -> str:
    """0 is vda, 1 vdb, 2 vdc, 4 vde: 3 is left for the ISO."""
    if device_id == FOR_THE_ISO or not 0 <= device_id < 26:
        raise MachineError(f"no disk can have the device id {device_id}")
    return f"vd{chr(ord('a') + device_id)}"


def device_id(target: str) -> int:
    return ord(target[-1]) - ord("a")


def target_of(vm: CloudVm, device: int) -> str:
    """The letter of a disk that the machine must have."""
    name = target(device)
    if name not in vm.disks:
        raise MachineError(f"{vm.name} has no disk with the device id {device}")
    return name


def live_paths(vm: CloudVm) -> dict[int, str]:
    """Device ids, and names of the files that QEMU writes to."""
    found = {}
    for name, element in disk_elements(vm.domain).items():
        source = element.find("source")
        if source is not None and name.startswith("vd"):
            found[device_id(name)] = Path(source.get("file", "")).name
    return found


# --- volume snapshots ---------------------------------------------------------------------------


def copy_running(vm: CloudVm, target: str, into: Path) -> None:
    """Overlay, copy of what froze, active commit back into it."""
    before = vm.disks[target]
    overlay = volume_changes.snapshot(vm.domain, target, before)
    vm.give_disks({**vm.disks, target: replace(before, path=overlay.path)})
    try:
        copy(before.path, before.format, into)
    finally:
        volume_changes.commit(vm.domain, target, before.path)
        vm.give_disks({**vm.disks, target: before})
        overlay.path.unlink()


def copy_stopped(volume: Volume, into: Path) -> None:
    copy(volume.path, volume.format, into)


# --- VM snapshots with memory -------------------------------------------------------------------


def forget_snapshots(domain: libvirt.virDomain) -> None:
    """Have libvirt forget them, not the disks: with them it would not let the machine move."""
    for snapshot in domain.listAllSnapshots():
        snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)


def delete_running_snapshot(domain: libvirt.virDomain, name: str) -> None:
    """Through libvirt, or past it where it forgot."""
    for snapshot in domain.listAllSnapshots():
        if snapshot.getName() == name:
            snapshot.delete()
            return
    monitor = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    said = libvirt_qemu.qemuMonitorCommand(domain, f"delvm {name}", monitor)
    if said.strip():
        raise LabError(said.strip())


def delete_stopped_snapshot(vm: CloudVm, name: str) -> None:
    for volume in vm.disks.values():
        if name in run(["qemu-img", "snapshot", "-l", volume.path]).split():
            run(["qemu-img", "snapshot", "-d", name, volume.path])
