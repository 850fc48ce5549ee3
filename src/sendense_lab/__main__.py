"""A lab to play with: `python -m sendense_lab up`, `status`, `down`.

`up` starts a host with two VMs that keep writing, and returns; everything stays until `down`.
`down` also sweeps labs whose test run was killed. It never touches the lab of a living process.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import libvirt

from sendense_lab import journal
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.errors import LabError
from sendense_lab.hypervisor import Hypervisor, uri_of
from sendense_lab.lab import DiskSpec, Lab
from sendense_lab.pool import MIB

DEFAULT_ROOT = Path("/dev/shm/sendense-lab")  # noqa: S108 - memory, and a short path


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # Errors arrive as exceptions; libvirt's binding would print each on stderr besides.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        if options.command == "up":
            up(options.root)
        elif options.command == "status":
            status()
        else:
            down()
    except LabError as error:
        print(f"sendense_lab: {error}", file=sys.stderr)
        return 1
    return 0


def up(root: Path) -> None:
    """Start the lab and leave it running."""
    if any(entry.root == str(root) for entry in journal.entries()):
        raise LabError(f"a lab is up in {root} already; `python -m sendense_lab down` ends it")
    with Lab(root, name="standing") as lab:
        host = lab.add_hypervisor()
        vms = [_writing_vm(lab, disks=1), _writing_vm(lab, disks=2)]
        for vm in vms:
            vm.start(host)
        for vm in vms:
            vm.guest.wait_ready()
        lab.detach()
    _explain(host, vms)


def status() -> None:
    """Say which labs there are and what runs in them."""
    entries = journal.entries()
    if not entries:
        print("no lab is up")
    for entry in entries:
        print(f"{entry.name} in {entry.root}: {_kept_by(entry)}")
        for folder in journal.hypervisor_folders(Path(entry.root)):
            print(f"  {folder.name}  {uri_of(folder)}")
            for line in _domains(uri_of(folder)):
                print(f"    {line}")


def down() -> None:
    """End the standing lab and all that were left behind."""
    ended = journal.sweep()
    for entry in journal.entries():
        if entry.owner is None:
            journal.take_down(entry)
            ended.append(entry)
    for entry in ended:
        print(f"ended {entry.name} in {entry.root}")


def _writing_vm(lab: Lab, *, disks: int) -> CloudVm:
    steps = "write:vda:4:256:2,write:vdb:16:256:1,churn:vdb:256:2"
    specs = [DiskSpec(size=256 * MIB), DiskSpec(size=128 * MIB, cluster_size=2 * MIB)]
    return lab.create_vm(boot="guest", disks=specs[:disks], options=[f"lab.run={steps}"])


def _explain(host: Hypervisor, vms: list[CloudVm]) -> None:
    first = vms[0].name
    print(f"URI: {host.uri}")
    for vm in vms:
        print(f"VM:  {vm.name}  {vm.uuid}  disks {', '.join(vm.disks)}")
    print("\nFor a backup of them:")
    print(f"  export SENDENSE_URI='{host.uri}'")
    print(f"  export SENDENSE_SOCKET_DIR={host.run_dir} SENDENSE_SCRATCH_DIR={host.run_dir}")
    print(f"  export SENDENSE_STATE_DIR={host.folder}/state SENDENSE_SCRATCH_RESERVE=64M")
    print(f"  export SENDENSE_REPOSITORY={host.folder}/repository")
    print("  export SENDENSE_PASSPHRASE='for this lab only'")
    print("  .venv/bin/sendense repo init $SENDENSE_REPOSITORY")
    print(f"  .venv/bin/sendense backup {first}")
    print("\nTry:")
    print(f"  virsh -c '{host.uri}' list")
    print(f"  virsh -c '{host.uri}' domblklist {first}")
    print(f"  virsh -c '{host.uri}' domfsinfo {first}")
    print(f"  tail -f {vms[0].console}")
    print("  python -m sendense_lab status")
    print("  python -m sendense_lab down")


def _kept_by(entry: journal.Entry) -> str:
    if entry.owner is None:
        return "stands until `down`"
    return "left behind" if entry.orphan else f"kept by process {entry.owner.pid}"


def _domains(uri: str) -> list[str]:
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        return [f"no answer: {error}"]
    return [f"{domain.name()}  {domain.UUIDString()}" for domain in connection.listAllDomains()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sendense_lab", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start a host with two VMs that keep writing")
    starting.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="folder of the lab")
    commands.add_parser("status", help="list labs and their VMs")
    commands.add_parser("down", help="end the standing lab and those left behind")
    return parser


if __name__ == "__main__":
    sys.exit(main())
