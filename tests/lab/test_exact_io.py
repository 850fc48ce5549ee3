"""Exact writes: in the right place, seen by bitmaps, and through the filter of a backup job."""

from __future__ import annotations

import os
import random
from pathlib import Path

import nbd
import pytest

from sendense_lab import MIB, CloudVm, DiskSpec, Hypervisor, Lab, LabError
from tests.lab.bitmaps import checkpoint, dirty_bytes, stored_flags

pytestmark = pytest.mark.vm

KIB = 1024


def test_running_writes_are_where_they_should_be(exact: CloudVm):
    exact.write("vdb", 64 * KIB, 512, 0x11)
    exact.write("vdb", 1 * MIB, 40 * MIB, 0x22)
    exact.discard("vdb", 2 * MIB, 1 * MIB)
    exact.write_zeroes("vdb", 4 * MIB, 64 * KIB)
    exact.write_zeroes("vdb", 5 * MIB, 64 * KIB, unmap=True)
    exact.destroy()
    content = exact.read("vdb", 0, 64 * MIB)
    wanted = bytearray(64 * MIB)
    wanted[64 * KIB : 64 * KIB + 512] = b"\x11" * 512
    wanted[1 * MIB : 41 * MIB] = b"\x22" * (40 * MIB)
    for start, length in ((2 * MIB, MIB), (4 * MIB, 64 * KIB), (5 * MIB, 64 * KIB)):
        wanted[start : start + length] = bytes(length)
    assert content == bytes(wanted)


def test_a_write_beyond_the_end_or_off_the_sectors_is_refused(exact: CloudVm):
    with pytest.raises(LabError):
        exact.write("vdb", 64 * MIB, 512)
    with pytest.raises(LabError):
        exact.write("vdb", 100, 512)


def test_bitmaps_record_running_writes(exact: CloudVm):
    checkpoint(exact, "seen", "vdb")
    assert dirty_bytes(exact.domain, "seen") == 0
    exact.write("vdb", 0, 64 * KIB)
    exact.discard("vdb", 1 * MIB, 64 * KIB)
    exact.write_zeroes("vdb", 2 * MIB, 64 * KIB)
    exact.random_fill("vdb", 3 * MIB, 64 * KIB, seed=1)
    assert dirty_bytes(exact.domain, "seen") == 4 * 64 * KIB


def test_bitmaps_record_writes_to_a_stopped_disk(exact: CloudVm, host: Hypervisor):
    checkpoint(exact, "kept", "vdb")
    exact.destroy()
    exact.write("vdb", 0, 64 * KIB)
    exact.discard("vdb", 1 * MIB, 64 * KIB)
    exact.random_fill("vdb", 8 * MIB, 1 * MIB, seed=1)
    assert stored_flags(exact, "vdb") == {"kept": ["auto"]}
    exact.start(host)
    assert dirty_bytes(exact.domain, "kept") == 2 * 64 * KIB + 1 * MIB


def test_a_write_during_a_backup_does_not_change_its_export(exact: CloudVm, host: Hypervisor):
    exact.write("vdb", 0, 64 * KIB, 0x01)
    socket = host.run_dir / "export.sock"
    scratch = host.run_dir / "vdb.scratch"
    exact.domain.backupBegin(
        f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks>"
        f"<disk name='vda' backup='no'/><disk name='vdb' backup='yes' type='file'>"
        f"<scratch file='{scratch}'/></disk></disks></domainbackup>",
        None,
        0,
    )
    exact.write("vdb", 0, 64 * KIB, 0x02)
    client = nbd.NBD()
    client.set_export_name("vdb")
    client.connect_unix(str(socket))
    frozen = bytes(client.pread(64 * KIB, 0))
    client.shutdown()
    exact.domain.abortJob()
    exact.destroy()
    assert frozen == b"\x01" * (64 * KIB)
    assert exact.read("vdb", 0, 64 * KIB) == b"\x02" * (64 * KIB)


def test_random_content_depends_on_the_seed_alone(exact: CloudVm):
    exact.random_fill("vdb", 0, 9 * MIB, seed=3)
    exact.destroy()
    exact.random_fill("vdb", 16 * MIB, 9 * MIB, seed=3)
    first, second = (exact.read("vdb", start, 9 * MIB) for start in (0, 16 * MIB))
    assert first == second
    assert first[:MIB] == random.Random(3).randbytes(8 * MIB)[:MIB]


def test_all_kinds_of_disks(lab: Lab, host: Hypervisor):
    specs = [
        DiskSpec(size=8 * MIB, format="raw"),
        DiskSpec(size=8 * MIB, cluster_size=2 * MIB),
    ]
    vm = lab.create_vm(disks=specs)
    # Letter d is the ISO's: b, c, and the next one would be e.
    assert list(vm.disks) == ["vda", "vdb", "vdc"]
    vm.start(host)
    for target in vm.disks:
        vm.write(target, 0, 4 * KIB, 0x33)
    assert vm.attach_disk(MIB) == "vde"
    vm.destroy()
    into = lab.root / "copy.raw"
    for target in ("vda", "vdb", "vdc"):
        assert vm.read_disk(target, into).read_bytes()[: 4 * KIB] == b"\x33" * (4 * KIB)
    into.unlink()


def test_writing_to_a_root_disk_leaves_the_template_alone(lab: Lab, exact: CloudVm):
    before = lab.pool.template.path.read_bytes()
    exact.write("vda", 0, 1 * MIB, 0x44)
    exact.destroy()
    assert lab.pool.template.path.read_bytes() == before


def test_the_shape_is_that_of_cloudstack(lab: Lab, exact: CloudVm):
    volume = exact.disks["vdb"]
    assert volume.path == lab.root / "mnt" / lab.pool.id / volume.id
    assert exact.name.startswith("i-2-")
    assert exact.name.endswith("-VM")
    assert not exact.domain.isPersistent()
    xml = exact.xml()
    assert f"<serial>{volume.id.replace('-', '')[:20]}</serial>" in xml
    assert "<target dev='hdc' bus='ide'" in xml
    assert "<target type='virtio' name='org.qemu.guest_agent.0'" in xml
    assert f"<source file='{lab.pool.template.path}'/>" in xml
    assert os.stat(f"/proc/{exact.pid}").st_uid == lab.user.uid  # noqa: PTH116


def test_uefi_machines_have_a_file_of_variables(lab: Lab, host: Hypervisor):
    vm = lab.create_vm(uefi=True)
    vm.start(host)
    assert vm.nvram.stat().st_size == Path("/usr/share/OVMF/OVMF_VARS_4M.fd").stat().st_size
    assert str(vm.nvram) in vm.xml()
    vm.attach_disk(MIB)
    vm.destroy()
