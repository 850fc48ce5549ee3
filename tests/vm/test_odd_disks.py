"""Disks and machines that are not as most are: devices, odd names, shared, read-only, twins."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

import libvirt
import pytest

from sendense.errors import Rejected
from sendense.model.decision import Mode, Reason
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import domain_xml
from sendense_lab.lab import DiskSpec
from sendense_lab.pool import ImageFormat, Volume
from tests.vm.site import Site, crash

pytestmark = pytest.mark.vm

KIB = 1024
MIB = 1024 * KIB


def start_as(site: Site, vm: CloudVm, *changes: tuple[str, str]) -> None:
    """Start a machine from its XML with some of the text replaced."""
    xml = domain_xml(vm.shape, vm.disks)
    for old, new in changes:
        assert old in xml, old
        xml = xml.replace(old, new)
    vm.hypervisor = site.hypervisor
    site.hypervisor.connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)


def named_volume(site: Site, name: str, size: int, image_format: ImageFormat = "qcow2") -> Volume:
    path = site.lab.pool.folder / name
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, path, str(size)], check=True)
    return Volume(str(uuid.uuid4()), path, image_format, size)


def test_names_with_blanks_commas_umlauts_and_ampersands(site: Site) -> None:
    volume = named_volume(site, "Büro & Söhne, 100% 'x' #1?.qcow2", 24 * MIB)
    vm = site.lab.create_vm(disks=[DiskSpec(volume=volume)])
    vm.shape = replace(vm.shape, name="Büro-Söhne 日本")
    vm.name = vm.shape.name
    escaped = escape(str(volume.path), {"'": "&apos;"})
    start_as(site, vm, (str(volume.path), escaped))
    vm.write("vdb", 0, 1 * MIB, 1)
    site.backup(vm)
    vm.write("vdb", 0, 64 * KIB, 2)
    point = site.backup(vm)
    assert point.machine.name == vm.name
    assert {disk.decision.reason for disk in point.disks} == {Reason.USABLE}
    domain = vm.domain
    definition = site.folder / "odd.xml"
    definition.write_text(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    vm.destroy()
    site.xml_file = lambda vm: definition  # type: ignore[method-assign]
    try:
        off = site.backup(vm)
    finally:
        del site.xml_file
    assert off.mode is Mode.INCREMENTAL
    site.check_all(vm)
    site.check_clean(vm)


@contextmanager
def loop_device(site: Site, size: int) -> Iterator[Path]:
    backing = site.folder / f"loop-{uuid.uuid4()}"
    with backing.open("wb") as file:
        file.truncate(size)
    made = subprocess.run(
        ["losetup", "--find", "--show", backing], check=True, capture_output=True, text=True
    )
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
        backing.unlink()


def test_block_devices_raw_and_with_qcow2_on_them(site: Site) -> None:
    with loop_device(site, 16 * MIB) as raw, loop_device(site, 24 * MIB) as formatted:
        size = 16 * MIB
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", formatted, str(size)], check=True
        )
        vm = site.lab.create_vm(
            disks=[
                DiskSpec(volume=Volume(str(uuid.uuid4()), raw, "raw", size)),
                DiskSpec(volume=Volume(str(uuid.uuid4()), formatted, "qcow2", size)),
            ]
        )
        xml = domain_xml(vm.shape, vm.disks)
        for device in (raw, formatted):
            xml = xml.replace(f"<source file='{device}'/>", f"<source dev='{device}'/>")
        parts = xml.split("<disk type='file' device='disk'>")
        assert len(parts) == 4
        xml = "<disk type='file' device='disk'>".join(parts[:2]) + "".join(
            f"<disk type='block' device='disk'>{part}" for part in parts[2:]
        )
        definition = site.folder / "block.xml"
        definition.write_text(xml)
        vm.hypervisor = site.hypervisor
        site.hypervisor.connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
        for target in ("vdb", "vdc"):
            vm.write(target, 1 * MIB, 1 * MIB, 1)
        site.backup(vm)
        for target in ("vdb", "vdc"):
            vm.write(target, 0, 64 * KIB, 2)
            vm.discard(target, 1 * MIB, 512 * KIB)
        point = site.backup(vm)
        assert [disk.decision.reason for disk in point.disks] == [
            Reason.USABLE,
            Reason.NO_BITMAP_SUPPORT,
            Reason.USABLE,
        ]
        vm.destroy()
        site.xml_file = lambda vm: definition  # type: ignore[method-assign]
        try:
            off = site.backup(vm)
        finally:
            del site.xml_file
        assert off.mode is Mode.INCREMENTAL
        assert sum(disk.data_bytes for disk in off.disks) == 0
        site.check_all(vm)
        site.check_clean(vm)


def test_read_only_shared_and_nameless_disks_beside_a_filled_cdrom(site: Site) -> None:
    vm = site.lab.create_vm(
        disks=[DiskSpec(16 * MIB), DiskSpec(16 * MIB, format="raw"), DiskSpec(16 * MIB)]
    )
    vm.write("vdb", 0, 1 * MIB, 1)
    iso = named_volume(site, "cd.iso", 1 * MIB, "raw")
    nameless = f"<serial>{vm.disks['vde'].serial}</serial>"
    start_as(
        site,
        vm,
        ("<target dev='vdb' bus='virtio'/>", "<target dev='vdb' bus='virtio'/><readonly/>"),
        ("<target dev='vdc' bus='virtio'/>", "<target dev='vdc' bus='virtio'/><shareable/>"),
        ("<target dev='hdc'", f"<source file='{iso.path}'/><target dev='hdc'"),
        (nameless, ""),
    )
    vm.write("vdc", 0, 1 * MIB, 2)
    vm.write("vde", 0, 1 * MIB, 3)
    first = site.backup(vm)
    assert [disk.disk.target for disk in first.disks] == ["vda", "vdb", "vdc", "vde"]
    vm.write("vde", 0, 64 * KIB, 4)
    second = site.backup(vm)
    assert [disk.decision.reason for disk in second.disks] == [
        Reason.USABLE,
        Reason.NO_BITMAP_SUPPORT,
        Reason.NO_BITMAP_SUPPORT,
        Reason.USABLE,
    ]
    assert [disk.data_bytes for disk in second.disks] == [0, 0, 0, 64 * KIB]
    site.check_all(vm)
    site.check_clean(vm)


def test_disks_that_cannot_be_told_apart_are_refused(site: Site) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(16 * MIB), DiskSpec(16 * MIB)])
    start_as(site, vm, (vm.disks["vdc"].serial, vm.disks["vdb"].serial))
    with pytest.raises(Rejected, match="vdb and vdc have the same serial"):
        site.run(vm, oracle=False)
    # One of them at a time is clear; the other is never taken for it.
    vm.write("vdb", 0, 1 * MIB, 1)
    vm.write("vdc", 0, 1 * MIB, 2)
    site.backup(vm, crash(exclude=("vdc",)))
    other = site.backup(vm, crash(exclude=("vdb",)))
    assert other.disks[1].decision.reason is Reason.DISK_REPLACED
    site.check_all(vm)
    site.check_clean(vm)
