"""Whatever breaks: older points verify, the guest runs, nothing stays, the next run is right."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt
import pytest

from sendense import steps
from sendense.capture.host import Host
from sendense.errors import Busy, Cancelled, OutOfSpace, SendenseError
from sendense.model.decision import Mode, RequestedMode
from sendense.model.point import Consistency
from sendense.workflows.doctor import repair
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec, temporary_lab
from tests.vm.site import Site, crash, opener

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB

STEPS = (
    "checkpoints-prepared",
    "bitmaps-prepared",
    "frozen",
    "job-begun",
    "thawed",
    "disks-stored",
    "point-committed",
    "capture-committed",
    "job-ended",
    "superseded-dropped",
)


@pytest.fixture(scope="module")
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(size=32 * MIB)])
    vm.start(site.hypervisor, paused=False)
    vm.write("vdb", 0, 4 * MIB, 1)
    site.backup(vm)
    return vm


def check_next_is_right(site: Site, vm: CloudVm) -> None:
    """Prove that the next run is a correct one, that all points are, and that nothing is left."""
    point = site.backup(vm)
    site.check_point(point)
    site.check_all(vm)
    site.verify_all(vm)
    site.check_clean(vm)
    if vm.running:
        state, _ = vm.domain.state()
        assert state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_an_online_run(site: Site, vm: CloudVm, step: str) -> None:
    vm.write("vdb", STEPS.index(step) * 64 * KIB, 64 * KIB, 40 + STEPS.index(step))
    dead = site.doomed(vm, step)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    vm.write("vdb", 3 * MIB, 64 * KIB, 60 + STEPS.index(step))
    before = len(site.repository.points(vm.uuid))
    check_next_is_right(site, vm)
    after = site.repository.points(vm.uuid)
    assert len(after) == before + 1
    # No change was lost and none had to be read again: the chain goes on.
    assert after[-1].mode is Mode.INCREMENTAL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_takes_itself_back(site: Site, vm: CloudVm, number: int) -> None:
    ended = site.doomed(vm, "thawed", number)
    assert ended.returncode != 0
    points = site.repository.points(vm.uuid)
    assert site.own_marks(vm) == {points[-1].checkpoint}
    site.check_clean(vm)
    check_next_is_right(site, vm)


def test_doctor_repairs_what_a_dead_run_left(site: Site, vm: CloudVm) -> None:
    site.doomed(vm, "job-begun")
    assert vm.domain.jobStats().get("type", 0) != 0
    with Host(site.settings.host()) as host:
        done = repair(host, site.settings, opener)
    assert "backup job ended" in done
    site.check_clean(vm)
    check_next_is_right(site, vm)


@contextmanager
def at(step: str, act: Callable[[], object]) -> Iterator[None]:
    """Do something when a step is reached, once."""
    done: list[bool] = []

    def listener(reached: str) -> None:
        if reached == step and not done:
            done.append(True)
            act()

    steps.listen(listener)
    try:
        yield
    finally:
        steps.unlisten()
    assert done, f"the step {step} was never reached"


def test_libvirtd_killed_in_the_middle(site: Site, vm: CloudVm) -> None:
    def kill_and_restart() -> None:
        site.hypervisor.kill()
        site.hypervisor.start()

    vm.write("vdb", 0, 64 * KIB, 80)
    with at("thawed", kill_and_restart):
        point = site.run(vm, oracle=False).point
    assert point is not None
    check_next_is_right(site, vm)


def test_guest_gone_in_the_middle(site: Site) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(size=32 * MIB)])
    vm.random_fill("vdb", 0, 16 * MIB, 1)
    vm.start(site.hypervisor, paused=False)
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    with at("thawed", vm.destroy), pytest.raises(SendenseError) as raised:
        site.run(vm, oracle=False)
    assert raised.value.retryable
    assert len(site.own_marks(vm)) == 1
    check_next_is_right(site, vm)
    vm.start(site.hypervisor)
    check_next_is_right(site, vm)


def test_full_scratch_ends_the_capture_not_the_guest() -> None:
    with (
        temporary_lab() as lab,
        small_file_system(8 * MIB, at=lab.root / "small") as folder,
        # The host is started after the mount: it has a mount namespace of its own.
        Site.of(lab, lab.add_hypervisor()) as site,
    ):
        vm = lab.create_vm(boot="guest", disks=[DiskSpec(size=128 * MIB)])
        vm.start(site.hypervisor)
        vm.guest.wait_ready()
        vm.guest.write_files("vdb", count=48, kib=1024, seed=1)
        site.backup(vm)
        small = site.with_settings(
            scratch_dir=folder, scratch_reserve=2 * MIB, bandwidth_limit=4 * MIB
        )

        def overwrite() -> None:
            # The agent is out of reach for the moment that the guest is paused.
            with suppress(libvirt.libvirtError):
                vm.guest.lab("rewrite", "vdb", 48, 2)

        writer = threading.Thread(target=overwrite)
        with at("thawed", writer.start), pytest.raises(OutOfSpace):
            small.run(vm, crash(mode=RequestedMode.FULL), oracle=False)
        writer.join()
        small.check_clean(vm)
        assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        assert "OK" in vm.guest.verify_files()
        check_next_is_right(site, vm)
        vm.destroy()


def test_too_little_scratch_is_refused_before_anything_happens(site: Site, vm: CloudVm) -> None:
    marks = site.own_marks(vm)
    with pytest.raises(OutOfSpace, match="scratch"):
        site.with_settings(scratch_reserve=1 << 50).run(vm, oracle=False)
    assert site.own_marks(vm) == marks
    site.check_clean(vm)


def test_full_repository_leaves_the_older_points(site: Site) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(size=64 * MIB)])
    vm.random_fill("vdb", 0, 24 * MIB, 1)
    vm.start(site.hypervisor)
    with (
        small_file_system(48 * MIB, at=site.folder / "small") as folder,
        Site.of(site.lab, site.hypervisor, site.kind) as small,
    ):
        small.repository = small.repository_at(folder / "repository")
        first = small.backup(vm)
        vm.random_fill("vdb", 0, 24 * MIB, 2)
        with pytest.raises(OutOfSpace):
            small.run(vm, oracle=False)
        assert [point.id for point in small.repository.points(vm.uuid)] == [first.id]
        small.verify_all(vm)
        small.check_clean(vm)
        vm.write("vdb", 0, 64 * KIB, 3)
        with pytest.raises(OutOfSpace):
            small.run(vm, oracle=False)
        small.check_clean(vm)


@contextmanager
def small_file_system(size: int, *, at: Path) -> Iterator[Path]:
    """Give a tmpfs that is soon full; QEMU's user may pass through it."""
    at.mkdir(mode=0o755)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(at)], check=True
    )
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)
        at.rmdir()


