"""What keeps a guest safe while it is captured: the freeze, the watchdog, the end of the job."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt
import pytest

from sendense.capture import freeze, link, online, watchdog
from sendense.capture.host import Host
from sendense.capture.journal import JournalEntry
from sendense.capture.watchdog import Watchdog, paused_by_io_error
from sendense.errors import Busy, OutOfSpace, SendenseError, SourceChanged
from sendense.model.decision import Mode, RequestedMode
from sendense.model.point import Consistency
from sendense.repository.chain.repository import ChainRepository
from sendense.workflows.doctor import repair
from sendense.workflows.planning import BackupRequest
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec, temporary_lab
from sendense_lab.pool import Volume
from tests.vm.site import Site, crash, opener
from tests.vm.test_faults import at, check_next_is_right, small_file_system

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB
FROZEN = BackupRequest(consistency=Consistency.FILESYSTEM)
STRICT = BackupRequest(consistency=Consistency.FILESYSTEM, strict=True)


@pytest.fixture(scope="module")
def guest(site: Site) -> CloudVm:
    vm = site.lab.create_vm(boot="guest", disks=[DiskSpec(size=64 * MIB)])
    vm.start(site.hypervisor)
    vm.guest.wait_ready()
    site.backup(vm, FROZEN)
    return vm


@pytest.fixture
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.start(site.hypervisor, paused=False)
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    return vm


# -- freeze ------------------------------------------------------------------------------


def test_freeze_of_somebody_else_is_left_alone(site: Site, guest: CloudVm) -> None:
    guest.guest.freeze()
    try:
        point = site.backup(guest, FROZEN)
        assert guest.guest.freeze_status() == "frozen"
        with pytest.raises(SendenseError, match="frozen"):
            site.run(guest, STRICT, oracle=False)
        assert guest.guest.freeze_status() == "frozen"
    finally:
        assert guest.guest.thaw() > 0
    assert point.consistency is Consistency.CRASH
    site.check_clean(guest)


def test_thawed_by_somebody_else_before_the_moment(site: Site, guest: CloudVm) -> None:
    with at("frozen", guest.guest.thaw):
        point = site.backup(guest, FROZEN)
    assert point.consistency is Consistency.CRASH
    assert any("thawed before the moment" in warning for warning in point.warnings)
    with at("frozen", guest.guest.thaw), pytest.raises(SendenseError, match="thawed before"):
        site.run(guest, STRICT, oracle=False)
    site.check_clean(guest)
    assert site.backup(guest, FROZEN).consistency is Consistency.FILESYSTEM


def begin_foreign(site: Site, vm: CloudVm) -> None:
    """Have another program back the machine up."""
    folder = site.hypervisor.run_dir
    job = (
        "<domainbackup mode='pull'><server transport='unix' "
        f"socket='{folder}/other'/><disks><disk name='vda' backup='yes' type='file'>"
        f"<scratch file='{folder}/other.qcow2'/></disk></disks></domainbackup>"
    )
    vm.domain.backupBegin(job, None, 0)


def test_job_that_comes_before_the_freeze_freezes_nobody(site: Site, guest: CloudVm) -> None:
    busy = pytest.raises(Busy, match="runs another job")
    with at("bitmaps-prepared", lambda: begin_foreign(site, guest)), busy:
        site.run(guest, FROZEN, oracle=False)
    assert guest.guest.freeze_status() == "thawed"
    guest.domain.abortJob()
    site.check_clean(guest)


@contextmanager
def foreign_until_thawed(site: Site, vm: CloudVm) -> Iterator[None]:
    """Hold libvirt's job lock from the freeze on, until the guest is seen thawed."""

    def until_thawed() -> None:
        wait_until(lambda: vm.guest.freeze_status() == "thawed", "the thaw", timeout_s=120)
        vm.domain.abortJob()

    watch = threading.Thread(target=until_thawed)

    def hold() -> None:
        assert vm.guest.freeze_status() == "frozen"
        begin_foreign(site, vm)
        watch.start()

    with at("frozen", hold):
        try:
            yield
        finally:
            watch.join()


