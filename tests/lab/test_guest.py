"""The guest: agent, files, freeze, and the faults an agent can have."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid

import pytest

from sendense_lab import CloudVm, DiskSpec, GuestFailed, Hypervisor, Lab, Volume
from sendense_lab.commands import wait_until
from sendense_lab.guest_content import file_content

pytestmark = pytest.mark.vm


def copied(lab: Lab, volume: Volume) -> Volume:
    path = lab.pool.folder / str(uuid.uuid4())
    shutil.copy(volume.path, path)
    return lab.pool.adopt(path)


def test_freezes_all_file_systems_and_thaws_them(booted: CloudVm):
    assert booted.guest.freeze() == 2
    assert booted.guest.freeze_status() == "frozen"
    assert booted.guest.thaw() == 2
    assert booted.guest.freeze_status() == "thawed"


def test_template_files_are_on_the_root_disk(booted: CloudVm):
    assert "LAB-VERIFY vda files=24 bad=0" in booted.guest.verify_files()


def test_files_have_the_content_that_python_computes(booted: CloudVm):
    booted.guest.write_files("vdb", count=2, kib=1300, seed=5)
    wanted = hashlib.sha256(file_content(5, 2, 1300)).hexdigest()
    assert booted.guest.exec(["sha256sum", "/data/vdb/f5-2"]).startswith(wanted)


def test_verify_finds_a_damaged_file(booted: CloudVm):
    booted.guest.write_files("vdb", count=3, kib=64, seed=6)
    damage = "dd if=/dev/urandom of=/data/vdb/f6-2 bs=4096 seek=3 count=1 conv=notrunc"
    booted.guest.exec(["sh", "-c", damage])
    with pytest.raises(GuestFailed, match="f6-2: FAILED"):
        booted.guest.verify_files()
    booted.guest.write_files("vdb", count=3, kib=64, seed=6)
    booted.guest.verify_files()


def test_verify_holds_while_a_writer_is_at_work(booted: CloudVm):
    booted.guest.start_churn("vdb", kib=32, pause_s=0)
    time.sleep(1)
    assert "RESULT OK" in booted.guest.verify_files()
    booted.guest.stop_churn("vdb")


def test_trim_gives_space_back_to_the_image(booted: CloudVm):
    booted.guest.lab("zero", "vdb", 16 * 1024, "big")
    before = booted.disks["vdb"].path.stat().st_blocks
    booted.guest.exec(["sh", "-c", "cd /data/vdb && sed -i '/  big$/d' SUMS && rm big && sync"])
    booted.guest.trim("vdb")
    freed = (before - booted.disks["vdb"].path.stat().st_blocks) * 512
    assert freed > 8 << 20


def test_a_hanging_agent_answers_later(booted: CloudVm):
    booted.guest.hang_agent(2)
    assert not booted.guest.ping(timeout_s=1)
    booted.guest.wait_ready(timeout_s=120)


def test_a_stopped_agent_comes_back(booted: CloudVm):
    booted.guest.stop_agent(1)
    assert not booted.guest.ping()
    booted.guest.wait_ready(timeout_s=120)


def test_a_copy_of_the_disks_verifies_itself_at_boot(lab: Lab, host: Hypervisor, booted: CloudVm):
    booted.guest.write_files("vdb", count=2, kib=64, seed=8)
    booted.guest.freeze()
    root, data = (copied(lab, booted.disks[target]) for target in ("vda", "vdb"))
    booted.guest.thaw()
    vm = lab.create_vm(
        boot="guest", root=root, disks=[DiskSpec(volume=data)], options=["lab.verify=1"]
    )
    vm.start(host)
    said = wait_until(
        lambda: vm.console.read_text() if "LAB-IDLE" in vm.console.read_text() else None,
        "the end of the guest's start",
        timeout_s=120,
    )
    vm.destroy()
    assert "LAB-VERIFY-RESULT OK" in said
    assert "LAB-MADE-FS" not in said


def test_power_button_stops_the_guest_in_order(lab: Lab, host: Hypervisor):
    vm = lab.create_vm(boot="guest", options=["lab.run=write:vdb:2:16:1"])
    vm.start(host)
    vm.guest.wait_ready()
    vm.stop()
    assert not vm.running
    assert "Power down" in vm.console.read_text()