def test_second_run_of_a_machine_is_told_who_holds_it(site: Site, vm: CloudVm) -> None:
    failures: list[BaseException] = []

    def second() -> None:
        try:
            site.run(vm, oracle=False)
        except Busy as error:
            failures.append(error)

    with at("thawed", second):
        site.run(vm, oracle=False)
    assert f"process {os.getpid()}" in str(failures[0])
    site.check_clean(vm)


def test_foreign_job_is_told_at_once(site: Site, vm: CloudVm) -> None:
    folder = site.hypervisor.run_dir
    job = (
        "<domainbackup mode='pull'><server transport='unix' "
        f"socket='{folder}/other'/><disks><disk name='vda' backup='yes' type='file'>"
        f"<scratch file='{folder}/other.qcow2'/></disk></disks></domainbackup>"
    )
    vm.domain.backupBegin(job, None, 0)
    try:
        with pytest.raises(Busy, match="backup"):
            site.run(vm, oracle=False)
        assert vm.domain.jobStats()["type"] != 0
    finally:
        vm.domain.abortJob()
    check_next_is_right(site, vm)


def test_cancelled_from_inside(site: Site, vm: CloudVm) -> None:
    def cancel() -> None:
        raise Cancelled("stopped by the test")

    with at("disks-stored", cancel), pytest.raises(Cancelled):
        site.run(vm, crash(consistency=Consistency.CRASH), oracle=False)
    site.check_clean(vm)
    check_next_is_right(site, vm)


OFFLINE_STEPS = (
    "bitmaps-prepared",
    "exports-up",
    "disks-stored",
    "point-committed",
    "capture-committed",
    "exports-ended",
    "superseded-dropped",
)


@pytest.fixture(scope="module")
def stopped(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(size=32 * MIB)])
    vm.write("vdb", 0, 4 * MIB, 1)
    site.backup(vm)
    return vm


@pytest.mark.parametrize("step", OFFLINE_STEPS)
def test_killed_at_any_step_of_an_offline_run(site: Site, stopped: CloudVm, step: str) -> None:
    number = OFFLINE_STEPS.index(step)
    stopped.write("vdb", number * 64 * KIB, 64 * KIB, 40 + number)
    dead = site.doomed(stopped, step)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    # Its qemu-nbd died with it: the guest can start, and its changes are in the next point.
    wait_until(lambda: _startable(site, stopped), "the images' release", timeout_s=120)
    stopped.write("vdb", 3 * MIB, 64 * KIB, 60 + number)
    stopped.destroy()
    check_next_is_right(site, stopped)
    assert site.repository.points(stopped.uuid)[-1].mode is Mode.INCREMENTAL


def _startable(site: Site, vm: CloudVm) -> bool:
    try:
        vm.start(site.hypervisor)
    except libvirt.libvirtError:
        return False
    return True


def test_offline_run_gives_way_to_a_start(site: Site, stopped: CloudVm) -> None:
    stopped.random_fill("vdb", 0, 16 * MIB, 5)
    slow = site.with_settings(bandwidth_limit=2 * MIB)
    began = threading.Thread(target=lambda: _start_patiently(site, stopped))
    with at("exports-up", began.start), pytest.raises(SendenseError) as raised:
        slow.run(stopped, crash(mode=RequestedMode.FULL), oracle=False)
    began.join()
    assert raised.value.retryable
    assert stopped.running
    check_next_is_right(site, stopped)
    stopped.destroy()


def _start_patiently(site: Site, vm: CloudVm) -> None:
    """Start as an operator would who tries again once or twice."""
    wait_until(lambda: _startable(site, vm), "the guest's start", timeout_s=120)
