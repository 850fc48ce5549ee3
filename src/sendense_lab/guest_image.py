"""The guest: a kernel and an initial file system, built once from Debian packages.

Nothing is installed on the machine: packages are downloaded and unpacked into the cache. The
cache entry is named by a hash of everything that shapes it (this recipe and the guest's scripts),
so a changed script means a new image and two checkouts may share one cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sendense_lab import guest_content, initramfs
from sendense_lab.commands import run
from sendense_lab.errors import CommandFailed, LabError

KERNEL_PACKAGE = "linux-image-cloud-amd64"
AGENT_PACKAGE = "qemu-guest-agent"
# In loading order. ext4 is built into this kernel. `button` and `evdev` are for ACPI shutdown.
MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "button",
    "evdev",
)
HOST_PROGRAMS = ("/sbin/mke2fs", "/sbin/e2fsck", "/sbin/resize2fs")
BUSYBOX = Path("/bin/busybox")
GUEST_FILES = Path(__file__).parent / "guest_files"


@dataclass(frozen=True)
class GuestImage:
    """What `<kernel>` and `<initrd>` of a domain point at."""

    kernel: Path
    initrd: Path


def cache_dir() -> Path:
    """Where built things live between runs: outside of any checkout."""
    configured = os.environ.get("SENDENSE_LAB_CACHE")
    return Path(configured) if configured else Path.home() / ".cache/sendense-lab"


def guest_image() -> GuestImage:
    """The image of the present recipe, built if the cache lacks it (about 5 s)."""
    entry = cache_dir() / f"guest-{recipe_hash()}"
    image = GuestImage(kernel=entry / "vmlinuz", initrd=entry / "initramfs.cpio")
    with locked(cache_dir() / "build.lock"):
        if not entry.exists():
            _build(entry)
    return image


def recipe_hash() -> str:
    """Changes whenever the image would come out different."""
    digest = hashlib.sha256()
    sources = [Path(__file__), Path(initramfs.__file__), Path(guest_content.__file__)]
    for path in [*sources, *sorted(GUEST_FILES.iterdir())]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One builder at a time, also across processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(entry: Path) -> None:
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix="building-") as name:
        work = Path(name)
        packages = work / "packages"
        for package in (_kernel_package(), AGENT_PACKAGE):
            _unpack(package, work / "download", packages)
        made = work / "made"
        made.mkdir()
        shutil.copy(next((packages / "boot").glob("vmlinuz-*")), made / "vmlinuz")
        tree = _tree(work / "tree", packages)
        initramfs.pack(tree, made / "initramfs.cpio")
        # The rename is the commit: an entry that exists is whole.
        made.rename(entry)


def _kernel_package() -> str:
    listing = run(["apt-cache", "depends", KERNEL_PACKAGE])
    found = re.search(r"Depends: (linux-image-\S+)", listing)
    if not found:
        raise LabError(f"{KERNEL_PACKAGE} names no kernel, try `apt-get update`: {listing}")
    return found[1]


def _unpack(package: str, download: Path, into: Path) -> None:
    download.mkdir(exist_ok=True)
    try:
        run(["apt-get", "download", package], cwd=download)
    except CommandFailed:
        # Package lists older than the archive name files that are gone.
        run(["apt-get", "update"], timeout_s=300)
        run(["apt-get", "download", package], cwd=download, timeout_s=300)
    for deb in download.glob("*.deb"):
        run(["dpkg", "-x", deb, into])
        deb.unlink()


def _tree(tree: Path, packages: Path) -> Path:
    for folder in initramfs.FOLDERS:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    initramfs.copy_program(packages / "usr/sbin/qemu-ga", tree)
    for program in HOST_PROGRAMS:
        initramfs.copy_program(Path(program), tree, folder="sbin")
    shutil.copy("/etc/mke2fs.conf", tree / "etc/mke2fs.conf")
    _install_scripts(tree)
    initramfs.link_applets(BUSYBOX, tree)
    for module in MODULES:
        found = next((packages / "lib/modules").rglob(f"{module}.ko"))
        shutil.copy(found, tree / "lib/modules" / found.name)
    (tree / "lib/modules/order").write_text("\n".join(MODULES) + "\n")
    (tree / "lib/lab/pool").write_bytes(guest_content.pool())
    return tree


def _install_scripts(tree: Path) -> None:
    places = {"init": "init", "lab": "bin/lab", "shutdown": "sbin/shutdown"}
    for name, place in places.items():
        shutil.copy(GUEST_FILES / name, tree / place)
        (tree / place).chmod(0o755)
    # busybox acpid runs this file on the power button.
    power = tree / "etc/acpi/PWRF/00000080"
    power.parent.mkdir(parents=True)
    power.symlink_to("/sbin/shutdown")
