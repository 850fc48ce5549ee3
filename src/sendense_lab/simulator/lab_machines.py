"""Hosts and pools of the lab behind a simulated cloud: real domains, real images.

Done to them is what CloudStack's agent does: a machine is a transient domain named by its
`instancename` that exists only while it runs, a disk's serial is its volume's UUID without dashes
cut to 20 characters, its letter follows from its device id, a stop is the power button and then
a destroy. Two things differ, since many machines share a small computer under emulation: they get
the lab's memory and one processor whatever their offering says, and unless `boot="none"` a small
Linux with a guest agent comes from kernel and initial file system beside the disks, so that any
root volume boots.

    with cluster() as site, Simulator(LabMachines.over(site)) as cloud: ...

`vm(machine)` is the test's way to a machine behind the cloud's back: write exact bytes, read disks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import libvirt

from sendense_lab.cloud_vm import CloudVm, VmHost
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.domain_xml import Boot
from sendense_lab.errors import LabError, TimedOut
from sendense_lab.lab import Lab
from sendense_lab.pool import Pool, Volume
from sendense_lab.simulator import lab_disks, lab_storage
from sendense_lab.simulator.lab_overlays import Overlays
from sendense_lab.simulator.lab_storage import LabStorage, answered
from sendense_lab.simulator.machines import (
    DiskSpec,
    FileFact,
    HostFact,
    MachineError,
    MachineSpec,
    MachineState,
    PoolFact,
    TemplateFact,
)
from sendense_lab.vm_making import VmIdentity, VmMaker

SPARE_MAC = "06:00:00:ff:ff:ff"
STOP_TIMEOUT_S = 40
# A guest that has only begun to boot does not hear the button.
PRESS_EVERY_S = 4


class LabMachines:
    """An implementation of `machines.Machines`; machines go by UUID or by `instancename`."""

    def __init__(
        self,
        root: Path,
        maker: VmMaker,
        hosts: Callable[[], Mapping[str, VmHost]],
        *,
        boot: Boot = "guest",
        options: Sequence[str] = (),
    ) -> None:
        """See `over`. `boot` and `options` (of the guest's kernel) are for machines to come."""
        self.boot: Boot = boot
        self.options = tuple(options)
        self.storage = LabStorage(root)
        self._root = root
        self._maker = maker
        self._hosts = hosts
        self._vms: dict[str, CloudVm] = {}
        self._overlays = Overlays()
        self._lock = threading.Lock()

    @classmethod
    def over(
        cls,
        site: Cluster | Lab,
        *,
        kind: str = "",
        boot: Boot = "guest",
        options: Sequence[str] = (),
    ) -> LabMachines:
        """The machines of a site, whose pool is shown as of `kind`.

        A cluster's is a `NetworkFilesystem` unless told otherwise. A lab's cannot be, since hosts
        mount those below /mnt; it is a `SharedMountPoint`, or a `Filesystem` of its first host.
        """
        if isinstance(site, Cluster):
            made = cls(site.root, site.maker, lambda: site.hosts, boot=boot, options=options)
            made.storage.add(site.pool, kind or "NetworkFilesystem", name="primary")
            return made
        made = cls(
            site.root,
            site.maker,
            lambda: {host.name: host for host in site.hypervisors},
            boot=boot,
            options=options,
        )
        kind = kind or "SharedMountPoint"
        local = site.hypervisors[0].name if kind == "Filesystem" else ""
        made.storage.add(site.pool, kind, name="primary", host=local)
        return made

    # --- for tests, behind the cloud's back -----------------------------------------------------

    def vm(self, machine: str) -> CloudVm:
        """A machine that was started once, running or not, by its UUID or its `instancename`."""
        found = self._known(machine)
        if found is None:
            raise LabError(f"the lab never started {machine}")
        return found

    def volume(self, pool: str, path: str) -> Volume:
        """A file of a pool, as it is now."""
        place = self.storage.pool(pool)
        return place.pool.adopt(place.file(path))

    def add_pool(self, name: str, *, kind: str = "SharedMountPoint", host: str = "") -> PoolFact:
        """One more pool; on a cluster too all hosts see its folder."""
        return self.storage.add(Pool(self._root / "more"), kind, name=name, host=host)

    # --- what there is --------------------------------------------------------------------------

    def hosts(self) -> Sequence[HostFact]:
        return [
            HostFact(name, getattr(host, "address", "127.0.0.1"), _version(host))
            for name, host in self._hosts().items()
        ]

    def pools(self) -> Sequence[PoolFact]:
        return self.storage.facts()

    def templates(self) -> Sequence[TemplateFact]:
        return self.storage.templates()

    def state(self, machine: str) -> MachineState | None:
        with answered():
            vm = self._running(machine)
            if vm is None:
                return None
            try:
                return MachineState(self._name_of(vm), lab_disks.live_paths(vm))
            except (LabError, libvirt.libvirtError):
                if vm.running:
                    raise
                return None

    # --- volumes that are not in use ------------------------------------------------------------

    def create_volume(self, pool: str, path: str, size: int, *, template: str = "") -> int:
        with answered():
            return self.storage.create(pool, path, size, template)

    def delete_volume(self, pool: str, path: str) -> None:
        with answered():
            self.storage.delete(pool, path)
            for file in self._overlays.drop(self.storage.pool(pool).file(path)):
                file.unlink(missing_ok=True)

    def files(self, pool: str) -> Sequence[FileFact]:
        with answered():
            return self.storage.files(pool)

    def migrate_volume(self, disk: DiskSpec, pool: str, path: str) -> None:
        with answered():
            self.storage.move(disk, pool, path)

    # --- power ----------------------------------------------------------------------------------

    def start(self, spec: MachineSpec, host: str) -> None:
        with answered():
            if self._running(spec.uuid) is not None:
                raise MachineError(f"{spec.name} runs already")
            hypervisor = self._host(host)
            who = VmIdentity(spec.name, spec.uuid, spec.macs or (SPARE_MAC,))
            disks = {
                lab_disks.target(disk.device_id): self.storage.volume(disk)
                for disk in sorted(spec.disks, key=lambda disk: disk.device_id)
            }
            self._prepared(who, disks, uefi=spec.uefi).start(hypervisor)

    def stop(self, machine: str, *, forced: bool = False) -> None:
        with answered():
            vm = self._running(machine)
            if vm is None:
                return
            try:
                lab_disks.forget_snapshots(vm.domain)
                if forced or vm.shape.boot == "none" or not self._shut_down(vm):
                    vm.destroy()
            except (LabError, libvirt.libvirtError):
                # It may have ended by itself in between.
                if vm.running:
                    raise

    def reboot(self, machine: str) -> None:
        with answered():
            vm = self._must_run(machine)
            if vm.shape.boot == "none":
                vm.domain.reset()
            else:
                vm.domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)

    def migrate(self, machine: str, host: str) -> None:
        with answered():
            vm = self._must_run(machine)
            to = self._host(host)
            if self._name_of(vm) == host:
                raise MachineError(f"{vm.name} runs on {host} already")
            lab_disks.forget_snapshots(vm.domain)
            vm.migrate(to)

    # --- disks ----------------------------------------------------------------------------------

    def attach(self, machine: str, disk: DiskSpec) -> None:
        with answered():
            volume = self.storage.volume(disk)
            self._must_run(machine).attach_volume(volume, lab_disks.target(disk.device_id))

    def detach(self, machine: str, disk: DiskSpec) -> None:
        with answered():
            vm = self._must_run(machine)
            vm.detach_disk(lab_disks.target_of(vm, disk.device_id))

    def resize(self, machine: str, disk: DiskSpec, size: int) -> None:
        with answered():
            vm = self._running(machine)
            if vm is None:
                self.storage.resize(self.storage.volume(disk), size)
            else:
                vm.resize_disk(lab_disks.target_of(vm, disk.device_id), size)

    def snapshot_volume(self, machine: str, disk: DiskSpec, name: str) -> None:
        with answered():
            into = self.storage.secondary(disk.volume_id, name)
            vm = self._running(machine)
            if vm is None:
                lab_disks.copy_stopped(self.storage.volume(disk), into)
            else:
                lab_disks.copy_running(vm, lab_disks.target_of(vm, disk.device_id), into)

    def revert_volume(self, disk: DiskSpec, name: str) -> None:
        with answered():
            kept = self.storage.secondary(disk.volume_id, name)
            lab_storage.copy(kept, "qcow2", self.storage.volume(disk).path)

    def snapshot_memory(self, machine: str, name: str) -> None:
        with answered():
            self._must_run(machine).snapshot_memory(name)

    def delete_memory_snapshot(self, machine: str, name: str) -> None:
        with answered():
            vm = self._running(machine)
            if vm is None:
                lab_disks.delete_stopped_snapshot(self.vm(machine), name)
            else:
                lab_disks.delete_running_snapshot(vm.domain, name)

    def snapshot_disks(self, machine: str, disks: Sequence[DiskSpec], name: str) -> dict[int, str]:
        with answered():
            return self._overlays.take(name, self._running(machine), self._volumes(disks))

    def merge_disks(self, machine: str, disks: Sequence[DiskSpec], name: str) -> dict[int, str]:
        with answered():
            return self._overlays.merge(name, self._running(machine), self._volumes(disks))

    # --- inside of this module ------------------------------------------------------------------

    def _prepared(self, who: VmIdentity, disks: Mapping[str, Volume], *, uefi: bool) -> CloudVm:
        """The machine as it shall be at this start; the handle that a test has stays the same."""
        with self._lock:
            known = self._vms.get(who.uuid)
            boot = known.shape.boot if known else self.boot
            options = known.shape.options if known else self.options
            shape = self._maker.shape(who, boot=boot, options=options, uefi=uefi)
            if known is None:
                known = self._vms[who.uuid] = self._maker.make_of(shape, disks)
            known.shape = shape
            known.give_disks(disks)
            return known

    def _volumes(self, disks: Sequence[DiskSpec]) -> dict[int, Volume]:
        return {disk.device_id: self.storage.volume(disk) for disk in disks}

    def _running(self, machine: str) -> CloudVm | None:
        vm = self._known(machine)
        return vm if vm is not None and vm.running else None

    def _known(self, machine: str) -> CloudVm | None:
        with self._lock:
            return next((vm for vm in self._vms.values() if machine in (vm.uuid, vm.name)), None)

    def _must_run(self, machine: str) -> CloudVm:
        vm = self._running(machine)
        if vm is None:
            raise MachineError(f"no domain {machine}")
        return vm

    def _host(self, name: str) -> VmHost:
        host = self._hosts().get(name)
        if host is None or not host.powered:
            raise MachineError(f"host {name} does not answer")
        return host

    def _name_of(self, vm: CloudVm) -> str:
        return next(name for name, host in self._hosts().items() if host is vm.hypervisor)

    @staticmethod
    def _shut_down(vm: CloudVm) -> bool:
        for _ in range(STOP_TIMEOUT_S // PRESS_EVERY_S):
            try:
                vm.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                vm.wait_stopped(timeout_s=PRESS_EVERY_S)
            except TimedOut:
                continue
            return True
        return False


def _version(host: Any) -> str:  # noqa: ANN401 - either kind of host
    """As CloudStack shows it; for a host that does not answer, what the protocol says."""
    if not host.powered:
        return HostFact.hypervisor_version
    try:
        number = host.connection.getLibVersion()
    except libvirt.libvirtError:
        return HostFact.hypervisor_version
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
