"""Machines that are rows only: an API in front of ten thousand of them answers as if they ran."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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

DEFAULT_HOSTS = (HostFact("kvm1", "192.0.2.11"), HostFact("kvm2", "192.0.2.12"))
DEFAULT_POOLS = (
    PoolFact("5b6d2c44-7d55-3f6c-9e4f-6a1f0f9d3a01", "primary1", "NetworkFilesystem", "/export/p1"),
    PoolFact("5b6d2c44-7d55-3f6c-9e4f-6a1f0f9d3a02", "primary2", "NetworkFilesystem", "/export/p2"),
)
DEFAULT_TEMPLATES = (TemplateFact("debian-12", 1 << 30), TemplateFact("debian-13", 2 << 30))


@dataclass
class _Running:
    spec: MachineSpec
    host: str
    paths: dict[int, str]
    snapshots: list[str] = field(default_factory=list)


class PaperMachines:
    """`Machines` in memory."""

    def __init__(
        self,
        hosts: Sequence[HostFact] = DEFAULT_HOSTS,
        pools: Sequence[PoolFact] = DEFAULT_POOLS,
        templates: Sequence[TemplateFact] = DEFAULT_TEMPLATES,
    ) -> None:
        self._hosts = tuple(hosts)
        self._pools = tuple(pools)
        self._templates = {template.name: template for template in templates}
        self._files: dict[tuple[str, str], FileFact] = {}
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self.failing: dict[str, str] = {}
        """What fails, by the name of the method, and with which words."""

    def _fail(self, what: str) -> None:
        if what in self.failing:
            raise MachineError(self.failing[what])

    # What there is

    def hosts(self) -> Sequence[HostFact]:
        """Give the hosts."""
        return self._hosts

    def pools(self) -> Sequence[PoolFact]:
        """Give the pools."""
        return self._pools

    def templates(self) -> Sequence[TemplateFact]:
        """Give the templates."""
        return tuple(self._templates.values())

    # Volumes

    def add_file(self, pool: str, fact: FileFact) -> None:
        """Put a file into a pool, as somebody beside CloudStack does."""
        with self._lock:
            self._files[pool, fact.path] = fact

    def create_volume(self, pool: str, path: str, size: int, *, template: str = "") -> int:
        """Note a volume; one of a template is at least as large as that."""
        self._fail("create_volume")
        if template:
            size = max(size, self._templates[template].size)
        backing = f"{template}.qcow2" if template else ""
        self.add_file(pool, FileFact(path, "qcow2", 196_608, size, backing=backing))
        return size

    def delete_volume(self, pool: str, path: str) -> None:
        """Forget a volume."""
        with self._lock:
            self._files.pop((pool, path), None)

    def files(self, pool: str) -> Sequence[FileFact]:
        """Give all files of a pool."""
        with self._lock:
            return [fact for (where, _), fact in self._files.items() if where == pool]

    def resize(self, machine: str, disk: DiskSpec, size: int) -> None:
        """Note the new size."""
        del machine
        self._fail("resize")
        with self._lock:
            fact = self._files.get((disk.pool_id, disk.path))
            if fact:
                self._files[disk.pool_id, disk.path] = replace(fact, virtual_size=size)

    def migrate_volume(self, disk: DiskSpec, pool: str, path: str) -> None:
        """Note that it is elsewhere."""
        self._fail("migrate_volume")
        with self._lock:
            fact = self._files.pop((disk.pool_id, disk.path), None)
            if fact is None:
                raise MachineError(f"no volume {disk.path}")
            self._files[pool, path] = replace(fact, path=path)

    def snapshot_volume(self, machine: str, disk: DiskSpec, name: str) -> None:
        """Nothing stays of it."""
        del machine, disk, name
        self._fail("snapshot_volume")

    def revert_volume(self, disk: DiskSpec, name: str) -> None:
        """Nothing was kept."""
        del disk, name
        self._fail("revert_volume")

    # Machines

    def start(self, spec: MachineSpec, host: str) -> None:
        """Note that it runs."""
        self._fail("start")
        with self._lock:
            if spec.name in self._running:
                raise MachineError(f"domain {spec.name} exists already")
            paths = {disk.device_id: disk.path for disk in spec.disks}
            self._running[spec.name] = _Running(spec, host, paths)

    def stop(self, machine: str, *, forced: bool = False) -> None:
        """Note that it is gone."""
        del forced
        self._fail("stop")
        with self._lock:
            self._running.pop(machine, None)

    def reboot(self, machine: str) -> None:
        """Look whether it runs."""
        self._fail("reboot")
        self._one(machine)

    def migrate(self, machine: str, host: str) -> None:
        """Note its new host."""
        self._fail("migrate")
        self._one(machine).host = host

    def attach(self, machine: str, disk: DiskSpec) -> None:
        """Note the disk."""
        self._fail("attach")
        self._one(machine).paths[disk.device_id] = disk.path

    def detach(self, machine: str, disk: DiskSpec) -> None:
        """Forget the disk."""
        self._fail("detach")
        self._one(machine).paths.pop(disk.device_id, None)

    def state(self, machine: str) -> MachineState | None:
        """Tell where it runs."""
        with self._lock:
            running = self._running.get(machine)
            return MachineState(running.host, dict(running.paths)) if running else None

    def snapshot_memory(self, machine: str, name: str) -> None:
        """Note the snapshot."""
        self._fail("snapshot_memory")
        self._one(machine).snapshots.append(name)

    def delete_memory_snapshot(self, machine: str, name: str) -> None:
        """Forget the snapshot; one that went with its domain is no error."""
        self._fail("delete_memory_snapshot")
        with self._lock:
            running = self._running.get(machine)
            if running and name in running.snapshots:
                running.snapshots.remove(name)

    def snapshot_disks(self, machine: str, disks: Sequence[DiskSpec], name: str) -> dict[int, str]:
        """Put overlays on all disks."""
        self._fail("snapshot_disks")
        paths = {}
        for disk in disks:
            path = f"{disk.volume_id}.{name}"
            self.add_file(
                disk.pool_id, FileFact(path, disk.format, 196_608, disk.size, backing=disk.path)
            )
            paths[disk.device_id] = path
        with self._lock:
            if machine in self._running:
                self._running[machine].paths.update(paths)
        return paths

    def merge_disks(self, machine: str, disks: Sequence[DiskSpec], name: str) -> dict[int, str]:
        """Take the overlays of a snapshot out of the chains of all disks."""
        self._fail("merge_disks")
        paths = {}
        for disk in disks:
            overlay = f"{disk.volume_id}.{name}"
            with self._lock:
                fact = self._files.pop((disk.pool_id, overlay), None)
                paths[disk.device_id] = disk.path
                if fact and disk.path == overlay:
                    paths[disk.device_id] = fact.backing
        with self._lock:
            if machine in self._running:
                self._running[machine].paths.update(paths)
        return paths

    def _one(self, machine: str) -> _Running:
        with self._lock:
            running = self._running.get(machine)
        if running is None:
            raise MachineError(f"no domain {machine}")
        return running
