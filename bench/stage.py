"""The stage: one private host with one machine, and everybody's way to its disks.

The machine has no operating system and is paused, so its disks change only when
the bench says so, and every contestant reads the very same bytes.  Disks::

    vda   the root disk, which no measurement uses
    vdb   incompressible data throughout
    vdc   large and nearly empty
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import libvirt

from bench.timing import BenchFailed, Cost, run_timed
from sendense.model.export import DiskExport
from sendense.model.survey import is_own
from sendense_lab import CloudVm, DiskSpec, Lab
from sendense_lab.pool import MIB

GRANULE = 65536
DATA, SPARSE = "vdb", "vdc"
SENDENSE = Path(sys.executable).with_name("sendense")


@dataclass(frozen=True)
class Plan:
    """How much is measured, and how often."""

    data: int = 2048 * MIB
    """Bytes of the data disk."""
    sparse: int = 65536 * MIB
    """Virtual bytes of the sparse disk."""
    sparse_data: int = 256 * MIB
    """What it holds, in pieces of 4 MiB."""
    rounds: int = 5
    freezes: int = 10


QUICK = Plan(data=64 * MIB, sparse=1024 * MIB, sparse_data=16 * MIB, rounds=1, freezes=1)
"""Only shows that everything runs: at this size the starting of programs is all that is seen."""


class Stage:
    """The host, its machine, and our command line set up for it."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        """Start the host and the machine, and fill the disks."""
        self.lab = lab
        self.plan = plan
        self.host = lab.add_hypervisor()
        self.folder = lab.root / "bench"
        self.folder.mkdir()

    @cached_property
    def vm(self) -> CloudVm:
        """The paused machine, with its data."""
        disks = [DiskSpec(self.plan.data), DiskSpec(self.plan.sparse)]
        vm = self.lab.create_vm(disks=disks)
        vm.random_fill(DATA, 0, self.plan.data, seed=7)
        piece = 4 * MIB
        count = self.plan.sparse_data // piece
        for number in range(count):
            at = self.plan.sparse // count * number // GRANULE * GRANULE
            vm.random_fill(SPARSE, at, piece, seed=number)
        vm.start(self.host)
        return vm

    # -- our command line --------------------------------------------------------------------

    @cached_property
    def environment(self) -> dict[str, str]:
        """What our command line needs to know; nothing of this machine's own settings counts."""
        settings = self.folder / "settings.yaml"
        settings.write_text(f"uri: {self.host.uri}\nscratch_reserve: 16M\n")
        own = {key: value for key, value in os.environ.items() if not key.startswith("SENDENSE_")}
        return own | {
            "SENDENSE_CONFIG": str(settings),
            "SENDENSE_SOCKET_DIR": str(self.host.run_dir),
            "SENDENSE_SCRATCH_DIR": str(self.host.run_dir),
            "SENDENSE_STATE_DIR": str(self.folder / "state"),
        }

    def sendense(self, *arguments: str | Path) -> tuple[Cost, dict[str, Any]]:
        """Run our command line; gives what it took and its JSON document."""
        done = run_timed([SENDENSE, *arguments, "--json"], environment=self.environment)
        return done.cost, json.loads(done.output)

    def backup_command(
        self, repository: Path, target: str, *, mode: str = "auto"
    ) -> list[str | Path]:
        """Give the arguments that back one disk of the machine up."""
        return ["backup", self.vm.name, "--repository", repository, "--include", target,
                "--mode", mode, "--consistency", "crash"]  # fmt: skip

    def backup(
        self, repository: Path, target: str, *, mode: str = "auto"
    ) -> tuple[Cost, dict[str, Any]]:
        """Back one disk up; gives what the whole command took, and the point."""
        cost, document = self.sendense(*self.backup_command(repository, target, mode=mode))
        point: dict[str, Any] = document["results"][0]["point"]
        if point["warnings"] or (mode != "auto" and point["mode"] != mode):
            raise BenchFailed(f"this is not the backup that was to be measured: {point}")
        return cost, point

    def new_repository(self, where: Path | None = None) -> Path:
        """Make an empty repository."""
        path = (where or self.folder) / "repository"
        self.sendense("repo", "init", f"qcow2:{path}")
        return path

    def layer(self, repository: Path, point: dict[str, Any], target: str) -> Path:
        """Give the plain file of a point's disk."""
        machine = repository / "machines" / self.vm.uuid
        return machine / str(point["id"]) / f"{target}.qcow2"

    # -- the machine's disks -----------------------------------------------------------------

    def change(self, seed: int, *, share: float) -> int:
        """Write to scattered granules of the data disk; gives the bytes that are dirty now."""
        granules = self.plan.data // GRANULE
        count = max(1, round(granules * share))
        chosen = random.Random(seed).sample(range(granules), count)
        for granule in chosen:
            self.vm.write(DATA, granule * GRANULE, GRANULE, 1 + seed % 255)
        return count * GRANULE

    @contextmanager
    def export(self, target: str) -> Iterator[DiskExport]:
        """Offer a disk as libvirt's own pull-mode backup job does, for tools that only copy."""
        socket, scratch = self.host.run_dir / "bench.sock", self.host.run_dir / "bench.scratch"
        disks = "".join(
            f"<disk name='{name}' backup='yes' type='file' exportname='{name}'>"
            f"<scratch file='{scratch}'/></disk>"
            if name == target
            else f"<disk name='{name}' backup='no'/>"
            for name in self.vm.disks
        )
        server = f"<server transport='unix' socket='{socket}'/>"
        job = f"<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>"
        self.vm.domain.backupBegin(job, None, 0)
        try:
            yield DiskExport(target, str(socket), target, self.vm.disks[target].size)
        finally:
            self.vm.domain.abortJob()

    def forget_checkpoints(self) -> None:
        """Take all checkpoints and their bitmaps away, so that everybody begins alike."""
        for checkpoint in self.vm.domain.listAllCheckpoints(0):
            checkpoint.delete(0)

    def hide_our_checkpoints(self) -> None:
        """Make libvirt forget our checkpoints, as a restart of the machine does.

        virtnbdbackup refuses to run beside checkpoints that are not its own; ours finds its
        bitmaps again.  (The time for that is counted in our runs.)
        """
        for checkpoint in self.vm.domain.listAllCheckpoints(0):
            if is_own(checkpoint.getName()):
                checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)

    def clear(self, *paths: Path) -> None:
        """Remove what a run made: memory is what these files live in."""
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def export_uri(export: DiskExport) -> str:
    """Give the URI of an export, for the tools of libnbd and QEMU."""
    return f"nbd+unix:///{export.name}?socket={export.socket}"
