"""Chains of points of a running machine: every point equals the moment it was taken."""

from __future__ import annotations

import json
import shutil
import subprocess

import libvirt_qemu
import pytest

from sendense.capture.bitmaps import query_images
from sendense.capture.host import Host
from sendense.model.decision import Mode, Reason
from sendense.workflows.release import release
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.lab import DiskSpec
from tests.vm.site import Site, crash

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(size=48 * MIB), DiskSpec(size=32 * MIB)])
    vm.start(site.hypervisor)
    return vm


def reasons(point: object) -> list[Reason]:
    return [image.decision.reason for image in point.disks]  # type: ignore[attr-defined]


def test_full_then_incrementals_of_writes_discards_and_zeroes(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 4 * MIB, 0x11)
    vm.write("vdc", 1 * MIB, 2 * MIB, 0x12)
    first = site.backup(vm)
    assert first.mode is Mode.FULL

    vm.write("vdb", 1 * MIB, 64 * KIB, 0x21)
    vm.write("vda", 7 * MIB, 512, 0x22)
    second = site.backup(vm)
    assert reasons(second) == [Reason.USABLE] * 3
    assert [image.read_bytes for image in second.disks] == [64 * KIB, 64 * KIB, 0]

    vm.write_zeroes("vdb", 0, 1 * MIB)
    vm.write_zeroes("vdb", 2 * MIB, 512 * KIB, unmap=True)
    vm.discard("vdc", 1 * MIB, 1 * MIB)
    vm.discard("vda", 8 * MIB, 1 * MIB)
    third = site.backup(vm)
    assert third.mode is Mode.INCREMENTAL

    fourth = site.backup(vm)
    assert sum(image.read_bytes for image in fourth.disks) == 0

    site.check_all(vm)
    site.verify_all(vm)
    site.check_clean(vm)
    assert site.own_marks(vm) == {fourth.checkpoint}


