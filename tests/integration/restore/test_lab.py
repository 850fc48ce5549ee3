"""libvirt takes the machine that was shaped around restored disks, and QEMU runs it."""

from __future__ import annotations

import shutil

import libvirt
import pytest

from sendense.capture.domainxml import parse_machine
from sendense.model.decision import Reason
from sendense.model.machine import PowerState
from sendense.targets.domainxml import Identity, RestoredDisk, shape_domain
from sendense.workflows.restore import InPlace, RestoreOptions, plan_restore, run_restore
from sendense_lab import DiskSpec, temporary_lab
from tests.integration.transfer.servers import MIB
from tests.vm.site import Site

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def lab():
    with temporary_lab(name="restore") as lab:
        yield lab


@pytest.fixture(scope="module")
def host(lab):
    return lab.add_hypervisor()


@pytest.mark.parametrize("uefi", [False, True])
def test_a_copy_of_a_running_machine_is_defined_and_runs_beside_it(lab, host, uefi):
    machine = lab.create_vm(disks=[DiskSpec(16 * MIB), DiskSpec(16 * MIB, format="raw")], uefi=uefi)
    machine.start(host)
    live = machine.xml()
    folder = lab.root / f"copy-{uefi}"
    folder.mkdir()
    disks = {}
    for target, volume in machine.disks.items():
        copy = folder / f"{target}.{volume.format}"
        # As stale as a copy beside a writer can be: it is about the XML, not about the bytes.
        shutil.copy(volume.path, copy)
        copy.chmod(0o600)
        disks[target] = RestoredDisk(str(copy), volume.format)
    folder.chmod(0o755)
    nvram = None
    if uefi:
        nvram = str(folder / "nvram.fd")
        shutil.copy(machine.shape.nvram, nvram)
    shaped = shape_domain(
        live, disks, identity=Identity(name="the-copy", new_macs=True), nvram=nvram
    )
    connection = host.connection
    defined = connection.defineXMLFlags(shaped.xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    try:
        defined.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        assert (defined.name(), defined.UUIDString()) == (shaped.name, shaped.uuid)
        running = defined.XMLDesc(0)
        for disk in disks.values():
            assert disk.path in running
        assert machine.running
        defined.destroy()
    finally:
        flags = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM if uefi else 0
        defined.undefineFlags(flags)
        machine.destroy()


def test_the_machine_itself_comes_back(lab, host):
    machine = lab.create_vm(disks=[DiskSpec(16 * MIB)])
    machine.start(host)
    live = machine.xml()
    machine.destroy()
    disks = {
        target: RestoredDisk(str(volume.path), volume.format)
        for target, volume in machine.disks.items()
    }
    shaped = shape_domain(live, disks)
    domain = host.connection.createXML(shaped.xml, libvirt.VIR_DOMAIN_START_PAUSED)
    assert domain.UUIDString() == shaped.uuid
    domain.destroy()


@pytest.fixture
def site(lab, host):
    with Site.of(lab, host) as site:
        yield site


def test_a_machine_is_put_back_to_a_point_in_place(site, lab, host):
    vm = lab.create_vm(disks=[DiskSpec(32 * MIB), DiskSpec(16 * MIB, format="raw")])
    vm.start(host)
    vm.write("vdb", 0, 65536, 0x11)
    site.backup(vm)
    vm.write("vdb", MIB, 65536, 0x22)
    vm.discard("vdb", 0, 65536)
    point = site.backup(vm)
    vm.destroy()
    wanted = {
        target: vm.read_disk(target, lab.root / f"{target}.raw").read_bytes() for target in vm.disks
    }
    vm.start(host)
    for target in vm.disks:
        vm.write(target, 0, 4 * MIB, 0x33)
    live = vm.xml()
    vm.destroy()
    machine = parse_machine(live, power=PowerState.STOPPED, persistent=False)
    options = RestoreOptions(state_dir=site.settings.state_dir, read_back=True)
    plan = plan_restore(point, InPlace(machine))
    assert plan.disks[0].destination.stale_bitmaps
    run_restore(plan, site.repository, options=options)
    for target, content in wanted.items():
        assert vm.read_disk(target, lab.root / f"{target}.raw").read_bytes() == content
    # The bitmap told of the timeline that was left: the next backup cannot build on it.
    vm.start(host)
    after = site.backup(vm)
    vm.destroy()
    assert [image.decision.reason for image in after.disks] == [
        Reason.BITMAP_MISSING, Reason.BITMAP_MISSING, Reason.NO_BITMAP_SUPPORT,
    ]  # fmt: skip
