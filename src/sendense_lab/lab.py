"""The lab: one folder with shared storage and hypervisors, which leaves nothing behind.

    with Lab(Path("/dev/shm/demo")) as lab:
        host = lab.add_hypervisor()
        vm = lab.create_vm(boot="guest", disks=[DiskSpec(size=64 << 20)])
        vm.start(host)
        vm.guest.wait_ready()

On exit, whatever happened, all processes are ended and the folder is removed (unless `keep`).
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import libvirt

from sendense_lab import journal
from sendense_lab.accelerator import domain_type
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import Boot
from sendense_lab.errors import LabError
from sendense_lab.guest_image import cache_dir
from sendense_lab.host_config import qemu_user
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.pool import Pool, Volume
from sendense_lab.vm_making import DiskSpec, VmMaker

__all__ = ["DiskSpec", "Lab", "temporary_lab"]


class Lab:
    """One lab in `root`, a folder that must be new or empty."""

    def __init__(self, root: Path, *, name: str = "lab", keep: bool = False) -> None:
        self.root = root
        self.name = name
        self.keep = keep
        self.hypervisors: list[Hypervisor] = []
        self.user = qemu_user()
        self._entry: journal.Entry | None = None
        self._maker: VmMaker | None = None

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
        self._maker = VmMaker(self.root, Pool(self.root / "mnt"), self.user)
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
        return self.maker.pool

    @property
    def vms(self) -> list[CloudVm]:
        return self.maker.made

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
        return self.maker.make(
            boot=boot, root=root, root_size=root_size, disks=disks, options=options, uefi=uefi
        )

    @property
    def maker(self) -> VmMaker:
        """Makes its VMs; for those whose name and disks someone else decides."""
        if self._maker is None:
            raise LabError("the lab is not entered")
        return self._maker

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
