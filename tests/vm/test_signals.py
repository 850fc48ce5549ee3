"""Signals at every step of the real command line, also impatient ones, and kills while undoing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import libvirt
import pytest

from sendense.model.decision import Mode
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.lab import DiskSpec
from tests.vm.site import Site
from tests.vm.test_commands import Shell
from tests.vm.test_faults import STEPS, check_next_is_right

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB
COMMITTED = STEPS.index("point-committed")


@pytest.fixture(scope="module")
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.start(site.hypervisor, paused=False)
    vm.random_fill("vdb", 0, 16 * MIB, 1)
    site.backup(vm)
    return vm


def signalled(
    site: Site, step: str, signals: str, *words: str, gap_s: float = 0.01
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run the command line so; gives also the seconds it took."""
    command = [sys.executable, "-m", "tests.vm.signalled", step, signals, str(gap_s), *words]
    began = time.monotonic()
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=Shell(site).environment,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    return done, time.monotonic() - began


@pytest.mark.parametrize("signals", ["SIGTERM", "SIGINT,SIGINT,SIGTERM,SIGHUP"])
@pytest.mark.parametrize("step", STEPS)
def test_signal_at_a_step(site: Site, vm: CloudVm, step: str, signals: str) -> None:
    before = len(site.repository.points(vm.uuid))
    # At 256 KiB/s the copy alone takes a minute: a signal that is not obeyed shows.
    words: tuple[str, ...] = ("backup", vm.name, "--mode", "full")
    if STEPS.index(step) < STEPS.index("disks-stored"):
        words = (*words, "--bandwidth-limit", "256K")
    done, seconds = signalled(site, step, signals, *words)
    made = len(site.repository.points(vm.uuid)) - before
    if STEPS.index(step) < COMMITTED:
        assert (done.returncode, made) == (130, 0), done.stderr
    else:
        # The point was committed, and the program says so.
        assert (done.returncode, made) == (0, 1), done.stderr
    assert seconds < 40
    assert "Traceback" not in done.stderr
    site.check_clean(vm)
    assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_signal_at_the_end_of_one_machine_stops_before_the_next(site: Site, vm: CloudVm) -> None:
    other = site.lab.create_vm(disks=[])
    other.start(site.hypervisor)
    done, _ = signalled(site, "point-committed", "SIGTERM", "backup", vm.name, other.name)
    assert done.returncode == 130, done.stderr
    assert site.repository.points(other.uuid) == ()
    site.check_clean(vm)
    other.destroy()


@pytest.mark.parametrize(
    ("step", "gap_s"),
    [("job-begun", 0.002), ("thawed", 0.005), ("thawed", 0.01), ("thawed", 0.03)],
)
def test_killed_while_taking_back(site: Site, vm: CloudVm, step: str, gap_s: float) -> None:
    vm.write("vdb", 17 * MIB, 64 * KIB, 7)
    signals = "SIGTERM,SIGKILL"
    done, _ = signalled(site, step, signals, "backup", vm.name, gap_s=gap_s)
    assert done.returncode in {-signal.SIGKILL, 130}
    check_next_is_right(site, vm)
    assert site.repository.points(vm.uuid)[-1].mode is Mode.INCREMENTAL


def test_folders_that_cannot_hold_a_socket(site: Site, vm: CloudVm) -> None:
    closed = site.folder / "closed"
    closed.mkdir(mode=0o700)
    before = site.own_marks(vm), site.repository.points(vm.uuid)
    for folder, code, told in (
        (site.folder / "missing", 10, "does not exist"),
        (site.folder / ("x" * 90), 2, "longer than 107 bytes"),
        (closed, 10, "Permission denied"),
    ):
        if folder.name.startswith("x"):
            folder.mkdir()
        shell = Shell(site)
        shell.environment["SENDENSE_SOCKET_DIR"] = str(folder)
        error = shell.refused(code, "backup", vm.name)
        assert told in error["message"]
        assert error["hint"]
        assert (site.own_marks(vm), site.repository.points(vm.uuid)) == before
        site.check_clean(vm)
    assert list(closed.iterdir()) == []


def test_two_processes_at_once(site: Site, vm: CloudVm) -> None:
    shell = Shell(site)
    slow = shell.begin("backup", vm.name, "--mode", "full", "--bandwidth-limit", "128K")
    deadline = time.monotonic() + 120
    while not list(Path(site.settings.socket_dir).glob("*.sock")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    late = [shell.begin("backup", vm.name), shell.begin("release", vm.name)]
    repaired = shell.run("doctor", "--repair", "--json")
    for other in late:
        _, complaint = other.communicate(timeout=120)
        assert other.returncode == 4, complaint
        assert f"process {slow.pid}" in complaint
    assert "backup job ended" not in repaired.stdout
    slow.send_signal(signal.SIGTERM)
    assert slow.wait(timeout=120) == 130
    slow.communicate()
    site.check_clean(vm)
    check_next_is_right(site, vm)
