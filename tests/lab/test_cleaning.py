"""A lab leaves nothing behind: not after an error, not after its process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sendense_lab import CloudVm, Hypervisor, Lab, LabError, journal, temporary_lab
from sendense_lab.processes import PROC, living_in

pytestmark = pytest.mark.vm

ABANDONED = """
import sys, time
from pathlib import Path
from sendense_lab import Lab
with Lab(Path(sys.argv[1]), name="abandoned") as lab:
    vm = lab.create_vm()
    vm.start(lab.add_hypervisor())
    print("ready", flush=True)
    time.sleep(600)
"""


def traces_of(root: Path) -> list[str]:
    """Everything on the machine that still mentions a lab's folder."""
    found = [entry.root for entry in journal.entries() if entry.root == str(root)]
    found += [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(root) in line
    ]
    for process in PROC.glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if str(root) in command:
            found.append(command)
    return [*found, *([str(root)] if root.exists() else [])]


class Broken(Exception):
    pass


def test_an_error_ends_everything():
    seen: list[Path] = []

    def break_it(lab: Lab) -> None:
        host = lab.add_hypervisor()
        vm = lab.create_vm()
        vm.start(host)
        seen.append(lab.root)
        # libvirtd is dead when the end comes: QEMU must be found all the same.
        host.kill()
        assert len(living_in(host.folder / "run")) > 0
        raise Broken

    with pytest.raises(Broken), temporary_lab() as lab:
        break_it(lab)
    assert traces_of(seen[0]) == []


def test_a_killed_lab_is_swept(tmp_path: Path):
    root = Path(f"/dev/shm/sl-abandoned-{os.getpid()}")
    script = tmp_path / "abandoned.py"
    script.write_text(ABANDONED)
    source = str(Path(journal.__file__).parents[1])
    owner = subprocess.Popen(
        [sys.executable, str(script), str(root)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        owner.send_signal(signal.SIGKILL)
    assert len(living_in(root / "h1/run")) >= 3
    done = subprocess.run(
        [sys.executable, "-m", "sendense_lab", "down"],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"ended abandoned in {root}" in done.stdout
    assert traces_of(root) == []


def test_sweeping_spares_the_labs_of_living_processes(exact: CloudVm, host: Hypervisor):
    journal.sweep()
    assert exact.running
    assert host.pid


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path):
    (tmp_path / "precious").touch()
    with pytest.raises(LabError, match="not empty"), Lab(tmp_path):
        pass
    assert (tmp_path / "precious").exists()


def test_the_machines_own_folders_stay_empty(exact: CloudVm):
    # Unless a libvirtd of the machine's own uses them.
    if not Path("/run/libvirtd.pid").exists():
        assert list(Path("/run/libvirt").glob("**/*VM*")) == []
        assert not Path("/run/libvirt/libvirt-sock").exists()
