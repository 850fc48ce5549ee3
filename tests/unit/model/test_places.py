"""Where volumes lie, and the XML of a machine that is off: it reads back as the same machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.capture.domains import machine_from_text
from sendense.errors import Rejected, Unsupported
from sendense.model.machine import SourceKind
from sendense.model.places import NoPlace, Place, domain_xml_of, place_of, target_of
from tests.support.cloud_plans import POOL, POOLS, a_nic, a_pool, a_volume, an_instance, machine_of


@pytest.mark.parametrize(
    ("kind", "path", "wanted"),
    [
        ("NetworkFilesystem", "/export", f"/mnt/{POOL}/v"),
        ("Filesystem", "/var/lib/libvirt/images", "/var/lib/libvirt/images/v"),
        ("Filesystem", "/var/lib/libvirt/images/", "/var/lib/libvirt/images/v"),
        ("SharedMountPoint", "/srv/gfs", "/srv/gfs/v"),
    ],
)
def test_a_pool_of_files_gives_the_path(kind, path, wanted):
    place = place_of(a_volume(path="v"), a_pool(kind=kind, path=path))
    assert isinstance(place, Place)
    assert place.path == wanted
    assert "nfs1" in place.reason


@pytest.mark.parametrize("kind", ["RBD", "Linstor", "PowerFlex", "CLVM", "SomethingNew", ""])
def test_other_pools_have_a_reason(kind):
    place = place_of(a_volume(), a_pool(kind=kind))
    assert isinstance(place, NoPlace)
    assert "nfs1" in place.reason
    assert "NetworkFilesystem" in place.hint


@pytest.mark.parametrize(
    ("volume", "pool", "words"),
    [
        (a_volume(path="../../etc/shadow"), a_pool(), "no file inside"),
        (a_volume(path="/etc/shadow"), a_pool(), "no file inside"),
        (a_volume(path="a/../../b"), a_pool(), "no file inside"),
        (a_volume(path="a\nb"), a_pool(), "no file inside"),
        (a_volume(), a_pool(id="../etc"), "no file inside"),
        (a_volume(), a_pool(kind="Filesystem", path=""), "no path"),
        (a_volume(), a_pool(kind="Filesystem", path="/a/../b"), "no file inside"),
        (a_volume(path=""), a_pool(), "does not say"),
        (a_volume(path="", state="Allocated"), a_pool(), "no file yet"),
        (a_volume(), None, "not known"),
    ],
)
def test_what_is_no_place(volume, pool, words):
    place = place_of(volume, pool)
    assert isinstance(place, NoPlace)
    assert words in place.reason
    assert place.hint


@pytest.mark.parametrize(
    ("device", "bus", "target"),
    [(0, "virtio", "vda"), (1, "virtio", "vdb"), (2, "virtio", "vdc"), (4, "virtio", "vde"),
     (26, "virtio", "vdaa"), (1, "scsi", "sdb"), (0, "ide", "hda"), (1, "ide", "hdd")],
)  # fmt: skip
def test_targets_follow_the_device_id(device, bus, target):
    assert target_of(device, bus) == target


def test_the_xml_is_the_machine():
    instance = an_instance(
        a_volume(), a_volume(4), a_volume(2), state="Stopped", nics=(a_nic(), a_nic(1))
    )
    machine = machine_from_text(domain_xml_of(instance, POOLS), source="here")
    by_target = sorted(machine_of(instance).disks, key=lambda disk: disk.target)
    assert machine == machine_of(instance, *by_target)


def test_names_are_escaped():
    instance = an_instance(
        a_volume(path="a<b>&\"c'"), state="Stopped", nics=(a_nic(network="<&>\"'"),)
    )
    machine = machine_from_text(domain_xml_of(instance, POOLS), source="here")
    assert machine == machine_of(instance)


def test_a_uefi_machine_has_its_variables():
    instance = an_instance(state="Stopped", boot_type="UEFI", boot_mode="Secure")
    machine = machine_from_text(domain_xml_of(instance, POOLS), source="here")
    assert machine.nvram == f"/var/lib/libvirt/qemu/nvram/{instance.id}.fd"


def test_what_a_host_showed_last_gives_format_and_bus():
    instance = an_instance(state="Stopped")
    root, data = machine_of(instance).disks
    seen = machine_of(instance, root, replace(data, format="raw", bus="scsi"))
    machine = machine_from_text(domain_xml_of(instance, POOLS, like=seen), source="here")
    assert [(disk.target, disk.format, disk.bus) for disk in machine.disks] == [
        ("vda", "qcow2", "virtio"),
        ("sdb", "raw", "scsi"),
    ]


def test_a_disk_that_lies_elsewhere_now_is_another_image():
    """A raw volume that was moved to a pool of files is a qcow2 image there."""
    instance = an_instance(state="Stopped")
    root, data = machine_of(instance).disks
    before = replace(data, format="raw", path="/dev/vg/data", kind=SourceKind.BLOCK, bus="scsi")
    seen = machine_of(instance, root, before)
    machine = machine_from_text(domain_xml_of(instance, POOLS, like=seen), source="here")
    assert [(disk.format, disk.bus) for disk in machine.disks] == [
        ("qcow2", "virtio"),
        ("qcow2", "scsi"),
    ]


def test_only_some_volumes():
    instance = an_instance(state="Stopped")
    xml = domain_xml_of(instance, POOLS, only=[instance.volumes[1].id])
    assert [disk.target for disk in machine_from_text(xml, source="here").disks] == ["vdb"]


def test_an_iso_is_no_disk():
    instance = an_instance(a_volume(), a_volume(3, kind="ISO"), state="Stopped")
    assert len(machine_from_text(domain_xml_of(instance, POOLS), source="here").disks) == 1


def test_all_reasons_at_once():
    instance = an_instance(
        a_volume(encryption="LUKS2"),
        a_volume(1, path=""),
        replace(a_volume(2), device_id=None),
        a_volume(4),
        replace(a_volume(5), device_id=4),
        domain_name="",
    )
    with pytest.raises(Unsupported) as caught:
        domain_xml_of(instance, POOLS)
    for words in ("encrypted", "vol-1", "no device id", "device id 4", "libvirt names it"):
        assert words in caught.value.message


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\ud800"])
def test_control_characters_are_refused(name):
    with pytest.raises(Rejected):
        domain_xml_of(an_instance(domain_name=name), POOLS)
