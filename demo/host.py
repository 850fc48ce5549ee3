"""The main job, shown on real machines: back up, lose the disks, restore, prove.

Two CloudStack-shaped guests run and write on a private host. Every step runs
the ``sendense`` command line as an operator would; what it prints is what
happened. Any difference between what was lost and what came back ends the demo
with an error.

The repository is a dedup repository; ``--repo qcow2`` takes plain QCOW2 files, and
``--repo URL`` any place, a bucket for example.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import secrets
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from demo.telling import WIDTH, Telling, once
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import domain_xml
from sendense_lab.guest_agent import Guest
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import DiskSpec, Lab, temporary_lab
from sendense_lab.pool import MIB

KINDS = ("dedup", "qcow2")


class Demo(Telling):
    """One telling of the story."""

    def __init__(self, lab: Lab, console: Console, repository: str) -> None:
        super().__init__(console, lab.root)
        self.lab = lab
        self.repository = repository
        if repository in KINDS:
            self.repository = f"{repository}:{lab.root / 'repository'}"
        self.restored = lab.root
        self.lost = ""

    def tell(self) -> None:
        """Run every scene; raise where one does not hold."""
        self.scene("Two machines of a CloudStack host, running and writing")
        host = self.lab.add_hypervisor()
        machines = [self.start_guest(host, seed=number) for number in (1, 2)]
        self.prepare(host)
        sheet = [] if self.plain else ["--recovery-sheet", str(self.lab.root / "sheet.txt")]
        self.sendense("repo", "init", *sheet, self.repository)
        self.sendense("vm", "list")

        self.scene("A full backup of both, with the guests frozen for an instant")
        self.sendense("backup", "--all")
        for number in (1, 2):
            for machine in machines:
                machine.guest.rewrite_files("vdb", count=3, seed=20 + number)
            self.scene(f"Incremental backup {number}: only what changed is read")
            self.sendense("backup", "--all")
        lost = machines[0]
        self.lost = lost.name
        self.scene(f"Power cut: {lost.name} is off. One more incremental, from its images")
        lost.destroy()
        definition = self.lab.root / f"{lost.name}.xml"
        definition.write_text(domain_xml(lost.shape, lost.disks))
        self.sendense("backup", "--xml", str(definition))
        self.sendense("points", "list")

        self.scene("The storage is lost: its disks are destroyed")
        truth = self.destroy_disks(lost)
        self.scene("Restore of the last point, every block checked against its hash")
        restored = self.restore(lost)
        self.compare(truth, restored)
        self.scene("The restored machine boots, and checks its files from inside")
        self.boot_restored(host)
        self.scene("All points verify, every byte; what they take")
        self.sendense("verify", "--all")
        self.sendense("repo", "stats", "--points")
        self.say(f"[bold green]The demo holds.[/] {self.seconds:.0f} s in all.")

    # -- scenes ----------------------------------------------------------------------

    def start_guest(self, host: Hypervisor, *, seed: int) -> CloudVm:
        """Start a guest with files on its disks and a workload that goes on."""
        vm = self.lab.create_vm(
            boot="guest", disks=[DiskSpec(size=128 * MIB), DiskSpec(size=96 * MIB)]
        )
        vm.start(host)
        vm.guest.wait_ready(timeout_s=120)
        vm.guest.write_files("vdb", count=24, kib=1024, seed=seed)
        vm.guest.start_churn("vdc", kib=128, pause_s=1)
        return vm

    def prepare(self, host: Hypervisor) -> None:
        """Set what the command line needs to know, as a settings file would."""
        self.environment |= {
            "SENDENSE_URI": host.uri,
            "SENDENSE_REPOSITORY": self.repository,
            "SENDENSE_PASSPHRASE_FILE": str(
                self.secret("passphrase", f"{secrets.token_hex(16)}\n")
            ),
            "SENDENSE_CACHE_DIR": str(self.lab.root / "cache"),
            "SENDENSE_SOCKET_DIR": str(host.run_dir),
            "SENDENSE_SCRATCH_DIR": str(host.run_dir),
            "SENDENSE_SCRATCH_RESERVE": "64M",
            "SENDENSE_STATE_DIR": str(self.lab.root / "state"),
        }

    @property
    def plain(self) -> bool:
        """Tell whether the repository is one of plain files."""
        return self.repository.startswith("qcow2:")

    def destroy_disks(self, vm: CloudVm) -> dict[str, Path]:
        """Copy the disks aside as raw truth, then destroy them."""
        truth = {}
        for target, volume in vm.disks.items():
            truth[target] = vm.read_disk(target, self.lab.root / f"truth-{target}.raw")
            volume.path.write_bytes(os.urandom(1 * MIB))
            self.say(f"  {target} {volume.path.name}: overwritten with noise")
        return truth

    def restore(self, vm: CloudVm) -> dict[str, Path]:
        """Restore the last point to new files; gives them by target."""
        self.restored = self.lab.pool.folder / "restored"
        self.sendense("restore", f"latest:{vm.name}", "--output", str(self.restored))
        return {path.stem: path for path in self.restored.glob("*.qcow2")}

    def compare(self, truth: dict[str, Path], restored: dict[str, Path]) -> None:
        """Compare byte for byte what was lost with what came back."""
        for target, path in restored.items():
            raw = self.lab.root / "restored.raw"
            convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(raw)]
            subprocess.run(convert, check=True)
            if not filecmp.cmp(truth[target], raw, shallow=False):
                raise SystemExit(f"{target} is not what was lost")
            self.say(f"  {target}: {raw.stat().st_size} bytes, identical")
            raw.unlink()
        if set(restored) != set(truth):
            raise SystemExit(f"restored {sorted(restored)}, lost {sorted(truth)}")

    def boot_restored(self, host: Hypervisor) -> None:
        """Boot the machine from the XML that the restore wrote, and have it check its files."""
        host.connection.createXML((self.restored / "domain.xml").read_text(), 0)
        guest = Guest(lambda: host.connection.lookupByName(self.lost))
        guest.wait_ready(timeout_s=120)
        self.say(guest.verify_files().strip())


def main() -> int:
    """Tell the story once."""
    parser = argparse.ArgumentParser(description="Back up, lose, restore and prove.")
    parser.add_argument(
        "--repo", default="dedup", metavar="KIND", help="dedup (default), qcow2, or a URL"
    )
    chosen = parser.parse_args()
    console = Console(width=WIDTH)
    with once(console), temporary_lab(name="demo") as lab:
        Demo(lab, console, chosen.repo).tell()
    return 0


if __name__ == "__main__":
    sys.exit(main())
