"""What a management server has its hosts and pools do: the seam between the API and the machines.

Every call returns when the work is done, as the answer of CloudStack's agent does, and raises
`MachineError` where that agent would answer with a failure. Calls on different machines may come at
the same time; on one machine the API serialises them, as CloudStack's work queue does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class MachineError(Exception):
    """What an agent's failed answer says."""


@dataclass(frozen=True)
class HostFact:
    """A hypervisor."""

    name: str
    address: str
    hypervisor_version: str = "9.0.0"


@dataclass(frozen=True)
class PoolFact:
    """A primary storage. `id` is its UUID, and the name of the folder where it is mounted."""

    id: str
    name: str
    kind: str
    """CloudStack's type: `NetworkFilesystem`, `SharedMountPoint`, `Filesystem`."""
    path: str
    """As `listStoragePools` shows it; for a SharedMountPoint the folder of the volumes itself."""
    host: str = ""
    """Name of its host, for local storage."""


@dataclass(frozen=True)
class TemplateFact:
    """A template on a pool that root volumes are cut from."""

    name: str
    size: int


@dataclass(frozen=True)
class DiskSpec:
    """One disk of a machine."""

    device_id: int
    volume_id: str
    """UUID; its serial is made of it."""
    pool_id: str
    path: str
    """Name of its file in the pool."""
    size: int
    format: str = "qcow2"


@dataclass(frozen=True)
class MachineSpec:
    """A machine as it is started."""

    uuid: str
    name: str
    """`instancename`."""
    cpus: int
    memory_mib: int
    macs: tuple[str, ...] = ()
    disks: tuple[DiskSpec, ...] = ()
    uefi: bool = False


@dataclass(frozen=True)
class FileFact:
    """A file of a pool, as `listVolumesForImport` looks at it."""

    path: str
    format: str
    size: int
    """Bytes on the storage."""
    virtual_size: int
    backing: str = ""
    encrypted: bool = False
    locked: bool = False


@dataclass(frozen=True)
class MachineState:
    """A machine that runs somewhere."""

    host: str
    paths: dict[int, str] = field(default_factory=dict)
    """Files of its disks now, by device id: a snapshot may have moved them."""


class Machines(Protocol):
    """Hosts and pools that do as they are told."""

    def hosts(self) -> Sequence[HostFact]: ...

    def pools(self) -> Sequence[PoolFact]: ...

    def templates(self) -> Sequence[TemplateFact]: ...

    def create_volume(self, pool: str, path: str, size: int, *, template: str = "") -> int:
        """Make an empty volume, or one cut from a template; gives its size."""

    def delete_volume(self, pool: str, path: str) -> None: ...

    def files(self, pool: str) -> Sequence[FileFact]:
        """All volumes and other images of a pool."""

    def resize(self, machine: str, disk: DiskSpec, size: int) -> None:
        """Resize a disk; `machine` is empty or off for one that is not in use."""

    def start(self, spec: MachineSpec, host: str) -> None:
        """Create the transient domain."""

    def stop(self, machine: str, *, forced: bool = False) -> None:
        """End it; one that is gone already is no error."""

    def reboot(self, machine: str) -> None: ...

    def migrate(self, machine: str, host: str) -> None: ...

    def attach(self, machine: str, disk: DiskSpec) -> None:
        """Hot-plug a disk."""

    def detach(self, machine: str, disk: DiskSpec) -> None: ...

    def state(self, machine: str) -> MachineState | None:
        """Where it runs; none where no host has it."""

    def snapshot_volume(self, machine: str, disk: DiskSpec, name: str) -> None:
        """CloudStack's volume snapshot: overlay, copy of what froze, commit, pivot."""

    def revert_volume(self, disk: DiskSpec, name: str) -> None:
        """Put back what a volume snapshot copied, into a volume that is not in use."""

    def snapshot_memory(self, machine: str, name: str) -> None:
        """A VM snapshot with memory: internal, in all disks."""

    def delete_memory_snapshot(self, machine: str, name: str) -> None: ...

    def snapshot_disks(self, machine: str, disks: Sequence[DiskSpec], name: str) -> dict[int, str]:
        """A VM snapshot without memory (4.21+): overlays that stay; gives the new files' names."""

    def merge_disks(self, machine: str, disks: Sequence[DiskSpec], name: str) -> dict[int, str]:
        """Take away what `snapshot_disks` made under a name; gives the files' names after that."""

    def migrate_volume(self, disk: DiskSpec, pool: str, path: str) -> None:
        """Copy a volume that is not in use to another pool, and remove it from the first."""
