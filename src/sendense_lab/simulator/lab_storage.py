"""The pools of a simulated cloud as folders of the lab, and what is done to files in them.

How a file is found from what the API says, as on a KVM host of CloudStack:

- `NetworkFilesystem`: the pool's `path` is an export of a server and says nothing on a host; the
  host mounts it at `/mnt/<pool id>`. A cluster of the lab has its shared pool there on each host.
- `SharedMountPoint` and `Filesystem`: `path` is the folder itself.

Below that folder the file is named by the volume's `path`, most times its UUID. Only files are
touched here that no running machine has open; what runs is changed through libvirt elsewhere.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

import libvirt

from sendense_lab.commands import run
from sendense_lab.errors import CommandFailed, LabError
from sendense_lab.pool import ImageFormat, Pool, Volume
from sendense_lab.simulator.machines import (
    DiskSpec,
    FileFact,
    MachineError,
    PoolFact,
    TemplateFact,
)

NFS_EXPORT = "/export/primary"
TEMPLATE = "Lab guest"


@contextmanager
def answered() -> Iterator[None]:
    """Have a failure of the lab as the failed answer of an agent."""
    try:
        yield
    except (LabError, libvirt.libvirtError, OSError, TimeoutExpired) as error:
        raise MachineError(str(error)) from error


@dataclass(frozen=True)
class LabPool:
    """A pool as the API shows it, and its folder."""

    fact: PoolFact
    pool: Pool

    def volume(self, disk: DiskSpec) -> Volume:
        """A disk's file; its identity, and so its serial, is the volume's, whatever its name."""
        return Volume(disk.volume_id, self.file(disk.path), _known(disk.format), disk.size)

    def file(self, path: str) -> Path:
        if Path(path).name != path:
            raise MachineError(f"{path} is no name of a file in pool {self.fact.name}")
        return self.pool.folder / path


class LabStorage:
    """All pools of a cloud."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pools: dict[str, LabPool] = {}
        self._template_lock = threading.Lock()

    def add(self, pool: Pool, kind: str, *, name: str, host: str = "") -> PoolFact:
        """Show a folder of volumes as a pool."""
        path = NFS_EXPORT if kind == "NetworkFilesystem" else str(pool.folder)
        if kind == "NetworkFilesystem" and pool.folder != Path("/mnt") / pool.id:
            raise LabError(f"{pool.folder} is not where a host mounts the export {pool.id}")
        fact = PoolFact(pool.id, name, kind, path, host)
        self._pools[pool.id] = LabPool(fact, pool)
        return fact

    def facts(self) -> list[PoolFact]:
        return [pool.fact for pool in self._pools.values()]

    def templates(self) -> list[TemplateFact]:
        first = next(iter(self._pools.values()))
        return [TemplateFact(TEMPLATE, self._template(first).size)]

    def pool(self, identity: str) -> LabPool:
        if identity not in self._pools:
            raise MachineError(f"there is no pool {identity}")
        return self._pools[identity]

    def volume(self, disk: DiskSpec) -> Volume:
        return self.pool(disk.pool_id).volume(disk)

    def create(self, pool: str, path: str, size: int, template: str) -> int:
        """A new file: empty, or an overlay on the template of the same pool."""
        place = self.pool(pool)
        if place.file(path).exists():
            raise MachineError(f"{path} is in pool {place.fact.name} already")
        if template not in ("", TEMPLATE):
            raise MachineError(f"there is no template {template}")
        backing = self._template(place) if template else None
        if backing is not None:
            size = max(size, backing.size)
        return place.pool.create(size, backing=backing, name=path).size

    def delete(self, pool: str, path: str) -> None:
        self.pool(pool).file(path).unlink(missing_ok=True)

    def files(self, pool: str) -> list[FileFact]:
        """All images of a pool but the template, which CloudStack leaves out as well."""
        place = self.pool(pool)
        left_out = self._template(place).path.name
        names = sorted(path.name for path in place.pool.folder.iterdir())
        looked = [look(place.file(name)) for name in names if name != left_out and name[0] != "."]
        return [fact for fact in looked if fact is not None]

    def resize(self, volume: Volume, size: int) -> None:
        """Of a file that is not in use."""
        shrink = ["--shrink"] if size < volume.size else []
        run(["qemu-img", "resize", "-q", *shrink, "-f", volume.format, volume.path, str(size)])

    def move(self, disk: DiskSpec, pool: str, path: str) -> None:
        """Copy to another pool, without a backing file and without bitmaps; remove the first."""
        source, target = self.volume(disk), self.pool(pool).file(path)
        if target.exists():
            raise MachineError(f"{path} is in pool {pool} already")
        copy(source.path, source.format, target)
        source.path.unlink()

    def _template(self, place: LabPool) -> Volume:
        """Put into the pool by the first that needs it, of several at once."""
        with self._template_lock:
            return place.pool.template

    def secondary(self, volume_id: str, name: str) -> Path:
        """Where the copy that a volume snapshot makes goes."""
        folder = self._root / "secondary/snapshots" / volume_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name


def copy(source: Path, kind: str, target: Path) -> None:
    """A whole standalone QCOW2 of what an image holds; it appears when it is complete."""
    draft = target.with_name(f".{target.name}.part")
    try:
        run(["qemu-img", "convert", "-f", kind, "-O", "qcow2", source, draft], timeout_s=600)
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)


def look(path: Path) -> FileFact | None:
    """What `qemu-img` says of a file, and whether someone writes to it; none if it is no image."""
    info = ["qemu-img", "info", "--output=json"]
    locked = False
    try:
        said = run([*info, path])
    except CommandFailed as error:
        locked = " lock" in error.stderr
        if not locked:
            return None
        said = run([*info, "-U", path])
    facts = json.loads(said)
    return FileFact(
        path=path.name,
        format=facts["format"],
        size=facts.get("actual-size", 0),
        virtual_size=facts["virtual-size"],
        backing=facts.get("backing-filename", ""),
        encrypted=bool(facts.get("encrypted")),
        locked=locked,
    )


def _known(name: str) -> ImageFormat:
    if name == "qcow2":
        return "qcow2"
    if name == "raw":
        return "raw"
    raise MachineError(f"the lab has no volumes of format {name}")