def test_stop_and_start_destroy_and_kill(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    vm.destroy()
    vm.start(site.hypervisor)
    vm.write("vdb", 128 * KIB, 64 * KIB, 3)
    point = site.backup(vm)
    assert reasons(point) == [Reason.USABLE] * 3
    assert point.disks[1].read_bytes == 128 * KIB

    vm.write("vdc", 0, 64 * KIB, 4)
    vm.kill9()
    vm.start(site.hypervisor)
    after_crash = site.backup(vm)
    assert after_crash.disks[1].decision.reason in {
        Reason.BITMAP_MISSING,
        Reason.BITMAP_INCONSISTENT,
    }
    assert site.backup(vm).mode is Mode.INCREMENTAL
    site.check_all(vm)
    site.check_clean(vm)


def test_save_and_restore_keeps_the_chain(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    saved = site.folder / f"{vm.name}.save"
    vm.save(saved)
    vm.restore(saved, site.hypervisor)
    point = site.backup(vm)
    assert reasons(point) == [Reason.USABLE] * 3
    site.check_all(vm)
    site.check_clean(vm)


def test_migration_there_and_back_keeps_the_chain(site: Site, vm: CloudVm) -> None:
    other = site.on(site.lab.add_hypervisor())
    vm.domain.resume()
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    vm.write("vdb", 256 * KIB, 64 * KIB, 2)
    vm.migrate(other.hypervisor)
    vm.write("vdb", 512 * KIB, 64 * KIB, 3)
    moved = other.backup(vm)
    assert reasons(moved) == [Reason.USABLE] * 3
    vm.write("vdc", 0, 64 * KIB, 4)
    vm.migrate(site.hypervisor)
    back = site.backup(vm)
    assert reasons(back) == [Reason.USABLE] * 3
    site.check_all(vm)
    site.check_clean(vm)
    other.check_clean(vm)


def test_volume_snapshot_between_runs_and_during_one(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    base = vm.snapshot_disk("vdb")
    vm.write("vdb", 128 * KIB, 64 * KIB, 3)
    vm.commit_disk("vdb", base)
    vm.write("vdb", 256 * KIB, 64 * KIB, 4)
    between = site.backup(vm)
    assert reasons(between) == [Reason.USABLE] * 3
    assert between.disks[1].read_bytes == 3 * 64 * KIB

    base = vm.snapshot_disk("vdb")
    vm.write("vdb", 512 * KIB, 64 * KIB, 5)
    during = site.backup(vm)
    assert during.disks[1].decision.mode is Mode.FULL
    vm.commit_disk("vdb", base)
    vm.write("vdb", 640 * KIB, 64 * KIB, 6)
    after = site.backup(vm)
    assert after.disks[1].decision.mode is Mode.FULL
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    site.check_all(vm)
    site.check_clean(vm)


def test_memory_snapshot_makes_fulls_without_bitmaps(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    site_marks = site.own_marks(vm)
    assert site_marks
    vm.domain.resume()
    vm.snapshot_memory("before-upgrade")
    vm.domain.suspend()
    point = site.backup(vm)
    assert set(reasons(point)) == {Reason.MEMORY_SNAPSHOT_PRESENT}
    assert point.checkpoint is None
    assert site.own_marks(vm) == set()
    site.check_all(vm)
    site.check_clean(vm)


def test_growing_live_and_offline_stays_incremental_and_shrinking_is_a_full(
    site: Site, vm: CloudVm
) -> None:
    vm.write("vdb", 40 * MIB, 8 * MIB, 1)
    site.backup(vm)
    vm.resize_disk("vdb", 64 * MIB)
    vm.write("vdb", 63 * MIB, 1 * MIB, 2)
    grown = site.backup(vm)
    assert reasons(grown) == [Reason.USABLE] * 3
    assert grown.disks[1].size == 64 * MIB
    vm.destroy()
    vm.resize_disk("vdb", 72 * MIB)
    vm.start(site.hypervisor)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    vm.destroy()
    shrink(vm, "vdb", 32 * MIB)
    vm.start(site.hypervisor)
    shrunk = site.backup(vm)
    assert reasons(shrunk) == [Reason.USABLE, Reason.DISK_SHRUNK, Reason.USABLE]
    site.check_all(vm)
    site.check_clean(vm)


def shrink(vm: CloudVm, target: str, size: int) -> None:
    volume = vm.disks[target]
    command = ["qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", str(volume.path), str(size)]
    subprocess.run(command, check=True)


def test_hot_added_disk_gets_a_full_and_comes_back_incremental(site: Site, vm: CloudVm) -> None:
    site.backup(vm)
    target = vm.attach_disk(16 * MIB)
    vm.write(target, 0, 1 * MIB, 7)
    point = site.backup(vm)
    assert reasons(point) == [*[Reason.USABLE] * 3, Reason.NEW_DISK]
    vm.write(target, 0, 64 * KIB, 8)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 4
    vm.destroy()
    volume = vm.detach_disk(target)
    vm.start(site.hypervisor)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    vm.destroy()
    vm.attach_volume(volume)
    vm.start(site.hypervisor)
    again = site.backup(vm)
    # Its bitmap went with the checkpoint it was last in, or is still there: both are right.
    assert again.disks[3].decision.reason in {Reason.USABLE, Reason.BITMAP_MISSING}
    site.check_all(vm)


def test_raw_disk_beside_qcow2_stores_only_what_differs(site: Site) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(size=32 * MIB, format="raw")])
    vm.random_fill("vdb", 0, 8 * MIB, 1)
    vm.start(site.hypervisor)
    site.backup(vm)
    # Content that no other machine of the repository has: a deduplicating one would store nothing.
    vm.random_fill("vdb", 1 * MIB, 64 * KIB, 90125)
    vm.write_zeroes("vdb", 2 * MIB, 1 * MIB)
    point = site.backup(vm)
    raw = point.disks[1]
    assert (raw.decision.mode, raw.decision.reason) == (
        Mode.INCREMENTAL,
        Reason.NO_BITMAP_SUPPORT,
    )
    assert raw.data_bytes == 64 * KIB
    # A dedup repository need not state zeroes where a tree has nothing.
    assert raw.zero_bytes == (1 * MIB if site.kind == "qcow2" else 0)
    site.check_all(vm)
    site.check_clean(vm)


@pytest.mark.parametrize("granularity", [512, 4 * KIB, 64 * KIB])
@pytest.mark.parametrize("cluster_size", [64 * KIB, 2 * MIB])
def test_granules_and_clusters_of_all_sizes(
    site: Site, granularity: int, cluster_size: int
) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(size=24 * MIB, cluster_size=cluster_size)])
    vm.start(site.hypervisor)
    request = crash(granularity=granularity)
    vm.write("vdb", 0, 5 * MIB, 1)
    site.backup(vm, request)
    vm.write("vdb", 512, 512, 2)
    vm.write("vdb", 3 * MIB - 512, 1024, 3)
    vm.discard("vdb", 4 * MIB, 64 * KIB)
    first = site.backup(vm, request)
    vm.write_zeroes("vdb", 8 * KIB, 4 * KIB)
    second = site.backup(vm, request)
    assert [first.mode, second.mode] == [Mode.INCREMENTAL] * 2
    if site.kind == "qcow2":
        assert first.disks[1].block_size == max(4 * KIB, granularity)
    site.check_all(vm)
    site.verify_all(vm)
    site.check_clean(vm)