def test_guest_is_thawed_while_the_begin_waits(
    site: Site, guest: CloudVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "FROZEN_MOST_S", 2.0)
    with foreign_until_thawed(site, guest):
        point = site.backup(guest, FROZEN)
    assert point.consistency is Consistency.CRASH
    assert any("longer than 2 s" in warning for warning in point.warnings)
    assert point.frozen_s is not None
    assert 2.0 <= point.frozen_s < 4.0
    points = site.repository.points(guest.uuid)
    long = pytest.raises(SendenseError, match="longer than 2 s")
    with foreign_until_thawed(site, guest), long:
        site.run(guest, STRICT, oracle=False)
    assert site.repository.points(guest.uuid) == points
    site.check_clean(guest)
    assert site.backup(guest, FROZEN).consistency is Consistency.FILESYSTEM


def test_mount_points_that_are_not_there(site: Site, guest: CloudVm) -> None:
    none = site.backup(guest, BackupRequest(mountpoints=("/nowhere",)))
    assert none.consistency is Consistency.CRASH
    assert any("froze no file system" in warning for warning in none.warnings)
    some = site.backup(guest, BackupRequest(mountpoints=("/data/vdb", "/nowhere")))
    assert some.consistency is Consistency.FILESYSTEM
    assert any("only 1 of the 2 mount points" in warning for warning in some.warnings)
    assert guest.guest.freeze_status() == "thawed"
    site.check_clean(guest)


def test_guest_ended_while_frozen(site: Site) -> None:
    vm = site.lab.create_vm(boot="guest")
    vm.start(site.hypervisor)
    vm.guest.wait_ready()
    site.backup(vm, FROZEN)
    with at("frozen", vm.destroy), pytest.raises(SourceChanged):
        site.run(vm, FROZEN, oracle=False)
    check_next_is_right(site, vm)
    assert site.repository.points(vm.uuid)[-1].mode is Mode.INCREMENTAL


# -- the domain's state ------------------------------------------------------------------


def test_reset_suspend_and_resume_during_a_capture(site: Site, vm: CloudVm) -> None:
    def disturb() -> None:
        vm.domain.suspend()
        vm.write("vdb", 0, 64 * KIB, 2)
        vm.domain.resume()
        vm.domain.reset()
        vm.write("vdb", 64 * KIB, 64 * KIB, 3)
        vm.domain.suspend()

    with at("thawed", disturb):
        site.backup(vm)
    # Somebody's wish: a pause that no I/O error made stays.
    assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    check_next_is_right(site, vm)


def test_guest_paused_by_its_own_storage_is_not_resumed_by_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        temporary_lab() as lab,
        small_file_system(16 * MIB, at=lab.root / "small") as folder,
        Site.of(lab, lab.add_hypervisor()) as site,
    ):
        vm = lab.create_vm(boot="guest", disks=[DiskSpec(volume=volume_in(folder, 64 * MIB))])
        vm.start(site.hypervisor)
        vm.guest.wait_ready()
        with suppress(libvirt.libvirtError):
            vm.guest.write_files("vdb", count=24, kib=1024, seed=1)
        wait_until(lambda: paused_by_io_error(tuple(vm.domain.state())), "the pause", timeout_s=120)
        resumed: list[object] = []
        monkeypatch.setattr(libvirt.virDomain, "resume", resumed.append)
        with pytest.raises(Busy, match="I/O error"):
            site.run(vm, oracle=False)
        assert resumed == []
        site.check_clean(vm)
        vm.destroy()


def volume_in(folder: Path, size: int) -> Volume:
    """Make a volume outside of the pool, on storage that is soon full."""
    identity = str(uuid.uuid4())
    path = folder / identity
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(size)], check=True)
    return Volume(identity, path, "qcow2", size)


# -- the watchdog ------------------------------------------------------------------------


def test_watchdog_that_fails_ends_the_capture(
    site: Site, vm: CloudVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Watchdog) -> None:
        raise KeyError("unexpected")

    monkeypatch.setattr(Watchdog, "_state", fail)
    vm.random_fill("vdb", 0, 16 * MIB, 1)
    slow = site.with_settings(bandwidth_limit=1 * MIB)
    with pytest.raises(SendenseError, match="watchdog"):
        slow.run(vm, crash(mode=RequestedMode.FULL), oracle=False)
    monkeypatch.undo()
    check_next_is_right(site, vm)


