"""Making VMs: numbers, shapes and disks, whatever host they will run on."""

from __future__ import annotations

import itertools
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sendense_lab.accelerator import domain_type
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import Boot, MachineShape
from sendense_lab.guest_image import GuestImage, guest_image
from sendense_lab.host_config import QemuUser
from sendense_lab.pool import MIB, ImageFormat, Pool, Volume
from sendense_lab.volume_changes import free_target


@dataclass(frozen=True)
class DiskSpec:
    """A data disk to make; or `volume` to use one that is in the pool already."""

    size: int = 64 * MIB
    format: ImageFormat = "qcow2"
    cluster_size: int = 65536
    volume: Volume | None = None


@dataclass(frozen=True)
class VmIdentity:
    """What someone else has decided of a VM."""

    name: str
    uuid: str
    macs: tuple[str, ...]
    """At least one."""


class VmMaker:
    """Makes the VMs of one lab; their consoles, NVRAM and kernel lie in its folder."""

    def __init__(
        self, root: Path, pool: Pool, user: QemuUser, *, accelerator: str | None = None
    ) -> None:
        self.pool = pool
        self.made: list[CloudVm] = []
        self._root = root
        self._accelerator = accelerator
        self._numbers = itertools.count(3)
        self._image: GuestImage | None = None
        for folder in ("console", "nvram"):
            (root / folder).mkdir()
            os.chown(root / folder, user.uid, user.gid)

    def make(
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
        shape = self.shape(self._next(), boot=boot, options=tuple(options), uefi=uefi)
        return self.make_of(shape, volumes)

    def make_of(self, shape: MachineShape, disks: Mapping[str, Volume]) -> CloudVm:
        """A stopped VM that is wholly decided."""
        vm = CloudVm(shape, dict(disks), self.pool)
        self.made.append(vm)
        return vm

    def _next(self) -> VmIdentity:
        number = next(self._numbers)
        mac = f"06:00:00:00:{number // 256:02x}:{number % 256:02x}"
        return VmIdentity(f"i-2-{number}-VM", str(uuid.uuid4()), (mac,))

    def shape(
        self, who: VmIdentity, *, boot: Boot, options: tuple[str, ...] = (), uefi: bool = False
    ) -> MachineShape:
        """All but the disks."""
        image = self._boot_files() if boot == "guest" else None
        return MachineShape(
            name=who.name,
            uuid=who.uuid,
            mac=who.macs[0],
            more_macs=who.macs[1:],
            boot=boot,
            uefi=uefi,
            memory_mib=192 if boot == "guest" else 64,
            accelerator=self._domain_type(boot),
            cache_mode=self.pool.cache_mode,
            console=self._root / f"console/{who.name}.log",
            nvram=self._root / f"nvram/{who.uuid}.fd",
            kernel=image.kernel if image else None,
            initrd=image.initrd if image else None,
            options=options,
        )

    def _domain_type(self, boot: Boot) -> str:
        if boot != "guest":
            return "qemu"
        return self._accelerator or domain_type()

    def _boot_files(self) -> GuestImage:
        """Copies in the lab: QEMU's user cannot pass through a home folder to the cache."""
        if self._image is None:
            cached = guest_image()
            folder = self._root / "boot"
            folder.mkdir()
            self._image = GuestImage(
                kernel=Path(shutil.copy(cached.kernel, folder)),
                initrd=Path(shutil.copy(cached.initrd, folder)),
            )
        return self._image