def test_online_and_offline_runs_continue_one_chain(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 2 * MIB, 1)
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    vm.destroy()
    off = site.backup(vm)
    assert reasons(off) == [Reason.USABLE] * 3
    vm.write("vdb", 1 * MIB, 128 * KIB, 3)
    off_again = site.backup(vm)
    assert off_again.disks[1].read_bytes == 128 * KIB
    vm.start(site.hypervisor)
    vm.write("vdc", 0, 64 * KIB, 4)
    on = site.backup(vm)
    assert reasons(on) == [Reason.USABLE] * 3
    site.check_all(vm)
    site.check_clean(vm)


def test_lying_bitmap_is_found_by_the_sample(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 1 * MIB, 1)
    first = site.backup(vm)
    assert first.checkpoint is not None
    node = query_images(vm.domain)[str(vm.disks["vdb"].path)].node
    monitor(vm, "block-dirty-bitmap-disable", node=node, name=first.checkpoint)
    vm.write("vdb", 0, 1 * MIB, 2)
    disabled = site.run(vm)
    assert disabled.point is not None
    assert disabled.point.disks[1].decision.reason is Reason.BITMAP_DISABLED

    checkpoint = disabled.point.checkpoint
    monitor(vm, "block-dirty-bitmap-disable", node=node, name=checkpoint)
    vm.write("vdb", 0, 1 * MIB, 3)
    monitor(vm, "block-dirty-bitmap-enable", node=node, name=checkpoint)
    found = site.with_settings(sample_blocks=1000).backup(vm)
    assert found.disks[1].decision.reason is Reason.VERIFICATION_FAILED
    assert any("called offset" in warning for warning in found.warnings)
    site.check_point(found)
    site.check_clean(vm)


def monitor(vm: CloudVm, command: str, **arguments: object) -> None:
    request = json.dumps({"execute": command, "arguments": arguments})
    libvirt_qemu.qemuMonitorCommand(vm.domain, request, 0)


def test_disk_replaced_by_an_older_copy_is_a_full(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    vm.destroy()
    copy = site.folder / "copy"
    shutil.copy2(vm.disks["vdb"].path, copy)
    vm.start(site.hypervisor)
    vm.write("vdb", 0, 64 * KIB, 2)
    site.backup(vm)
    vm.destroy()
    shutil.copy2(copy, vm.disks["vdb"].path)
    vm.start(site.hypervisor)
    rolled_back = site.backup(vm)
    assert rolled_back.disks[1].decision.reason is Reason.BITMAP_MISSING
    site.check_all(vm)
    site.check_clean(vm)


def test_foreign_checkpoints_and_bitmaps_are_never_touched(site: Site, vm: CloudVm) -> None:
    vm.domain.checkpointCreateXML(
        "<domaincheckpoint><name>other-tool</name><disks>"
        "<disk name='vdb' checkpoint='bitmap'/></disks></domaincheckpoint>",
        0,
    )
    vm.write("vdb", 0, 64 * KIB, 1)
    site.backup(vm)
    site.backup(vm)
    with Host(site.settings.host()) as host:
        released = release(host, site.settings, host.find(vm.uuid))
    assert len(released.dropped) == 1
    assert [item.getName() for item in vm.domain.listAllCheckpoints()] == ["other-tool"]
    bitmaps = query_images(vm.domain)[str(vm.disks["vdb"].path)].bitmaps
    assert [(item.name, item.dirty_bytes) for item in bitmaps] == [("other-tool", 64 * KIB)]


def test_own_bitmaps_are_bounded_over_several_repositories(site: Site, vm: CloudVm) -> None:
    names = []
    for number in range(4):
        other = site.with_settings(max_bitmaps_per_vm=2)
        location = site.folder / f"repository-{vm.name}-{number}"
        other.repository = other.repository_at(location)
        names.append(other.backup(vm, oracle=False).checkpoint)
    assert site.own_marks(vm) == set(names[-2:])


def test_excluded_disk_keeps_its_base(site: Site, vm: CloudVm) -> None:
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    site.backup(vm, crash(exclude=("vdb",)))
    both = site.backup(vm)
    assert reasons(both) == [Reason.USABLE] * 3
    assert both.disks[1].read_bytes == 64 * KIB
    site.check_all(vm)
    site.check_clean(vm)


def test_small_change_can_be_skipped(site: Site, vm: CloudVm) -> None:
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    skipped = site.run(vm, crash(least_bytes=MIB), oracle=False)
    assert skipped.point is None
    assert skipped.skipped is not None
    assert site.backup(vm).disks[1].read_bytes == 64 * KIB
