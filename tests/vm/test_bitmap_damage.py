"""Bitmaps and checkpoints that others broke, hid, doubled or outlived: per disk, never wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import libvirt_qemu
import pytest

from sendense.capture.bitmaps import query_images
from sendense.model.decision import Mode, Reason
from sendense.model.survey import is_own
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.lab import DiskSpec
from sendense_lab.pool import Volume
from tests.vm.site import Site, crash
from tests.vm.test_chains import reasons
from tests.vm.test_faults import check_next_is_right

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(24 * MIB), DiskSpec(24 * MIB)])
    vm.start(site.hypervisor)
    vm.write("vdb", 0, 1 * MIB, 1)
    vm.write("vdc", 0, 1 * MIB, 1)
    return vm


def path_of(vm: CloudVm, target: str) -> str:
    return str(vm.disks[target].path)


def change_all(vm: CloudVm, pattern: int) -> None:
    for target in ("vdb", "vdc"):
        vm.write(target, pattern * 64 * KIB, 64 * KIB, pattern)


def break_bitmaps(volume: Volume) -> None:
    """Die with the image open for writing, as QEMU does by SIGKILL."""
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "read 0 512", "-c", "abort", volume.path],
        check=False,
        capture_output=True,
    )


def test_bitmap_removed_from_one_disk_behind_our_back(site: Site, vm: CloudVm) -> None:
    first = site.backup(vm)
    node = query_images(vm.domain)[path_of(vm, "vdb")].node
    request = {
        "execute": "block-dirty-bitmap-remove",
        "arguments": {"node": node, "name": first.checkpoint},
    }
    libvirt_qemu.qemuMonitorCommand(vm.domain, json.dumps(request), 0)
    change_all(vm, 2)
    point = site.backup(vm)
    assert reasons(point) == [Reason.USABLE, Reason.BITMAP_MISSING, Reason.USABLE]
    check_next_is_right(site, vm)


@pytest.mark.parametrize("running", [True, False])
def test_one_broken_disk_is_a_full_and_the_others_stay_incremental(
    site: Site, vm: CloudVm, *, running: bool
) -> None:
    site.backup(vm)
    change_all(vm, 2)
    vm.destroy()
    break_bitmaps(vm.disks["vdb"])
    if running:
        vm.start(site.hypervisor)
        change_all(vm, 3)
    point = site.backup(vm)
    assert reasons(point) == [Reason.USABLE, Reason.BITMAP_INCONSISTENT, Reason.USABLE]
    check_next_is_right(site, vm)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3


def test_internal_snapshot_of_one_disk_leaves_the_others_incremental(
    site: Site, vm: CloudVm
) -> None:
    site.backup(vm)
    vm.destroy()
    snapshot = ["qemu-img", "snapshot", "-c", "before", path_of(vm, "vdc")]
    subprocess.run(snapshot, check=True)
    vm.start(site.hypervisor)
    change_all(vm, 2)
    point = site.backup(vm)
    assert reasons(point) == [Reason.USABLE, Reason.USABLE, Reason.MEMORY_SNAPSHOT_PRESENT]
    images = query_images(vm.domain)
    assert not any(is_own(item.name) for item in images[path_of(vm, "vdc")].bitmaps)
    change_all(vm, 3)
    assert reasons(site.backup(vm))[:2] == [Reason.USABLE] * 2
    site.check_all(vm)
    vm.destroy()
    # What the bitmaps would have broken, had one been left.
    subprocess.run(["qemu-img", "snapshot", "-a", "before", path_of(vm, "vdc")], check=True)


@pytest.mark.parametrize("granularity", [64 * KIB, 4 * KIB])
def test_image_that_names_its_backing_file_relatively(site: Site, granularity: int) -> None:
    vm = site.lab.create_vm()
    root = vm.disks["vda"].path
    template = site.lab.pool.template.path
    subprocess.run(
        ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", template.name, root],
        check=True,
    )
    vm.start(site.hypervisor)
    request = crash(granularity=granularity)
    site.backup(vm, request)
    vm.write("vda", 0, 4 * KIB, 1)
    point = site.backup(vm, request)
    assert reasons(point) == [Reason.USABLE] * 2
    vm.destroy()
    assert reasons(site.backup(vm, request)) == [Reason.USABLE] * 2
    site.check_all(vm)
    site.check_clean(vm)


def test_two_snapshots_upon_each_other_with_runs_on_every_layer(site: Site, vm: CloudVm) -> None:
    identity = vm.disks["vdb"].id
    site.backup(vm)
    change_all(vm, 2)
    base = vm.snapshot_disk("vdb")
    change_all(vm, 3)
    on_first = site.backup(vm)
    assert reasons(on_first) == [Reason.USABLE, Reason.DISK_REPLACED, Reason.USABLE]
    middle = vm.snapshot_disk("vdb")
    change_all(vm, 4)
    assert reasons(site.backup(vm))[1] is Reason.DISK_REPLACED
    change_all(vm, 5)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    # While a layer is in use the bitmaps below it cannot be removed; nor may they be believed.
    vm.destroy()
    # The same volume to CloudStack, whose serial stays.
    vm._disks["vdb"] = replace(vm.disks["vdb"], id=identity)
    vm.start(site.hypervisor)
    change_all(vm, 6)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    vm.commit_disk("vdb", middle)
    change_all(vm, 7)
    assert reasons(site.backup(vm))[1] is Reason.DISK_REPLACED
    vm.commit_disk("vdb", base)
    change_all(vm, 8)
    assert reasons(site.backup(vm))[1] is Reason.DISK_REPLACED
    change_all(vm, 9)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    site.check_all(vm)
    site.check_clean(vm)


def test_overlay_thrown_away_after_a_run_on_it(site: Site, vm: CloudVm) -> None:
    site.backup(vm)
    base = vm.disks["vdb"]
    vm.snapshot_disk("vdb")
    change_all(vm, 2)
    site.backup(vm, crash(exclude=("vdb",)))
    vm.destroy()
    vm._disks["vdb"] = base
    vm.start(site.hypervisor)
    vm.write("vdc", 0, 64 * KIB, 3)
    check_next_is_right(site, vm)


# -- who keeps which base ------------------------------------------------------------------


def second_site(site: Site, vm: CloudVm, **settings: object) -> Site:
    second = site.with_settings(**settings)
    second.repository = second.repository_at(site.folder / f"second-{vm.name}")
    return second


def test_two_repositories_in_turn_stay_incremental_and_right(site: Site, vm: CloudVm) -> None:
    second = second_site(site, vm)
    for number, one in enumerate([site, second, site, second, second, site, second]):
        change_all(vm, number + 2)
        point = one.backup(vm)
        assert point.mode is (Mode.FULL if number < 2 else Mode.INCREMENTAL)
        assert len(site.own_marks(vm)) <= 2
    site.check_all(vm)
    second.check_all(vm)


def test_one_bitmap_for_two_repositories_makes_fulls_that_say_why(site: Site, vm: CloudVm) -> None:
    one = site.with_settings(max_bitmaps_per_vm=1)
    second = second_site(site, vm, max_bitmaps_per_vm=1)
    one.backup(vm)
    change_all(vm, 2)
    assert reasons(one.backup(vm)) == [Reason.USABLE] * 3
    second.backup(vm)
    change_all(vm, 3)
    assert reasons(one.backup(vm)) == [Reason.BITMAP_MISSING] * 3
    assert len(site.own_marks(vm)) == 1
    # A disk that is left out loses its base to the bound, and is a full when it comes back.
    one.backup(vm, crash(exclude=("vdb",)))
    change_all(vm, 4)
    assert reasons(one.backup(vm)) == [Reason.USABLE, Reason.BITMAP_MISSING, Reason.USABLE]
    one.check_all(vm)
    one.check_clean(vm)


def test_disks_in_and_out_over_several_runs(site: Site, vm: CloudVm) -> None:
    runs = [
        crash(include=("vdb",)),
        crash(include=("vda", "vdc")),
        crash(exclude=("vdc",)),
        crash(include=("vdc",)),
        crash(),
        crash(include=("vdb", "vdc"), exclude=("vdb",)),
        crash(),
    ]
    for number, request in enumerate(runs):
        change_all(vm, number + 2)
        point = site.backup(vm, request)
        if number > 1:
            assert set(reasons(point)) == {Reason.USABLE}
    site.check_all(vm)
    site.check_clean(vm)


def test_newest_point_deleted_is_followed_by_a_right_run(site: Site, vm: CloudVm) -> None:
    site.backup(vm)
    change_all(vm, 2)
    newest = site.backup(vm)
    site.repository.delete([newest.id])
    change_all(vm, 3)
    point = site.backup(vm)
    assert set(reasons(point)) == {Reason.BITMAP_MISSING}
    goes_on_right(site, vm)
    # Whose the bitmap of a point is that no repository lists any more cannot be told from its
    # name: it goes when the bound is reached.
    assert len(site.own_marks(vm)) == 2
    site.with_settings(max_bitmaps_per_vm=1).backup(vm)
    site.check_clean(vm)


def goes_on_right(site: Site, vm: CloudVm) -> None:
    change_all(vm, 10)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    site.check_all(vm)
    site.verify_all(vm)


@pytest.mark.parametrize("bitmap_stays", [False, True])
def test_repository_set_back_to_an_older_copy(
    site: Site, vm: CloudVm, *, bitmap_stays: bool
) -> None:
    one = site.again()
    location = site.folder / f"set-back-{vm.name}"
    one.repository = one.repository_at(location)
    one.backup(vm)
    copy = Path(f"{location}-copy")
    shutil.copytree(location, copy)
    change_all(vm, 2)
    if bitmap_stays:
        # The newer point's run was killed before it dropped the older bitmap.
        one.doomed(vm, "job-ended")
    else:
        one.backup(vm)
    shutil.rmtree(location)
    copy.rename(location)
    one.repository = one.repository_at(location)
    change_all(vm, 3)
    point = one.backup(vm)
    assert set(reasons(point)) == {Reason.USABLE if bitmap_stays else Reason.BITMAP_MISSING}
    one.check_all(vm)
    goes_on_right(one, vm)
    assert len(one.own_marks(vm)) <= 2


def test_granularity_that_changes_between_runs(site: Site, vm: CloudVm) -> None:
    for number, granularity in enumerate([64 * KIB, 4 * KIB, 512, 1 * MIB, 64 * KIB, 4 * KIB]):
        vm.write("vdb", 8 * MIB + number * 8 * KIB, 512, number + 2)
        vm.write_zeroes("vdb", (1 + number) * 256 * KIB, 4 * KIB)
        point = site.backup(vm, crash(granularity=granularity))
        assert point.mode is (Mode.INCREMENTAL if number else Mode.FULL)
    site.check_all(vm)
    site.verify_all(vm)
    site.check_clean(vm)


def test_a_hundred_bitmaps_of_others(site: Site, vm: CloudVm) -> None:
    vm.destroy()
    for number in range(100):
        add = ["qemu-img", "bitmap", "--add", path_of(vm, "vdb"), f"other-{number}"]
        subprocess.run(add, check=True)
    vm.start(site.hypervisor)
    site.backup(vm)
    change_all(vm, 2)
    assert reasons(site.backup(vm)) == [Reason.USABLE] * 3
    held = query_images(vm.domain)[path_of(vm, "vdb")].bitmaps
    assert sum(not is_own(item.name) for item in held) == 100
    site.check_all(vm)
    site.check_clean(vm)


def test_guest_killed_during_a_run_and_started_again(site: Site, vm: CloudVm) -> None:
    site.backup(vm)
    vm.restart()
    site.backup(vm)
    vm.restart()
    change_all(vm, 2)
    site.doomed(vm, "thawed")
    vm.kill9()
    vm.start(site.hypervisor)
    change_all(vm, 3)
    point = site.backup(vm)
    assert set(reasons(point)) == {Reason.BITMAP_INCONSISTENT}
    check_next_is_right(site, vm)
    assert site.repository.points(vm.uuid)[-1].mode is Mode.INCREMENTAL


def test_threshold_never_skips_what_was_not_counted(site: Site, vm: CloudVm) -> None:
    site.backup(vm)
    vm.write("vdb", 0, 4 * MIB, 2)
    vm.destroy()
    # Of images that are off nobody counts the changes: they are read, not skipped.
    point = site.backup(vm, crash(least_bytes=1 * MIB))
    assert point.disks[1].read_bytes == 4 * MIB
    site.check_all(vm)
