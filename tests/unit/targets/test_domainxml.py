"""The machine around restored disks: what the old run left goes, what the operator set stays."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from sendense.capture.domainxml import parse_document
from sendense.errors import Rejected
from sendense.targets.domainxml import Identity, RestoredDisk, shape_domain

UUID = "2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01"
# As libvirt 9.0 shows a running machine of CloudStack, with what else a machine may have.
LIVE = f"""
<domain type='kvm' id='7'>
  <name>i-2-10-VM</name>
  <uuid>{UUID}</uuid>
  <genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>
  <memory unit='KiB'>262144</memory>
  <currentMemory unit='KiB'>262144</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <cputune><shares>500</shares></cputune>
  <resource><partition>/machine</partition></resource>
  <sysinfo type='smbios'>
    <system>
      <entry name='manufacturer'>Apache Software Foundation</entry>
      <entry name='uuid'>{UUID}</entry>
    </system>
  </sysinfo>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/i.fd</nvram>
    <boot dev='hd'/>
    <smbios mode='sysinfo'/>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='custom' match='exact' check='full'><model fallback='forbid'>qemu64</model></cpu>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='/usr/share/systemvm.iso' index='3'/>
      <backingStore/>
      <target dev='sdc' bus='sata'/>
      <readonly/>
      <alias name='sata0-0-2'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='/mnt/pool/root' index='2'>
        <seclabel model='dac' relabel='no'/>
      </source>
      <backingStore type='file' index='4'>
        <format type='qcow2'/>
        <source file='/mnt/pool/template'/>
        <backingStore/>
      </backingStore>
      <target dev='vda' bus='virtio'/>
      <serial>abc</serial>
      <alias name='virtio-disk0'/>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <auth username='cloud'><secret type='ceph' uuid='{UUID}'/></auth>
      <source protocol='rbd' name='pool/volume' index='1'><host name='mon' port='6789'/></source>
      <target dev='vdb' bus='virtio'/>
      <alias name='ua-data'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/>
      <source network='default' portid='{UUID}' bridge='virbr0'/>
      <target dev='vnet5'/>
      <model type='virtio'/>
      <alias name='net0'/>
    </interface>
    <serial type='pty'>
      <source path='/dev/pts/3'/>
      <target type='isa-serial' port='0'><model name='isa-serial'/></target>
    </serial>
    <console type='pty' tty='/dev/pts/3'>
      <source path='/dev/pts/3'/>
      <target type='serial' port='0'/>
    </console>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-7-i-2-10-VM/a.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
    </channel>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/i-2-10-VM.org'/>
      <target type='virtio' name='org.example.0' state='disconnected'/>
    </channel>
    <graphics type='vnc' port='5901' autoport='yes' websocket='5701' listen='10.0.0.1'/>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'>
    <label>+64055:+64055</label><imagelabel>+64055:+64055</imagelabel>
  </seclabel>
  <seclabel type='static' model='apparmor'><label>mine</label></seclabel>
</domain>
"""
DISKS = {
    "vda": RestoredDisk("/restore/vda.qcow2", "qcow2"),
    "vdb": RestoredDisk("/dev/vg/vdb", "raw", block=True),
}


def shaped(disks=None, **options):
    result = shape_domain(LIVE, DISKS if disks is None else disks, **options)
    return result, parse_document(result.xml)


def test_disks_point_to_where_they_are_now():
    _, root = shaped()
    vda, vdb = (root.find(f"devices/disk/target[@dev='{name}']/..") for name in ("vda", "vdb"))
    assert (vda.get("type"), vda.find("source").attrib) == ("file", {"file": "/restore/vda.qcow2"})
    assert (vdb.get("type"), vdb.find("source").attrib) == ("block", {"dev": "/dev/vg/vdb"})
    assert vda.find("driver").attrib == {
        "name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap",
    }  # fmt: skip
    assert vda.findtext("serial") == "abc"
    assert vda.find("address") is not None
    assert list(vda.find("source")) == []
    assert vdb.find("auth") is None
    assert root.findall(".//backingStore") == []
    assert root.find("devices/disk[@device='cdrom']/source").get("file") == (
        "/usr/share/systemvm.iso"
    )


def test_what_belongs_to_the_old_run_is_gone():
    _, root = shaped()
    text = ET.tostring(root, encoding="unicode")
    for old in ("/dev/pts", "vnet5", "5901", "5701", "portid", "virbr0", "domain-7", "+64055",
                "state=", "index=", "virtio-disk0", "net0", "id=\"7\""):  # fmt: skip
        assert old not in text, old
    for kept in ("ua-data", "mine", "i-2-10-VM.org", "<shares>500", "52:54:00:00:00:01",
                 "10.0.0.1", "pc-q35-7.2"):  # fmt: skip
        assert kept in text, kept


def test_the_same_machine_keeps_who_it_is():
    result, root = shaped()
    assert (result.name, result.uuid) == ("i-2-10-VM", UUID)
    assert root.findtext("os/nvram") == "/var/lib/libvirt/qemu/nvram/i.fd"
    assert root.find("genid").text is None


def test_a_copy_is_another_machine():
    result, root = shaped(identity=Identity(name="copy", new_macs=True))
    assert result.name == "copy"
    assert result.uuid not in (UUID, "")
    assert root.findtext("sysinfo/system/entry[@name='uuid']") == result.uuid
    assert root.find("devices/interface/mac") is None
    assert "i-2-10-VM.org" not in result.xml
    assert (root.find("os/nvram").text, root.find("os/nvram").get("template")) == (
        None, "/usr/share/OVMF/OVMF_VARS.fd",
    )  # fmt: skip
    assert any("UEFI" in note for note in result.notes)


def test_a_given_uuid_is_used_and_macs_stay_unless_told():
    wanted = "11111111-1111-4111-8111-111111111111"
    result, root = shaped(identity=Identity(name="copy", uuid=wanted))
    assert result.uuid == wanted
    assert root.find("devices/interface/mac").get("address") == "52:54:00:00:00:01"


def test_restored_nvram_is_used():
    _, root = shaped(identity=Identity(name="copy"), nvram="/restore/nvram.fd")
    assert root.findtext("os/nvram") == "/restore/nvram.fd"


def test_a_disk_that_was_not_restored_is_left_out_with_a_note():
    result, root = shaped({"vda": DISKS["vda"]})
    assert root.find("devices/disk/target[@dev='vdb']") is None
    assert any("vdb" in note for note in result.notes)


def test_a_disk_that_the_machine_does_not_have():
    with pytest.raises(Rejected, match="vdz"):
        shaped({"vdz": DISKS["vda"]})


@pytest.mark.parametrize("text", ["", "<pool/>", "<!DOCTYPE a><domain/>", "<domain>"])
def test_what_is_no_domain_is_refused(text):
    with pytest.raises(Rejected):
        shape_domain(text, {})
