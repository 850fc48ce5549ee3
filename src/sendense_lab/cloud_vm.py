"""A VM as CloudStack runs it: a transient domain that exists only while it runs.

The object outlives its domains: it keeps identity and disks over stop, start, crash and
migration, as CloudStack's database does. `start` makes a new transient domain each time, so
libvirt forgets checkpoints whenever the VM stops - the very thing a backup tool must live with.

Exact writes (`write`, `discard`, `write_zeroes`, `random_fill`) work in any state of the VM. On a
disk that a booted guest has mounted they damage its file system: use boot="none" for them, or a
disk the guest leaves alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import libvirt

from sendense_lab import exact_io, volume_changes
from sendense_lab.commands import run, wait_until
from sendense_lab.domain_xml import MachineShape, domain_xml
from sendense_lab.errors import LabError, TimedOut
from sendense_lab.guest_agent import Guest
from sendense_lab.host_config import QemuUser
from sendense_lab.pool import ImageFormat, Pool, Volume
from sendense_lab.processes import ProcessIdentity

# libvirt keeps a dead domain for 30 s in some cases (see its job lock), so be patient.
GONE_TIMEOUT_S = 45
STOP_TIMEOUT_S = 40


class VmHost(Protocol):
    """What a VM needs of the host that it runs on."""

    @property
    def powered(self) -> bool:
        """Whether anything can run there."""

    @property
    def connection(self) -> libvirt.virConnect: ...

    @property
    def run_dir(self) -> Path:
        """A folder that this machine and QEMU on the host both see."""

    @property
    def user(self) -> QemuUser: ...

    @property
    def migration_uri(self) -> str:
        """Of its libvirtd, for the libvirtd of another host."""

    @property
    def migration_address(self) -> str:
        """Where another host's QEMU sends the guest to."""

    def qemu_pid(self, vm: str) -> int: ...


