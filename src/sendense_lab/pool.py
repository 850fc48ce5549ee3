"""Primary storage: a folder of volumes, mounted at the same path on every host.

As on a CloudStack host the path is `<mount>/<pool uuid>/<volume uuid>` and a root volume is an
overlay on a template that many VMs share. The template holds a file system with files in it, so
that a backup which forgets the backing file restores a guest that cannot verify its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sendense_lab.commands import run
from sendense_lab.errors import LabError
from sendense_lab.guest_content import file_content
from sendense_lab.guest_image import cache_dir, locked

MIB = 1 << 20
ImageFormat = Literal["qcow2", "raw"]

TEMPLATE_SIZE = 256 * MIB
TEMPLATE_SEED = 1
TEMPLATE_FILES = 24
TEMPLATE_FILE_KIB = 256


@dataclass(frozen=True)
class Volume:
    """One image file of the pool."""

    id: str
    path: Path
    format: ImageFormat
    size: int

    @property
    def serial(self) -> str:
        """As CloudStack's `diskUuidToSerial` makes it: the key from a disk to its volume."""
        return self.id.replace("-", "")[:20]


class Pool:
    """The volumes of one lab."""

    def __init__(self, mounts: Path, *, link: Path | None = None) -> None:
        """Make the folder; with `link`, volumes are named by a link to it in that folder."""
        self.id = str(uuid.uuid4())
        self.folder = mounts / self.id
        self.folder.mkdir(parents=True)
        if link is not None:
            (link / self.id).symlink_to(self.folder)
            self.folder = link / self.id
        self._template: Volume | None = None

    @property
    def cache_mode(self) -> str:
        """CloudStack's `none`, unless the file system cannot open files directly (tmpfs)."""
        probe = self.folder / ".direct"
        probe.touch()
        try:
            os.close(os.open(probe, os.O_RDWR | os.O_DIRECT))
        except OSError:
            return "writeback"
        finally:
            probe.unlink()
        return "none"

    @property
    def template(self) -> Volume:
        """The shared template, put into the pool when first asked for."""
        if self._template is None:
            identity = str(uuid.uuid4())
            path = self.folder / identity
            shutil.copy(_cached_template(), path)
            path.chmod(0o644)
            self._template = Volume(identity, path, "qcow2", TEMPLATE_SIZE)
        return self._template

    def create(
        self,
        size: int,
        *,
        format: ImageFormat = "qcow2",  # noqa: A002 - the word of qemu-img
        cluster_size: int = 65536,
        backing: Volume | None = None,
        name: str = "",
    ) -> Volume:
        """A new volume, empty or an overlay; its name is chosen if none is given."""
        identity = name or str(uuid.uuid4())
        path = self.folder / identity
        argv: list[str | Path] = ["qemu-img", "create", "-q", "-f", format]
        if format == "qcow2":
            argv += ["-o", f"cluster_size={cluster_size}"]
        if backing is not None:
            argv += ["-b", backing.path, "-F", backing.format]
        run([*argv, path, str(size)])
        return Volume(identity, path, format, size)

    def adopt(self, path: Path) -> Volume:
        """A volume made by someone else, a restored image for example; it must lie in the pool."""
        if path.parent != self.folder:
            raise LabError(f"{path} is not in the pool {self.folder}")
        info = json.loads(run(["qemu-img", "info", "-U", "--output=json", path]))
        return Volume(path.name, path, info["format"], info["virtual-size"])

    def remove(self, volume: Volume) -> None:
        volume.path.unlink()


def _cached_template() -> Path:
    recipe = f"{Path(__file__).read_text()}{file_content(TEMPLATE_SEED, 1, 4)!r}"
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    entry = cache_dir() / f"template-{digest}.qcow2"
    with locked(cache_dir() / "build.lock"):
        if not entry.exists():
            _build_template(entry)
    return entry


def _build_template(entry: Path) -> None:
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix="building-") as name:
        work = Path(name)
        content = work / "content"
        content.mkdir()
        sums = []
        for number in range(1, TEMPLATE_FILES + 1):
            data = file_content(TEMPLATE_SEED, number, TEMPLATE_FILE_KIB)
            file_name = f"template-{number}"
            (content / file_name).write_bytes(data)
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {file_name}\n")
        (content / "SUMS").write_text("".join(sums))
        raw = work / "template.raw"
        # Nothing left for the kernel to do later: an idle guest shall not write.
        made = ["-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
        run(["/sbin/mke2fs", "-q", *made, "-d", content, raw, f"{TEMPLATE_SIZE // MIB}M"])
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, work / "template.qcow2"])
        (work / "template.qcow2").rename(entry)
