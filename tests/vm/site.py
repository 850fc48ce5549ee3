"""A site under test: one lab host, one repository, and an oracle that never lies.

While a capture holds its exports open, the oracle copies them with ``nbdcopy``,
which knows nothing of us.  A point is right when what it restores equals that
copy, byte for byte.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from sendense import steps
from sendense.capture.bitmaps import query_images
from sendense.capture.checkpoints import own_names
from sendense.capture.host import Host
from sendense.capture.images import image_chain
from sendense.capture.journal import stale_machines
from sendense.model.point import Consistency, RecoveryPoint
from sendense.model.survey import is_own
from sendense.repository.opening import (
    Access,
    RepositorySettings,
    create_repository,
    open_repository,
)
from sendense.repository.protocol import Repository, VerifyLevel
from sendense.settings import Settings
from sendense.workflows.backup import Backup, BackupResult
from sendense.workflows.planning import BackupRequest
from sendense.workflows.sources import LocalSource
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import domain_xml
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import Lab
from tests.support.dedup import PASSPHRASE

ACCESS = Access(secret=lambda _new: PASSPHRASE)
COMPRESSED = RepositorySettings(compression_level=3)


def opener(location: str) -> Repository:
    """Open a repository as a journal names it."""
    return open_repository(location, ACCESS)


def first_difference(left: Path, right: Path) -> int:
    """Give the offset of the first 64 KiB that differ, or where the shorter one ends."""
    block = 1 << 16
    with left.open("rb") as one, right.open("rb") as other:
        offset = 0
        while (data := one.read(block)) == other.read(block) and data:
            offset += block
    return offset


class Site:
    """Backups of lab machines into one repository, each point with its oracle."""

    def __init__(self, lab: Lab, hypervisor: Hypervisor, kind: str, opened: ExitStack) -> None:
        self.lab = lab
        self.hypervisor = hypervisor
        self.kind = kind
        self.folder = lab.root / "site"
        self.folder.mkdir(exist_ok=True)
        self.settings = Settings(
            uri=hypervisor.uri,
            state_dir=self.folder / "state",
            socket_dir=hypervisor.run_dir,
            scratch_dir=hypervisor.run_dir,
            scratch_reserve=1 << 20,
            agent_timeout=5,
        )
        self._opened = opened
        self.repository = self.repository_at(self.folder / f"repository-{kind}")
        self.oracle = self.folder / "oracle"

    @classmethod
    @contextmanager
    def of(cls, lab: Lab, hypervisor: Hypervisor, kind: str = "qcow2") -> Iterator[Site]:
        """Give a site for a ``with`` block; its repositories are closed at the end."""
        with ExitStack() as opened:
            yield cls(lab, hypervisor, kind, opened)

    def again(self) -> Site:
        """Give the same site, whose repository is opened once more."""
        return self.on(self.hypervisor)

    def with_settings(self, **changes: object) -> Site:
        """Give the same site with other settings."""
        other = self.again()
        other.settings = self.settings.model_copy(update=changes)
        return other

    def on(self, hypervisor: Hypervisor) -> Site:
        """Give the same site, and its repository, on another host."""
        return Site(self.lab, hypervisor, self.kind, self._opened)

    def repository_at(self, location: Path) -> Repository:
        """Open a repository of the site's kind, or make it; it stays open as long as the site."""
        url = f"{self.kind}:{location}"
        if location.exists():
            repository = open_repository(url, ACCESS)
        else:
            repository = create_repository(url, COMPRESSED, ACCESS)
        self._opened.callback(repository.close)
        return repository

    # -- doing -----------------------------------------------------------------------

    def backup(
        self, vm: CloudVm, request: BackupRequest | None = None, *, oracle: bool = True
    ) -> RecoveryPoint:
        """Back a machine up; the point must come out."""
        result = self.run(vm, request, oracle=oracle)
        assert result.point is not None
        return result.point

    def run(
        self, vm: CloudVm, request: BackupRequest | None = None, *, oracle: bool = True
    ) -> BackupResult:
        """Back a machine up, whatever comes out; the frozen exports are copied aside."""
        request = request or BackupRequest(consistency=Consistency.CRASH)
        with Host(self.settings.host()) as host, self._oracle(enabled=oracle):
            machine = host.find(vm.uuid) if vm.running else host.from_xml(self.xml_file(vm))
            source = LocalSource(host, self.settings, opener)
            backup = Backup(source, self.repository, self.settings, request)
            result = backup.run(machine)
        if oracle and result.point is not None:
            (self.oracle / "next").rename(self.oracle / result.point.id)
        return result

    def xml_file(self, vm: CloudVm) -> Path:
        """Write the XML of a stopped machine, as an operator would keep it."""
        path = self.folder / f"{vm.name}.xml"
        path.write_text(domain_xml(vm.shape, vm.disks))
        return path

    @contextmanager
    def _oracle(self, *, enabled: bool) -> Iterator[None]:
        def copy(step: str) -> None:
            if step == "disks-stored":
                self._copy_exports(self.oracle / "next")

        if enabled:
            steps.listen(copy)
        try:
            yield
        finally:
            if enabled:
                steps.unlisten()

    def _copy_exports(self, into: Path) -> None:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for socket in Path(self.settings.socket_dir).glob("*.sock"):
            uri = f"nbd+unix:///?socket={socket}"
            listing = subprocess.run(
                ["nbdinfo", "--list", "--json", uri], check=True, capture_output=True, text=True
            )
            for export in json.loads(listing.stdout)["exports"]:
                name = export["export-name"]
                source = f"nbd+unix:///{name}?socket={socket}"
                subprocess.run(["nbdcopy", source, str(into / f"{name}.raw")], check=True)

    def doomed(
        self,
        vm: CloudVm,
        step: str,
        number: int = signal.SIGKILL,
        consistency: Consistency = Consistency.CRASH,
    ) -> subprocess.CompletedProcess[str]:
        """Run a backup in a process that gets a signal when it reaches ``step``."""
        name = vm.uuid if vm.running else str(self.xml_file(vm))
        command = [
            sys.executable, "-m", "tests.vm.doomed", step, str(int(number)),
            self.settings.model_dump_json(), f"{self.kind}:{self.repository.location}", name,
            consistency.value,
        ]  # fmt: skip
        root = Path(__file__).parents[2]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=240, cwd=root
        )

    # -- proving ---------------------------------------------------------------------

    def check_point(self, point: RecoveryPoint) -> None:
        """Hold what a point restores against its oracle, by our reader and by qemu-img."""
        for image in point.disks:
            truth = self.oracle / point.id / f"{image.disk.target}.raw"
            mine = self.folder / "restored.raw"
            self.read_disk(point, image.disk.identity, mine)
            assert filecmp.cmp(truth, mine, shallow=False), (
                f"{image.disk.target} of {point.id} is not what was frozen, "
                f"from {first_difference(truth, mine)} on ({image.decision})"
            )
            mine.unlink()
            if self.kind != "qcow2":
                continue
            stored = self.layer(point, image.disk.target)
            compared = subprocess.run(
                ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(stored), str(truth)],
                check=False,
                capture_output=True,
                text=True,
            )
            assert compared.returncode == 0, compared.stdout

    def read_disk(self, point: RecoveryPoint, identity: str, into: Path) -> None:
        """Write what our reader gives for a disk to a raw file."""
        with self.repository.open(point.id) as reader, into.open("wb") as file:
            disk = reader.disk(identity)
            file.truncate(disk.image.size)
            for chunk in disk.chunks():
                if chunk.data is not None:
                    file.seek(chunk.offset)
                    file.write(chunk.data)

    def layer(self, point: RecoveryPoint, target: str) -> Path:
        """Give the plain file of a point's disk."""
        folder = Path(self.repository.location) / "machines" / point.machine.uuid / point.id
        return folder / f"{target}.qcow2"

    def check_all(self, vm: CloudVm) -> None:
        """Prove every point of a machine that has an oracle."""
        points = self.repository.points(vm.uuid)
        assert points
        for point in points:
            if (self.oracle / point.id).exists():
                self.check_point(point)

    def verify_all(self, vm: CloudVm) -> None:
        """Have the repository verify every byte of a machine's points."""
        for point in self.repository.points(vm.uuid):
            assert self.repository.verify(point.id, VerifyLevel.DATA).sound

    def own_marks(self, vm: CloudVm) -> set[str]:
        """List our checkpoints and bitmaps on a machine, running or stopped."""
        if vm.running:
            return set(own_names(vm.domain))
        found: set[str] = set()
        for volume in vm.disks.values():
            if volume.format == "qcow2":
                bitmaps = image_chain(str(volume.path), "qcow2")[0].bitmaps
                found |= {item.name for item in bitmaps if is_own(item.name)}
        return found

    def check_clean(self, vm: CloudVm) -> None:
        """Prove that nothing of ours is left on the host but the last point's checkpoint."""
        points = self.repository.points(vm.uuid)
        last = {points[-1].checkpoint} if points else set()
        assert self.own_marks(vm) <= last
        assert stale_machines(self.settings.state_dir) == ()
        assert list(Path(self.settings.socket_dir).glob("*.sock")) == []
        assert list(Path(self.settings.scratch_dir).glob("*.qcow2")) == []
        if vm.running:
            assert vm.domain.jobStats().get("type", 0) == 0
            for image in query_images(vm.domain).values():
                assert not any(bitmap.inconsistent for bitmap in image.bitmaps)


def crash(**changes: object) -> BackupRequest:
    """Give a crash-consistent request."""
    return replace(BackupRequest(consistency=Consistency.CRASH), **changes)  # type: ignore[arg-type]
