"""A worker of the control plane under test: a repository, and the way to an agent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sendense import steps
from sendense.fleet.agent_client import AgentClient
from sendense.fleet.remote_host import CaptureTerms
from sendense.model.point import Consistency, RecoveryPoint
from sendense.repository.opening import create_repository, open_repository
from sendense.repository.protocol import Repository
from sendense.settings import Settings
from sendense.workflows.planning import BackupRequest
from sendense.workflows.remote_backup import (
    Attempt,
    RemoteBackupOptions,
    back_up_remotely,
    settle,
)
from sendense_lab.cloud_vm import CloudVm
from tests.vm.agent_site import AgentSite
from tests.vm.site import ACCESS, COMPRESSED

CRASH = BackupRequest(consistency=Consistency.CRASH)


@dataclass
class Worker:
    """What a worker has: a repository, and the way to an agent."""

    agent: AgentSite
    url: str
    opened: ExitStack
    number: int = 0

    def repository(self) -> Repository:
        """Open the repository once more; it is closed at the end at the latest."""
        repository = open_repository(self.url, ACCESS)
        self.opened.callback(repository.close)
        return repository

    def client(self) -> AgentClient:
        return AgentClient(self.agent.address)

    def back_up(
        self,
        vm: CloudVm,
        request: BackupRequest = CRASH,
        *,
        domain_xml: str | None = None,
        attachments: Mapping[str, bytes] | None = None,
        warnings: tuple[str, ...] = (),
        **terms,
    ) -> RecoveryPoint:
        """Back a machine up, as a job does."""
        self.number += 1
        work = CaptureTerms(f"{os.getpid()}-{self.number}", **terms)
        options = RemoteBackupOptions(
            work,
            self.remember,
            domain_xml=domain_xml,
            attachments=attachments or {},
            warnings=warnings,
        )
        repository = self.repository()
        try:
            with self.client() as client:
                result = back_up_remotely(client, vm.uuid, repository, Settings(), request, options)
        finally:
            repository.close()
        assert result.point is not None
        return result.point

    @property
    def notes(self) -> Path:
        return self.agent.folder / "attempt"

    def remember(self, attempt: Attempt) -> None:
        self.notes.write_text(f"{attempt.work}\n{attempt.machine}\n{attempt.point}")

    def remembered(self) -> Attempt:
        return Attempt(*self.notes.read_text().splitlines())

    def settle(self) -> RecoveryPoint | None:
        with self.client() as client:
            return settle(client, self.repository(), self.remembered())

    def check(self, vm: CloudVm, point: RecoveryPoint, expected: dict[str, bytes]) -> None:
        """Hold what a point restores against what the disks held."""
        with self.repository().open(point.id) as reader:
            for image in point.disks:
                target = image.disk.target
                content = b"".join(
                    bytes(chunk.data) if chunk.data is not None else bytes(chunk.length)
                    for chunk in reader.disk(image.disk.identity).chunks()
                )
                assert content == expected[target], target


@contextmanager
def new_worker(agent: AgentSite) -> Iterator[Worker]:
    """Give a worker with a new repository, for a ``with`` block."""
    url = f"dedup:{agent.folder / 'repository'}"
    create_repository(url, COMPRESSED, ACCESS).close()
    with ExitStack() as opened:
        yield Worker(agent, url, opened)


def contents(vm: CloudVm) -> dict[str, bytes]:
    """Read the disks of a machine, which is destroyed for it."""
    vm.destroy()
    return on_disk(vm)


def on_disk(vm: CloudVm) -> dict[str, bytes]:
    """Read the disks of a machine that is off."""
    return {target: raw_of(volume.path) for target, volume in vm.disks.items()}


@contextmanager
def at_step(step: str, act: Callable[[], None]) -> Iterator[None]:
    """Have something happen when a run reaches a step."""
    steps.listen(lambda reached: act() if reached == step else None)
    try:
        yield
    finally:
        steps.unlisten()


def raw_of(path: Path) -> bytes:
    """Read a qcow2 image."""
    raw = path.with_name(f"{path.name}.raw")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()