class CloudVm:
    """A VM made by `Lab.create_vm`."""

    def __init__(self, shape: MachineShape, disks: dict[str, Volume], pool: Pool) -> None:
        self.shape = shape
        self.name = shape.name
        self.uuid = shape.uuid
        self.console = shape.console
        self.nvram = shape.nvram
        self.hypervisor: VmHost | None = None
        self.guest = Guest(lambda: self.domain)
        self._disks = disks
        self._pool = pool

    # --- what it is -------------------------------------------------------------------------

    @property
    def disks(self) -> dict[str, Volume]:
        """Targets (vda...) and what is behind them now."""
        return dict(self._disks)

    @property
    def domain(self) -> libvirt.virDomain:
        """The running domain; raises when the VM is stopped."""
        found = self._find()
        if found is None:
            raise LabError(f"{self.name} does not run")
        return found

    @property
    def running(self) -> bool:
        """Whether a domain exists, paused ones included."""
        return self._find() is not None

    @property
    def pid(self) -> int:
        """The process of its QEMU."""
        return self._host().qemu_pid(self.name)

    def xml(self) -> str:
        """The live definition if it runs, else the one it would start with."""
        found = self._find()
        return domain_xml(self.shape, self._disks) if found is None else str(found.XMLDesc(0))

    # --- power ------------------------------------------------------------------------------

    def start(self, hypervisor: VmHost, *, paused: bool | None = None) -> None:
        """Start on a host. boot="none" starts paused unless told otherwise."""
        if self.running:
            raise LabError(f"{self.name} runs already")
        self.hypervisor = hypervisor
        pause = self.shape.boot == "none" if paused is None else paused
        flags = libvirt.VIR_DOMAIN_START_PAUSED if pause else 0
        connection = hypervisor.connection
        version = connection.getLibVersion()
        xml = domain_xml(self.shape, self._disks, libvirt_version=version)
        connection.createXML(xml, flags)

    def stop(self) -> None:
        """Power button and wait, as CloudStack stops a VM; destroy if nobody listens inside."""
        if self.shape.boot == "none":
            self.destroy()
            return
        self.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        try:
            self._wait_gone(STOP_TIMEOUT_S)
        except TimedOut:
            self.destroy()

    def destroy(self) -> None:
        """End QEMU by SIGTERM (libvirt's destroy): it still saves its bitmaps."""
        self.domain.destroy()
        self._wait_gone(GONE_TIMEOUT_S)

    def kill9(self) -> None:
        """End QEMU by SIGKILL: nothing is saved, bitmaps stay in-use."""
        process = ProcessIdentity.of(self.pid)
        if process is not None:
            process.send(signal.SIGKILL)
        self._wait_gone(GONE_TIMEOUT_S)

    def restart(self) -> None:
        """Stop and start on the same host: a new domain."""
        host = self._host()
        self.stop()
        self.start(host)

    def migrate(self, to: VmHost) -> None:
        """Live migration on shared storage."""
        # Unsafe to libvirt, as it knows shared storage by the file system's type (NFS...) only.
        flags = (
            libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNSAFE
        )
        options = {libvirt.VIR_MIGRATE_PARAM_URI: to.migration_address}
        self.domain.migrateToURI3(to.migration_uri, options, flags)
        self.hypervisor = to
        # On NFS libvirt leaves the owner alone. Here the source host gives the files back to root
        # after the migration, and QEMU could not open them once more (commit, attach).
        for volume in self._disks.values():
            os.chown(volume.path, to.user.uid, to.user.gid)
        # The target opens the disks only when the VM first runs there: until then a paused VM
        # has no bitmaps and cannot be written to. Without an operating system a moment of running
        # does nothing to the disks.
        if self.shape.boot == "none" and self.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            self.domain.resume()
            self.domain.suspend()

    def save(self, into: Path) -> None:
        """Save memory to a file and stop."""
        self.domain.saveFlags(str(into), None, 0)
        self._wait_gone(GONE_TIMEOUT_S)

    def restore(self, saved: Path, hypervisor: VmHost) -> None:
        """Go on from a file of `save`."""
        hypervisor.connection.restoreFlags(str(saved), None, 0)
        self.hypervisor = hypervisor

    def wait_stopped(self, *, timeout_s: float = GONE_TIMEOUT_S) -> None:
        """Wait until the domain is gone, after a poweroff from inside for example."""
        self._wait_gone(timeout_s)

    # --- disks ------------------------------------------------------------------------------

    def give_disks(self, disks: Mapping[str, Volume]) -> None:
        """Say what is behind the targets, where someone else decides: the next start uses it."""
        self._disks = dict(disks)

    def attach_disk(
        self,
        size: int,
        *,
        format: ImageFormat = "qcow2",  # noqa: A002 - the word of qemu-img
        cluster_size: int = 65536,
    ) -> str:
        """A new empty disk, hot if the VM runs; returns its target."""
        volume = self._pool.create(size, format=format, cluster_size=cluster_size)
        return self.attach_volume(volume)

    def attach_volume(self, volume: Volume, target: str = "") -> str:
        target = target or volume_changes.free_target(self._disks)
        if self.running:
            volume_changes.attach(self.domain, self.shape, target, volume)
        self._disks[target] = volume
        return target

    def detach_disk(self, target: str) -> Volume:
        """Take a disk away and keep its volume. Hot-unplug needs a guest that takes part."""
        volume = self._disks[target]
        if self.running:
            volume_changes.detach(self.domain, target)
        del self._disks[target]
        return volume

    def resize_disk(self, target: str, size: int) -> None:
        """Grow a disk, live or stopped."""
        volume = self._disks[target]
        if self.running:
            self.domain.blockResize(target, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        else:
            run(["qemu-img", "resize", "-q", "-f", volume.format, volume.path, str(size)])
        self._disks[target] = Volume(volume.id, volume.path, volume.format, size)

    def snapshot_disk(self, target: str) -> Path:
        """An external snapshot as CloudStack's volume snapshot makes it; the file that froze."""
        before = self._disks[target]
        self._disks[target] = volume_changes.snapshot(self.domain, target, before)
        return before.path

    def commit_disk(self, target: str, base: Path) -> None:
        """Merge the overlay back into `base` and go on with that file; the overlay is removed."""
        overlay = self._disks[target]
        volume_changes.commit(self.domain, target, base)
        self._disks[target] = Volume(base.name, base, overlay.format, overlay.size)
        overlay.path.unlink()

    def snapshot_memory(self, name: str) -> None:
        """An internal snapshot with memory (qcow2 disks only)."""
        self.domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>", 0)

    # --- exact content ----------------------------------------------------------------------

    def write(self, target: str, offset: int, length: int, pattern: int = 0x5A) -> None:
        """Bytes of one value."""
        for start, part in self._requests(target, offset, length):
            self._io(target, exact_io.write_command(start, part, pattern))

    def discard(self, target: str, offset: int, length: int) -> None:
        for start, part in self._requests(target, offset, length):
            self._io(target, exact_io.discard_command(start, part))

    def write_zeroes(self, target: str, offset: int, length: int, *, unmap: bool = False) -> None:
        """The guest's WRITE ZEROES request, which need not allocate anything."""
        for start, part in self._requests(target, offset, length):
            self._io(target, exact_io.zero_command(start, part, unmap=unmap))

    def random_fill(self, target: str, offset: int, length: int, seed: int) -> None:
        """Incompressible bytes, the same for the same seed."""
        list(self._requests(target, offset, length))
        if self.running:
            scratch = self._host().run_dir
            exact_io.fill_online(self.domain, target, offset, length, seed, scratch=scratch)
        else:
            exact_io.fill_offline(self._disks[target], offset, length, seed)

    def read(self, target: str, offset: int, length: int) -> bytes:
        """Bytes of a stopped VM's disk."""
        self._must_be_stopped()
        return exact_io.read_offline(self._disks[target], offset, length)

    def read_disk(self, target: str, into: Path) -> Path:
        """All a guest would read from a stopped VM's disk, as a raw file."""
        self._must_be_stopped()
        volume = self._disks[target]
        run(["qemu-img", "convert", "-f", volume.format, "-O", "raw", volume.path, into])
        return into

    # --- inside -----------------------------------------------------------------------------

    def _requests(self, target: str, offset: int, length: int) -> list[tuple[int, int]]:
        return list(exact_io.requests(offset, length, self._disks[target].size))

    def _io(self, target: str, command: str) -> None:
        if self.running:
            exact_io.run_online(self.domain, target, command)
        else:
            exact_io.run_offline(self._disks[target], command)

    def _must_be_stopped(self) -> None:
        if self.running:
            raise LabError(f"{self.name} runs: its disks change while they are read")

    def _host(self) -> VmHost:
        if self.hypervisor is None:
            raise LabError(f"{self.name} was never started")
        return self.hypervisor

    def _find(self) -> libvirt.virDomain | None:
        if self.hypervisor is None or not self.hypervisor.powered:
            return None
        # Not by lookup: that prints an error for each domain it does not find.
        for domain in self.hypervisor.connection.listAllDomains():
            if domain.UUIDString() == self.uuid:
                return domain
        return None

    def _wait_gone(self, timeout_s: float) -> None:
        wait_until(lambda: not self.running, f"the end of {self.name}", timeout_s=timeout_s)
