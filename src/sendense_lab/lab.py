"""The lab: one folder with shared storage and hypervisors, which leaves nothing behind.

    with Lab(Path("/dev/shm/demo")) as lab:
        host = lab.add_hypervisor()
        vm = lab.create_vm(boot="guest", disks=[DiskSpec(size=64 << 20)])
        vm.start(host)
        vm.guest.wait_ready()

On exit, whatever happened, all processes are ended and the folder is removed (unless `keep`).
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import libvirt

from sendense_lab import journal
from sendense_lab.accelerator import domain_type
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import Boot, MachineShape
from sendense_lab.errors import LabError
from sendense_lab.guest_image import GuestImage, cache_dir, guest_image
from sendense_lab.host_config import qemu_user
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.pool import MIB, ImageFormat, Pool, Volume
from sendense_lab.volume_changes import free_target


@dataclass(frozen=True)
class DiskSpec:
    """A data disk to make; or `volume` to use one that is in the pool already."""

    size: int = 64 * MIB
    format: ImageFormat = "qcow2"
    cluster_size: int = 65536
    volume: Volume | None = None


class Lab:
    """One lab in `root`, a folder that must be new or empty."""

    def __init__(self, root: Path, *, name: str = "lab", keep: bool = False) -> None:
        self.root = root
        self.name = name
        self.keep = keep
        self.hypervisors: list[Hypervisor] = []
        self.vms: list[CloudVm] = []
        self.user = qemu_user()
        self._numbers = itertools.count(3)
        self._entry: journal.Entry | None = None
        self._image: GuestImage | None = None
        self._pool: Pool | None = None

    def __enter__(self) -> Lab:
        # Errors arrive as exceptions; libvirt's binding would print each on stderr besides.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        journal.sweep()
        self.root.mkdir(parents=True, exist_ok=True)
        if any(self.root.iterdir()):
            raise LabError(f"{self.root} is not empty")
        _require_passable(self.root)
        self._entry = journal.record(self.name, self.root)
        self.root.chmod(0o755)
        for folder in ("console", "nvram"):
            (self.root / folder).mkdir()
            os.chown(self.root / folder, self.user.uid, self.user.gid)
        self._pool = Pool(self.root / "mnt")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pool(self) -> Pool:
        if self._pool is None:
            raise LabError("the lab is not entered")
        return self._pool

    def add_hypervisor(self, name: str | None = None) -> Hypervisor:
        """Start one more host."""
        name = name or f"h{len(self.hypervisors) + 1}"
        host = Hypervisor(self.root / name, name=name, kvm=domain_type() == "kvm")
        self.hypervisors.append(host)
        _copy_capabilities(cache_dir() / "capabilities", host.capabilities)
        host.start()
        return host

    def create_vm(
        self,
        *,
        boot: Boot = "none",
        root: Volume | None = None,
        root_size: int | None = None,
        disks: Sequence[DiskSpec] = (DiskSpec(),),
        options: Sequence[str] = (),
        uefi: bool = False,
    ) -> CloudVm:
        """A stopped VM: a root disk on the template (or `root`), and data disks.

        `options` are words for the guest's kernel, such as `lab.run=write:vdb:8:64:1`.
        """
        template = self.pool.template
        first = root or self.pool.create(root_size or template.size, backing=template)
        volumes = {"vda": first}
        for spec in disks:
            volumes[free_target(volumes)] = spec.volume or self.pool.create(
                spec.size, format=spec.format, cluster_size=spec.cluster_size
            )
        vm = CloudVm(self._shape(boot, tuple(options), uefi=uefi), volumes, self.pool)
        self.vms.append(vm)
        return vm

    def detach(self) -> None:
        """Leave everything running when the context ends, for `python -m sendense_lab down`."""
        if self._entry is None:
            raise LabError("the lab is not entered")
        journal.disown(self._entry)
        self._entry = None

    def close(self) -> None:
        """End all processes and remove the files; the context manager does this."""
        if self._entry is None:
            return
        for host in self.hypervisors:
            _copy_capabilities(host.capabilities, cache_dir() / "capabilities")
        # By the folders, not by what this object remembers: a host that failed to start counts.
        journal.take_down(self._entry, keep_files=self.keep)
        self._entry = None
        for host in self.hypervisors:
            host.close()

    def _shape(self, boot: Boot, options: tuple[str, ...], *, uefi: bool) -> MachineShape:
        number = next(self._numbers)
        name = f"i-2-{number}-VM"
        identity = str(uuid.uuid4())
        image = self._boot_files() if boot == "guest" else None
        return MachineShape(
            name=name,
            uuid=identity,
            mac=f"06:00:00:00:{number // 256:02x}:{number % 256:02x}",
            boot=boot,
            uefi=uefi,
            memory_mib=192 if boot == "guest" else 64,
            accelerator=domain_type() if boot == "guest" else "qemu",
            cache_mode=self.pool.cache_mode,
            console=self.root / f"console/{name}.log",
            nvram=self.root / f"nvram/{identity}.fd",
            kernel=image.kernel if image else None,
            initrd=image.initrd if image else None,
            options=options,
        )

    def _boot_files(self) -> GuestImage:
        """Copies in the lab: QEMU's user cannot pass through a home folder to the cache."""
        if self._image is None:
            cached = guest_image()
            folder = self.root / "boot"
            folder.mkdir()
            self._image = GuestImage(
                kernel=Path(shutil.copy(cached.kernel, folder)),
                initrd=Path(shutil.copy(cached.initrd, folder)),
            )
        return self._image


@contextmanager
def temporary_lab(*, name: str = "lab", where: Path = Path("/dev/shm")) -> Iterator[Lab]:  # noqa: S108
    """A lab in a new folder with a short name, in memory unless told otherwise."""
    root = Path(tempfile.mkdtemp(prefix="sl-", dir=where))
    try:
        with Lab(root, name=name) as lab:
            yield lab
    finally:
        if root.exists() and not any(root.iterdir()):
            root.rmdir()


def _require_passable(root: Path) -> None:
    for folder in root.absolute().parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise LabError(f"QEMU's user cannot pass through {folder}, take another root")


def _copy_capabilities(source: Path, into: Path) -> None:
    """Carry libvirt's findings about QEMU over: probing takes seconds per host.

    libvirt checks them against the QEMU binary and the kernel, and probes again if they differ.
    """
    if source.is_dir():
        into.mkdir(parents=True, exist_ok=True)
        for found in source.glob("*.xml"):
            draft = into / f"{found.name}.{os.getpid()}"
            shutil.copy2(found, draft)
            draft.replace(into / found.name)
