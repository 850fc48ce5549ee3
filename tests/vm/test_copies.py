"""Copies of points of real machines, and backups that go on from a copy."""

from __future__ import annotations

import pytest

from sendense.model.decision import Mode, Reason
from sendense.workflows.copy import run_copy
from sendense.workflows.copy_planning import CopyRequest, plan_copy
from sendense_lab.lab import DiskSpec
from tests.support.copy_site import without_errors
from tests.vm.site import Site

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB


def copy(source: Site, target: Site) -> int:
    """Copy all points; gives the bytes that were read."""
    plan = plan_copy(source.repository, target.repository, CopyRequest()).plan
    results = without_errors(run_copy(source.repository, target.repository, plan))
    return sum(item.read_bytes for item in results)


@pytest.mark.parametrize("kinds", [("qcow2", "dedup"), ("dedup", "qcow2")], ids="-to-".join)
def test_copies_are_what_the_guest_had(lab, kinds) -> None:
    hypervisor = lab.add_hypervisor()
    with Site.of(lab, hypervisor, kinds[0]) as source, Site.of(lab, hypervisor, kinds[1]) as target:
        copies_are_what_the_guest_had(lab, source, target)


def copies_are_what_the_guest_had(lab, source: Site, target: Site) -> None:
    vm = lab.create_vm(disks=[DiskSpec(size=48 * MIB), DiskSpec(size=32 * MIB)])
    vm.start(source.hypervisor)
    vm.write("vdb", 0, 4 * MIB, 0x11)
    vm.write("vdc", 1 * MIB, 2 * MIB, 0x12)
    source.backup(vm)
    vm.write("vdb", 1 * MIB, 64 * KIB, 0x21)
    vm.discard("vdc", 1 * MIB, 1 * MIB)
    source.backup(vm)
    copy(source, target)
    vm.write("vda", 7 * MIB, 512, 0x31)
    source.backup(vm)
    assert copy(source, target) == 64 * KIB
    target.check_all(vm)
    target.verify_all(vm)

    # The next backup may go to the copy: the images have the bitmap of its newest point.
    vm.write("vdb", 2 * MIB, 64 * KIB, 0x41)
    made = target.backup(vm)
    assert made.mode is Mode.INCREMENTAL
    assert [image.decision.reason for image in made.disks] == [Reason.USABLE] * 3
    assert [image.read_bytes for image in made.disks] == [0, 64 * KIB, 0]
    target.check_all(vm)
    target.verify_all(vm)

    # That took over the bitmap.  What comes then from the first lies over what came between.
    again = source.backup(vm)
    assert {image.decision.reason for image in again.disks} == {Reason.BITMAP_MISSING}
    copy(source, target)
    assert target.repository.points(vm.uuid)[-1].id == again.id
    target.check_all(vm)
    target.verify_all(vm)
