"""Machines of a simulated cloud on hosts of the lab: what libvirt and the images then say."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sendense_lab import MIB, Hypervisor, Lab, Volume, exact_io
from sendense_lab.commands import run
from sendense_lab.live_xml import disk_elements
from sendense_lab.simulator.lab_machines import LabMachines
from sendense_lab.simulator.machines import (
    DiskSpec,
    MachineError,
    Machines,
    MachineSpec,
    MachineState,
)
from tests.lab.bitmaps import checkpoint, dirty_bytes

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def machines(lab: Lab, host: Hypervisor, other_host: Hypervisor) -> LabMachines:
    assert host is not other_host
    return LabMachines.over(lab, boot="none")


@pytest.fixture
def pool(machines: LabMachines) -> str:
    return machines.pools()[0].id


@pytest.fixture
def spec(machines: LabMachines, pool: str) -> Iterator[MachineSpec]:
    """Root and one data disk; not started."""
    made = new_machine(machines, pool)
    yield made
    machines.stop(made.uuid, forced=True)


def new_machine(machines: LabMachines, pool: str) -> MachineSpec:
    template = machines.templates()[0]
    root = str(uuid.uuid4())
    size = machines.create_volume(pool, root, 1 * MIB, template=template.name)
    assert size == template.size
    disks = (DiskSpec(0, root, pool, root, size), new_disk(machines, pool, 1))
    macs = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    identity = str(uuid.uuid4())
    return MachineSpec(identity, f"i-9-{identity[:8]}-QA", 2, 4096, macs, disks)


def new_disk(machines: LabMachines, pool: str, device: int, size: int = 8 * MIB) -> DiskSpec:
    identity = str(uuid.uuid4())
    machines.create_volume(pool, identity, size)
    return DiskSpec(device, identity, pool, identity, size)


def info(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run(["qemu-img", "info", "-U", "--output=json", path]))
    return said


def runs_as(machines: LabMachines, spec: MachineSpec) -> MachineState:
    found = machines.state(spec.uuid)
    assert found is not None
    return found


def domains(host: Hypervisor) -> list[str]:
    return [domain.UUIDString() for domain in host.connection.listAllDomains()]


def test_a_machine_is_the_domain_that_an_agent_makes(
    machines: Machines, lab: Lab, host: Hypervisor, spec: MachineSpec
):
    machines.start(spec, host.name)
    domain = host.connection.lookupByUUIDString(spec.uuid)
    assert domain.name() == spec.name
    assert not domain.isPersistent()
    found = disk_elements(domain)
    for target, disk in zip(("vda", "vdb"), spec.disks, strict=True):
        assert found[target].findtext("serial") == disk.volume_id.replace("-", "")[:20]
        source = found[target].find(f"source[@file='{lab.pool.folder / disk.path}']")
        assert source is not None
    # S314 fears hostile XML; this is libvirt's own.
    tree = ElementTree.fromstring(domain.XMLDesc())  # noqa: S314
    assert [mac.get("address") for mac in tree.iterfind("devices/interface/mac")] == list(spec.macs)
    assert tree.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is not None
    assert info(lab.pool.folder / spec.disks[0].path)["backing-filename"] == str(
        lab.pool.template.path
    )
    with pytest.raises(MachineError):
        machines.start(spec, host.name)


def test_a_stopped_machine_is_no_domain_and_keeps_its_content(
    machines: LabMachines, host: Hypervisor, other_host: Hypervisor, spec: MachineSpec
):
    machines.start(spec, host.name)
    vm = machines.vm(spec.uuid)
    vm.write("vdb", 0, 65536, 0x42)
    machines.stop(spec.uuid)
    assert machines.state(spec.uuid) is None
    assert spec.uuid not in domains(host)
    machines.stop(spec.uuid)
    assert vm.read("vdb", 0, 65536) == b"\x42" * 65536
    machines.start(spec, other_host.name)
    assert machines.vm(spec.uuid) is vm
    assert spec.uuid in domains(other_host)


def test_a_live_migration_moves_the_domain(
    machines: LabMachines, host: Hypervisor, other_host: Hypervisor, spec: MachineSpec
):
    machines.start(spec, host.name)
    machines.snapshot_memory(spec.uuid, "before")
    machines.migrate(spec.name, other_host.name)
    assert spec.uuid not in domains(host)
    assert spec.uuid in domains(other_host)
    assert runs_as(machines, spec).host == other_host.name
    # libvirt has forgotten the snapshot, the image has not, and it can still be removed.
    machines.delete_memory_snapshot(spec.uuid, "before")
    machines.stop(spec.uuid)
    assert "snapshots" not in info(machines.volume(spec.disks[0].pool_id, spec.disks[0].path).path)
    with pytest.raises(MachineError):
        machines.migrate(spec.uuid, host.name)


def test_a_disk_comes_hot_under_the_letter_of_its_id(
    machines: LabMachines, pool: str, host: Hypervisor, spec: MachineSpec
):
    machines.start(spec, host.name)
    disk = new_disk(machines, pool, 4)
    machines.attach(spec.uuid, disk)
    assert runs_as(machines, spec).paths[4] == disk.path
    assert "vde" in disk_elements(machines.vm(spec.uuid).domain)
    machines.resize(spec.uuid, disk, 16 * MIB)
    machines.stop(spec.uuid)
    assert machines.volume(pool, disk.path).size == 16 * MIB
    machines.resize(spec.uuid, replace(disk, size=16 * MIB), 4 * MIB)
    assert machines.volume(pool, disk.path).size == 4 * MIB
    with pytest.raises(MachineError):
        machines.attach(spec.uuid, disk)
    with pytest.raises(MachineError):
        machines.start(replace(spec, disks=(*spec.disks, replace(disk, device_id=3))), host.name)


@pytest.mark.parametrize("running", [True, False])
def test_a_volume_snapshot_leaves_a_copy_and_the_bitmap(
    machines: LabMachines, pool: str, host: Hypervisor, spec: MachineSpec, *, running: bool
):
    disk = spec.disks[0]
    machines.start(spec, host.name)
    vm = machines.vm(spec.uuid)
    vm.write("vda", 0, 65536, 0x17)
    checkpoint(vm, "kept", "vda")
    if not running:
        machines.stop(spec.uuid)
    machines.snapshot_volume(spec.uuid, disk, "snap")
    copied = machines.storage.secondary(disk.volume_id, "snap")
    assert "backing-filename" not in info(copied)
    if running:
        assert runs_as(machines, spec).paths == {item.device_id: item.path for item in spec.disks}
        vm.write("vda", 1 * MIB, 65536, 0x18)
        assert dirty_bytes(vm.domain, "kept") == 65536
        machines.stop(spec.uuid)
    frozen = Volume(disk.volume_id, copied, "qcow2", disk.size)
    assert exact_io.read_offline(frozen, 0, 65536) == b"\x17" * 65536
    assert exact_io.read_offline(frozen, 1 * MIB, 65536) != b"\x18" * 65536
    template = vm.read("vda", 8 * MIB, 8 * MIB)
    assert exact_io.read_offline(frozen, 8 * MIB, 8 * MIB) == template != bytes(8 * MIB)
    machines.revert_volume(disk, "snap")
    back = machines.volume(pool, disk.path)
    assert exact_io.read_offline(back, 0, 65536) == b"\x17" * 65536
    assert exact_io.read_offline(back, 1 * MIB, 65536) != b"\x18" * 65536


@pytest.mark.parametrize("running", [True, False])
def test_a_snapshot_without_memory_changes_the_paths_for_good(
    machines: LabMachines, pool: str, host: Hypervisor, spec: MachineSpec, *, running: bool
):
    if running:
        machines.start(spec, host.name)
    now = machines.snapshot_disks(spec.uuid, spec.disks, "both")
    assert not set(now.values()) & {disk.path for disk in spec.disks}
    if running:
        assert machines.state(spec.uuid) == MachineState(host.name, now)
        machines.stop(spec.uuid)
    changed = replace(
        spec, disks=tuple(replace(disk, path=now[disk.device_id]) for disk in spec.disks)
    )
    machines.start(changed, host.name)
    found = disk_elements(machines.vm(spec.uuid).domain)
    assert found["vdb"].findtext("serial") == spec.disks[1].volume_id.replace("-", "")[:20]
    backing = info(machines.volume(pool, now[1]).path)["backing-filename"]
    assert Path(backing).name == spec.disks[1].path
    machines.stop(spec.uuid)
    machines.delete_volume(pool, now[1])
    left = {fact.path for fact in machines.files(pool)}
    assert (now[0] in left, {now[1], spec.disks[1].path} & left) == (True, set())


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("first", ["one", "two"])
def test_merged_snapshots_leave_what_was_written(
    machines: LabMachines,
    pool: str,
    host: Hypervisor,
    spec: MachineSpec,
    *,
    running: bool,
    first: str,
):
    def now(paths: dict[int, str], spec: MachineSpec) -> MachineSpec:
        return replace(
            spec, disks=tuple(replace(disk, path=paths[disk.device_id]) for disk in spec.disks)
        )

    machines.start(spec, host.name)
    vm, changed = machines.vm(spec.uuid), spec
    for number, name in enumerate(("one", "two")):
        vm.write("vdb", number * 65536, 65536, 0x21 + number)
        changed = now(machines.snapshot_disks(spec.uuid, changed.disks, name), changed)
    vm.write("vdb", 2 * 65536, 65536, 0x23)
    if not running:
        machines.stop(spec.uuid)
    middle = now(machines.merge_disks(spec.uuid if running else "", changed.disks, first), changed)
    assert (middle == changed) is (first == "one")
    second = "two" if first == "one" else "one"
    last = now(machines.merge_disks(spec.uuid if running else "", middle.disks, second), middle)
    assert last == spec
    if running:
        assert runs_as(machines, spec).paths == {disk.device_id: disk.path for disk in spec.disks}
        machines.stop(spec.uuid)
    machines.start(last, host.name)
    machines.stop(spec.uuid)
    written = vm.read("vdb", 0, 3 * 65536)
    assert written == b"".join(bytes([0x21 + number]) * 65536 for number in range(3))
    left = {fact.path for fact in machines.files(pool)}
    overlays = {disk.path for disk in (*changed.disks, *middle.disks)} - {
        d.path for d in spec.disks
    }
    assert not left & overlays


def test_files_say_what_an_import_must_know(
    machines: LabMachines, lab: Lab, pool: str, host: Hypervisor, spec: MachineSpec
):
    machines.start(spec, host.name)
    free = new_disk(machines, pool, 1)
    # The old format: making a key of LUKS takes seconds.
    secret = ["--object", "secret,id=s,data=made-up"]
    options = ["-o", "encrypt.format=aes,encrypt.key-secret=s"]
    sealed = lab.pool.folder / f"sealed-{spec.name}"
    run(["qemu-img", "create", "-q", "-f", "qcow2", *secret, *options, sealed, "1M"])
    files = {fact.path: fact for fact in machines.files(pool)}
    root, data = (files[disk.path] for disk in spec.disks)
    assert (root.locked, root.backing) == (True, str(lab.pool.template.path))
    assert (data.locked, data.backing, data.virtual_size) == (True, "", 8 * MIB)
    assert (files[free.path].locked, files[free.path].format) == (False, "qcow2")
    assert files[sealed.name].encrypted
    assert lab.pool.template.id not in files
    machines.delete_volume(pool, free.path)
    assert free.path not in {fact.path for fact in machines.files(pool)}


def test_a_volume_moves_to_another_pool(machines: LabMachines, pool: str):
    other = machines.add_pool("second")
    identity = str(uuid.uuid4())
    size = machines.create_volume(pool, identity, 0, template=machines.templates()[0].name)
    machines.migrate_volume(DiskSpec(0, identity, pool, identity, size), other.id, "moved.qcow2")
    assert identity not in {fact.path for fact in machines.files(pool)}
    (moved,) = machines.files(other.id)
    assert (moved.path, moved.backing, moved.virtual_size) == ("moved.qcow2", "", size)


def test_machines_start_side_by_side(machines: LabMachines, pool: str, host: Hypervisor):
    with ThreadPoolExecutor(max_workers=4) as several:
        specs = list(several.map(lambda _: new_machine(machines, pool), range(4)))
        list(several.map(lambda spec: machines.start(spec, host.name), specs))
        assert {spec.uuid for spec in specs} <= set(domains(host))
        list(several.map(lambda spec: machines.stop(spec.uuid), specs))
    assert not {spec.uuid for spec in specs} & set(domains(host))


def test_what_cannot_be_done_is_an_answer(
    machines: LabMachines, pool: str, host: Hypervisor, spec: MachineSpec
):
    machines.delete_volume(pool, spec.disks[1].path)
    with pytest.raises(MachineError):
        machines.start(spec, host.name)
    with pytest.raises(MachineError):
        machines.start(spec, "no-such-host")
    with pytest.raises(MachineError):
        machines.create_volume(pool, "../elsewhere", MIB)
    with pytest.raises(MachineError):
        machines.create_volume(pool, spec.disks[0].path, MIB)
    with pytest.raises(MachineError):
        machines.files("no-such-pool")
    with pytest.raises(MachineError):
        machines.reboot(spec.uuid)
