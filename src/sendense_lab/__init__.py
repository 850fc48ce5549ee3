"""A lab of real KVM hosts on one machine, for tests, the demonstration and measurements.

Nothing is simulated: private libvirtds, real QEMUs, a real Linux guest with a real guest agent,
shaped as CloudStack shapes them. The lab knows nothing of the product under test.

Public names:

- `Lab`, `temporary_lab`: a folder with shared storage, hypervisors and VMs; cleans up after itself
- `DiskSpec`: a data disk to create
- `Hypervisor`: one host: `uri`, `run_dir`, `start`, `stop`, `kill`, `restart`, `power_off`
- `CloudVm`: a transient domain: power, migration, disks, snapshots, exact writes
- `Guest`: commands, files, freeze and faults inside a booted VM, through the guest agent
- `Pool`, `Volume`: primary storage and its image files
- `LabError` and its kinds `CommandFailed`, `GuestFailed`, `TimedOut`
"""

from __future__ import annotations

from sendense_lab.cloud_vm import CloudVm
from sendense_lab.errors import CommandFailed, GuestFailed, LabError, TimedOut
from sendense_lab.guest_agent import Guest
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import DiskSpec, Lab, temporary_lab
from sendense_lab.pool import MIB, Pool, Volume

__all__ = [
    "MIB",
    "CloudVm",
    "CommandFailed",
    "DiskSpec",
    "Guest",
    "GuestFailed",
    "Hypervisor",
    "Lab",
    "LabError",
    "Pool",
    "TimedOut",
    "Volume",
    "temporary_lab",
]
