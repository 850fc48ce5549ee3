"""Real guests: freezing, agents that misbehave, fstrim, UEFI, and files checked from inside."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import libvirt
import pytest

from sendense.errors import SendenseError
from sendense.model.decision import Mode, RequestedMode
from sendense.model.point import Consistency
from sendense.workflows.planning import BackupRequest
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec
from tests.vm.site import Site, crash

pytestmark = pytest.mark.vm

MIB = 1 << 20
FROZEN = BackupRequest(consistency=Consistency.FILESYSTEM)


@pytest.fixture(scope="module")
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(boot="guest", disks=[DiskSpec(size=96 * MIB)])
    vm.start(site.hypervisor)
    vm.guest.wait_ready()
    vm.guest.write_files("vdb", count=8, kib=512, seed=11)
    return vm


def test_filesystem_consistency_freezes_and_thaws_at_once(site: Site, vm: CloudVm) -> None:
    point = site.backup(vm, FROZEN)
    assert point.consistency is Consistency.FILESYSTEM
    assert point.frozen_s is not None
    assert point.warnings == ()
    assert vm.guest.freeze_status() == "thawed"
    vm.guest.write_files("vdb", count=2, kib=256, seed=12)
    again = site.backup(vm, FROZEN)
    assert again.mode is Mode.INCREMENTAL
    site.check_all(vm)
    site.check_clean(vm)


def test_fstrim_costs_little_and_restores_as_zero(site: Site, vm: CloudVm) -> None:
    vm.guest.write_files("vdb", count=16, kib=1024, seed=13)
    full = site.backup(vm, FROZEN)
    vm.guest.delete_files("vdb", count=1000)
    vm.guest.trim("vdb")
    trimmed = site.backup(vm, FROZEN)
    vm.guest.write_files("vdb", count=4, kib=256, seed=14)  # the other tests want some
    data_disk = trimmed.disks[1]
    assert data_disk.zero_bytes >= 8 * MIB
    assert data_disk.data_bytes < 4 * MIB
    assert full.id != trimmed.id
    site.check_point(trimmed)
    site.check_clean(vm)


def test_hung_agent_falls_back_and_is_thawed_when_it_wakes(site: Site, vm: CloudVm) -> None:
    vm.guest.hang_agent(9)
    hasty = site.with_settings(agent_timeout=2)
    point = hasty.backup(vm, FROZEN)
    assert point.consistency is Consistency.CRASH
    assert any("freeze failed" in warning for warning in point.warnings)
    wait_until(lambda: vm.guest.ping(), "the agent's awakening", timeout_s=120)
    # The queued freeze took effect when the agent woke; the next run must undo it first.
    site.backup(vm, crash())
    wait_until(lambda: vm.guest.freeze_status() == "thawed", "the thaw", timeout_s=120)
    site.check_clean(vm)
    site.check_all(vm)


def test_hung_agent_fails_under_strict_and_leaves_nothing(site: Site, vm: CloudVm) -> None:
    vm.guest.hang_agent(4)
    hasty = site.with_settings(agent_timeout=2)
    before = site.repository.points(vm.uuid)
    strict = BackupRequest(consistency=Consistency.FILESYSTEM, strict=True)
    with pytest.raises(SendenseError, match="freezing"):
        hasty.run(vm, strict, oracle=False)
    assert site.repository.points(vm.uuid) == before
    wait_until(lambda: vm.guest.ping(), "the agent's awakening", timeout_s=120)
    site.backup(vm, FROZEN)
    assert vm.guest.freeze_status() == "thawed"
    site.check_clean(vm)


def test_absent_agent_falls_back_without_delay(site: Site, vm: CloudVm) -> None:
    vm.guest.stop_agent(3)
    point = site.backup(vm, FROZEN)
    assert point.consistency is Consistency.CRASH
    assert any("not connected" in warning for warning in point.warnings)
    wait_until(lambda: vm.guest.ping(), "the agent's return", timeout_s=120)
    site.check_clean(vm)


def test_killed_while_frozen_is_thawed_by_the_next_run(site: Site, vm: CloudVm) -> None:
    dead = site.doomed(vm, "frozen", signal.SIGKILL, Consistency.FILESYSTEM)
    assert "frozen" in dead.stdout
    assert vm.guest.freeze_status() == "frozen"
    point = site.backup(vm, FROZEN)
    assert point.consistency is Consistency.FILESYSTEM
    assert vm.guest.freeze_status() == "thawed"
    site.check_clean(vm)


def test_guest_that_writes_all_the_time(site: Site, vm: CloudVm) -> None:
    vm.guest.start_churn("vdb", kib=128, pause_s=0.2)
    try:
        for _ in range(4):
            site.backup(vm, FROZEN)
            time.sleep(1)
    finally:
        vm.guest.stop_churn("vdb")
    site.check_all(vm)
    site.verify_all(vm)
    site.check_clean(vm)


def test_powered_off_from_inside_and_captured_offline(site: Site) -> None:
    vm = site.lab.create_vm(boot="guest", disks=[DiskSpec(size=64 * MIB)])
    vm.start(site.hypervisor)
    vm.guest.wait_ready()
    vm.guest.write_files("vdb", count=4, kib=256, seed=1)
    site.backup(vm, FROZEN)
    vm.guest.write_files("vdb", count=4, kib=256, seed=2)
    vm.stop()
    off = site.backup(vm, crash())
    assert off.mode is Mode.INCREMENTAL
    site.check_all(vm)
    site.check_clean(vm)


def test_uefi_variables_go_with_the_point(site: Site) -> None:
    vm = site.lab.create_vm(uefi=True)
    vm.start(site.hypervisor)
    point = site.backup(vm, crash(mode=RequestedMode.FULL))
    with site.repository.open(point.id) as reader:
        stored = reader.attachment("nvram.fd")
        xml = reader.attachment("domain.xml").decode()
    assert stored == Path(vm.nvram).read_bytes()
    assert vm.name in xml
    assert vm.uuid in xml
    vm.destroy()


def test_paused_guest_is_captured_and_stays_paused(site: Site) -> None:
    vm = site.lab.create_vm()
    vm.start(site.hypervisor, paused=True)
    site.backup(vm, FROZEN)
    state, reason = vm.domain.state()
    assert state == libvirt.VIR_DOMAIN_PAUSED
    assert reason != libvirt.VIR_DOMAIN_PAUSED_IOERROR
    vm.destroy()
