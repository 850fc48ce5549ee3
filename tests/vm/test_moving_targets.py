"""A machine that changes between the look at it and the moment of the capture."""

from __future__ import annotations

import os

import libvirt
import pytest

from sendense.errors import SourceChanged
from sendense.model.decision import Mode, Reason
from sendense.model.machine import PowerState
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import domain_xml
from sendense_lab.lab import DiskSpec
from tests.vm.site import Site
from tests.vm.test_faults import at, check_next_is_right

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.start(site.hypervisor)
    vm.write("vdb", 0, 1 * MIB, 1)
    return vm


def test_disk_grown_after_the_survey(site: Site, vm: CloudVm) -> None:
    site.backup(vm)

    def grow_and_write() -> None:
        vm.resize_disk("vdb", 32 * MIB)
        vm.write("vdb", 30 * MIB, 64 * KIB, 2)

    with at("checkpoints-prepared", grow_and_write), pytest.raises(SourceChanged):
        site.run(vm, oracle=False)
    site.check_clean(vm)
    check_next_is_right(site, vm)
    assert site.repository.points(vm.uuid)[-1].disks[1].size == 32 * MIB


def test_disk_exchanged_after_the_survey_is_not_taken_for_the_old_one(
    site: Site, vm: CloudVm
) -> None:
    site.backup(vm)

    def exchange() -> None:
        vm.snapshot_disk("vdb")
        vm.write("vdb", 0, 1 * MIB, 9)

    with at("checkpoints-prepared", exchange), pytest.raises(SourceChanged):
        site.run(vm, oracle=False)
    site.check_clean(vm)


def test_machine_destroyed_after_the_survey(site: Site, vm: CloudVm) -> None:
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    with at("bitmaps-prepared", vm.destroy), pytest.raises(SourceChanged) as raised:
        site.run(vm, oracle=False)
    assert raised.value.retryable
    check_next_is_right(site, vm)
    vm.start(site.hypervisor)
    check_next_is_right(site, vm)
    assert site.repository.points(vm.uuid)[-1].mode is Mode.INCREMENTAL


@pytest.fixture
def kept(site: Site) -> CloudVm:
    """Give a machine that libvirt keeps when it is off."""
    vm = site.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.hypervisor = site.hypervisor
    domain = site.hypervisor.connection.defineXML(domain_xml(vm.shape, vm.disks))
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    vm.write("vdb", 0, 1 * MIB, 1)
    return vm


@pytest.mark.parametrize("step", ["bitmaps-prepared", "thawed"])
def test_kept_machine_stopped_in_the_middle(site: Site, kept: CloudVm, step: str) -> None:
    site.backup(kept)
    kept.write("vdb", 0, 64 * KIB, 2)
    domain = kept.domain
    with at(step, domain.destroy), pytest.raises(SourceChanged):
        site.run(kept, oracle=False)
    assert domain.isActive() == 0
    off = site.backup(kept)
    assert off.machine.power is PowerState.STOPPED
    assert off.mode is Mode.INCREMENTAL
    site.check_point(off)
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    kept.write("vdb", 128 * KIB, 64 * KIB, 3)
    on = site.backup(kept)
    assert on.disks[1].decision.reason is Reason.USABLE
    site.check_all(kept)
    site.check_clean(kept)
    domain.destroy()
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)


def test_paused_after_a_migration_is_a_full_and_right(site: Site, vm: CloudVm) -> None:
    other = site.on(site.lab.add_hypervisor())
    second = second_repository(site, vm)
    site.backup(vm)
    second.backup(vm, oracle=False)
    vm.write("vdb", 2 * MIB, 8 * MIB, 2)
    migrate_paused(vm, other)
    # Its bitmaps come in with the first instruction; until then nothing tells what changed.
    point = other.backup(vm)
    assert {disk.decision.reason for disk in point.disks} == {Reason.BITMAP_MISSING}
    vm.domain.resume()
    vm.domain.suspend()
    vm.write("vdb", 4 * MIB, 64 * KIB, 3)
    assert other.backup(vm).mode is Mode.INCREMENTAL
    second.hypervisor = other.hypervisor
    second.settings = other.settings
    continued = second.backup(vm)
    # What the capture of the paused guest did must not have broken another chain.
    assert continued.disks[1].decision.reason in {Reason.USABLE, Reason.BITMAP_MISSING}
    second.check_point(continued)
    other.check_all(vm)
    assert other.own_marks(vm) == {
        other.repository.points(vm.uuid)[-1].checkpoint,
        continued.checkpoint,
    }
    vm.destroy()


def second_repository(site: Site, vm: CloudVm) -> Site:
    """Give the same site with another repository."""
    second = site.again()
    second.repository = second.repository_at(site.folder / f"second-{vm.name}")
    return second


def migrate_paused(vm: CloudVm, to: Site) -> None:
    """Migrate a guest that is paused, and stays so."""
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNSAFE
    options = {libvirt.VIR_MIGRATE_PARAM_URI: "tcp://127.0.0.1"}
    vm.domain.migrateToURI3(to.hypervisor.migration_uri, options, flags)
    vm.hypervisor = to.hypervisor
    for volume in vm.disks.values():
        os.chown(volume.path, to.hypervisor.user.uid, to.hypervisor.user.gid)