def test_threshold_event_alone_saves_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_POLL_S", 1000.0)
    with (
        temporary_lab() as lab,
        small_file_system(24 * MIB, at=lab.root / "small") as folder,
        Site.of(lab, lab.add_hypervisor()) as site,
    ):
        vm = lab.create_vm(disks=[DiskSpec(size=64 * MIB)])
        vm.start(site.hypervisor, paused=False)
        vm.random_fill("vdb", 0, 48 * MIB, 1)
        site.backup(vm, oracle=False)
        small = site.with_settings(
            scratch_dir=folder, scratch_reserve=8 * MIB, bandwidth_limit=2 * MIB
        )

        def overwrite() -> None:
            with suppress(libvirt.libvirtError):
                for number in range(32):
                    vm.write("vdb", number * MIB, 1 * MIB, 2)

        with at("thawed", threading.Thread(target=overwrite).start), pytest.raises(OutOfSpace):
            small.run(vm, crash(mode=RequestedMode.FULL), oracle=False)
        assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        small.check_clean(vm)
        check_next_is_right(site, vm)
        vm.destroy()


# -- libvirtd away -----------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_RECONNECT_S", 0.5)
    monkeypatch.setattr(online, "_PATIENCE_S", 0.5)


@pytest.mark.usefixtures("impatient")
def test_libvirtd_away_when_a_good_run_ends(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 64 * KIB, 2)
    with at("point-committed", site.hypervisor.kill):
        result = site.run(vm, oracle=False)
    assert result.point is not None
    assert any("JOB MAY STILL RUN" in warning for warning in result.warnings)
    site.hypervisor.start()
    assert vm.domain.jobStats()["type"] != 0
    with Host(site.settings.host()) as host:
        assert "backup job ended" in repair(host, site.settings, opener)
    site_marks = site.own_marks(vm)
    assert result.point.checkpoint in site_marks
    point = site.backup(vm)
    assert point.mode is Mode.INCREMENTAL
    check_next_is_right(site, vm)


@pytest.mark.usefixtures("impatient")
def test_libvirtd_away_when_a_bad_run_ends(site: Site, vm: CloudVm) -> None:
    def break_down() -> None:
        site.hypervisor.kill()
        raise SourceChanged("as if")

    with at("disks-stored", break_down), pytest.raises(SourceChanged):
        site.run(vm, oracle=False)
    site.hypervisor.start()
    assert vm.domain.jobStats()["type"] != 0
    check_next_is_right(site, vm)


def test_libvirtd_back_within_patience_settles_a_run(
    site: Site, vm: CloudVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_RECONNECT_S", 0.2)

    def interrupt() -> None:
        site.hypervisor.kill()
        threading.Timer(1.5, site.hypervisor.start).start()

    with at("point-committed", interrupt):
        result = site.run(vm, oracle=False)
    wait_until(lambda: vm.running, "libvirtd", timeout_s=120)
    assert not any("JOB" in warning for warning in result.warnings)
    site.check_clean(vm)


# -- after the point is committed ----------------------------------------------------------


def test_repository_that_fails_after_the_commit_keeps_the_point_and_its_checkpoint(
    site: Site, vm: CloudVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = ChainRepository.points

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with at("point-committed", lambda: monkeypatch.setattr(ChainRepository, "points", fail)):
        result = site.run(vm, oracle=False)
    monkeypatch.setattr(ChainRepository, "points", listing)
    assert result.point is not None
    assert any("superseded" in warning for warning in result.warnings)
    assert vm.domain.jobStats().get("type", 0) == 0
    assert site.backup(vm).mode is Mode.INCREMENTAL
    check_next_is_right(site, vm)


def test_journal_that_cannot_be_written_at_the_end(
    site: Site, vm: CloudVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at("point-committed", lambda: monkeypatch.setattr(JournalEntry, "update", no_space)):
        result = site.run(vm, oracle=False)
    monkeypatch.undo()
    assert result.point is not None
    assert vm.domain.jobStats().get("type", 0) == 0
    assert site.backup(vm).mode is Mode.INCREMENTAL
    site.check_clean(vm)


def no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
