"""What can happen to a VM: power, crash, migration, snapshots, and faults of its host."""

from __future__ import annotations

import pytest

from sendense_lab import MIB, CloudVm, Hypervisor, Lab
from tests.lab.bitmaps import checkpoint, dirty_bytes, stored_flags

pytestmark = pytest.mark.vm


def test_destroy_saves_bitmaps_and_kill9_does_not(exact: CloudVm, host: Hypervisor):
    checkpoint(exact, "mark", "vdb")
    exact.destroy()
    assert stored_flags(exact, "vdb") == {"mark": ["auto"]}
    exact.start(host)
    exact.kill9()
    assert stored_flags(exact, "vdb") == {"mark": ["in-use", "auto"]}


def test_migration_takes_bitmaps_along_and_forgets_checkpoints(
    exact: CloudVm, host: Hypervisor, other_host: Hypervisor
):
    checkpoint(exact, "travels", "vdb")
    exact.write("vdb", 0, 65536)
    assert len(exact.domain.listAllCheckpoints()) == 1
    exact.migrate(other_host)
    assert exact.uuid not in [d.UUIDString() for d in host.connection.listAllDomains()]
    assert exact.domain.listAllCheckpoints() == []
    assert dirty_bytes(exact.domain, "travels") == 65536
    exact.write("vdb", MIB, 65536)
    exact.migrate(host)
    assert dirty_bytes(exact.domain, "travels") == 2 * 65536


def test_a_guest_lives_through_migration_save_and_a_dead_libvirtd(
    booted: CloudVm, host: Hypervisor, other_host: Hypervisor, lab: Lab
):
    booted.guest.write_files("vdb", seed=2)
    up_since = booted.guest.exec(["cat", "/proc/sys/kernel/random/boot_id"])
    booted.migrate(other_host)
    saved = lab.root / "saved"
    booted.save(saved)
    assert not booted.running
    booted.restore(saved, host)
    saved.unlink()
    host.kill()
    host.start()
    booted.guest.wait_ready()
    assert booted.guest.exec(["cat", "/proc/sys/kernel/random/boot_id"]) == up_since
    booted.guest.verify_files()


def test_disks_come_grow_and_go_under_a_guest(booted: CloudVm):
    target = booted.attach_disk(16 * MIB)
    booted.guest.exec(["sh", "-c", f"until [ -e /sys/block/{target} ]; do sleep 0.1; done"])
    assert f"LAB-MADE-FS {target}" in booted.guest.mount_disks()
    booted.resize_disk(target, 32 * MIB)
    sectors = booted.guest.exec(["cat", f"/sys/block/{target}/size"])
    assert int(sectors) * 512 == 32 * MIB
    booted.guest.exec(["umount", f"/data/{target}"])
    booted.detach_disk(target)
    assert target not in booted.disks
    assert f"dev='{target}'" not in booted.xml()


def test_external_snapshot_and_commit_keep_content_and_bitmap(exact: CloudVm):
    path = exact.disks["vdb"].path
    checkpoint(exact, "through", "vdb")
    frozen = exact.snapshot_disk("vdb")
    assert frozen == path
    assert exact.disks["vdb"].path != path
    exact.write("vdb", MIB, 65536, 0x55)
    exact.commit_disk("vdb", frozen)
    assert exact.disks["vdb"].path == path
    assert dirty_bytes(exact.domain, "through") == 65536
    exact.destroy()
    assert exact.read("vdb", MIB, 65536) == b"\x55" * 65536


def test_memory_snapshot(exact: CloudVm):
    exact.snapshot_memory("with-memory")
    assert [item.getName() for item in exact.domain.listAllSnapshots()] == ["with-memory"]


def test_a_host_without_power_loses_everything_at_once(lab: Lab):
    host = lab.add_hypervisor("h9")
    vm = lab.create_vm()
    vm.start(host)
    checkpoint(vm, "lost", "vdb")
    vm.write("vdb", 0, 512, 0x66)
    host.power_off()
    host.start()
    assert not vm.running
    assert stored_flags(vm, "vdb") == {}
    vm.start(host)
    host.close()
