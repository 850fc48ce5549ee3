"""Domain XML: CloudStack's, libvirt's live one, and what others may hand us."""

from __future__ import annotations

import pytest

from sendense.capture.domainxml import agent_connected, parse_disks, parse_document, parse_machine
from sendense.errors import Rejected
from sendense.model.machine import Disk, Machine, NetworkCard, PowerState, SourceKind

POOL = "/mnt/6a5e9d0e-5a06-3a05-8b3e-4bdb1e7ff5a4"
VOLUME = "3d1a9f7c-93ff-4b9a-8bb9-9d4a2e3f6b10"
TEMPLATE = "0f9c1d52-2b6c-11ee-9d4c-1e00d8000a2b"

# The live XML of an instance as CloudStack 4.19 starts it: transient, root on a template, a
# data disk, the ISO slot, console channels; addresses and much of the shape left out.
CLOUDSTACK = f"""
<domain type='kvm' id='7'>
  <name>i-2-10-VM</name>
  <uuid>2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01</uuid>
  <description>Ubuntu 22.04</description>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='2'>8</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' secure='no' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>/var/lib/libvirt/qemu/nvram/x.fd</nvram>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='{POOL}/{VOLUME}' index='3'/>
      <backingStore type='file' index='4'>
        <format type='qcow2'/>
        <source file='{POOL}/{TEMPLATE}'/>
        <backingStore/>
      </backingStore>
      <target dev='vda' bus='virtio'/>
      <serial>3d1a9f7c93ff4b9a8bb9</serial>
      <alias name='virtio-disk0'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source dev='/dev/drbd/by-res/cs-{VOLUME}/0' index='2'/>
      <backingStore/>
      <target dev='vdb' bus='virtio'/>
      <serial>77aa</serial>
      <alias name='virtio-disk1'/>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <auth username='cloudstack'><secret type='ceph' uuid='{VOLUME}'/></auth>
      <source protocol='rbd' name='cloudstack/{VOLUME}'>
        <host name='10.1.1.1' port='6789'/>
      </source>
      <target dev='vdc' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='{POOL}/some.iso'/>
      <target dev='hdc' bus='ide'/>
      <readonly/>
    </disk>
    <disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>
    <interface type='bridge'>
      <mac address='02:00:4c:5f:00:01'/>
      <source bridge='cloudbr0'/>
      <model type='virtio'/>
    </interface>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/i-2-10-VM.org.qemu.guest_agent.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
    </channel>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
</domain>
"""


def machine(text: str) -> Machine:
    return parse_machine(text, power=PowerState.RUNNING, persistent=False)


def with_disk(disk: str) -> str:
    return f"<domain><name>a</name><uuid>u</uuid><devices>{disk}</devices></domain>"


def only_disk(disk: str) -> Disk:
    (found,) = parse_disks(with_disk(disk))
    return found.disk


def test_an_instance_of_cloudstack():
    found = machine(CLOUDSTACK)
    assert found == Machine(
        uuid="2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01",
        name="i-2-10-VM",
        power=PowerState.RUNNING,
        persistent=False,
        disks=(
            Disk(
                "vda", f"{POOL}/{VOLUME}", "qcow2", SourceKind.FILE, serial="3d1a9f7c93ff4b9a8bb9"
            ),
            Disk("vdb", f"/dev/drbd/by-res/cs-{VOLUME}/0", "raw", SourceKind.BLOCK, serial="77aa"),
            Disk("vdc", f"cloudstack/{VOLUME}", "raw", SourceKind.NETWORK),
        ),
        vcpus=2,
        memory_bytes=2 << 30,
        cards=(NetworkCard("02:00:4c:5f:00:01", "virtio", "cloudbr0"),),
        nvram="/var/lib/libvirt/qemu/nvram/x.fd",
        agent_channel=True,
        tpm=True,
    )


def test_chains_and_indexes_of_the_live_xml():
    first, second, third = parse_disks(CLOUDSTACK)
    assert first.chain == (f"{POOL}/{VOLUME}", f"{POOL}/{TEMPLATE}")
    assert (first.index, first.alias) == (3, "virtio-disk0")
    assert second.chain == (second.disk.path,)
    assert third.chain is None, "libvirt did not look, which is not the same as no backing file"
    assert third.index is None


def test_a_chain_that_is_not_closed_is_not_known():
    text = CLOUDSTACK.replace("<backingStore/>\n      </backingStore>", "</backingStore>")
    assert parse_disks(text)[0].chain is None


def test_a_status_file_of_libvirt_is_read_too():
    text = f"<domstatus state='running'><vcpus/>{CLOUDSTACK}</domstatus>"
    assert machine(text) == machine(CLOUDSTACK)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("<memory>1024</memory>", 1 << 20),
        ("<memory unit='MiB'>3</memory>", 3 << 20),
        ("<memory unit='GB'>1</memory>", 10**9),
        ("<memory unit='b'>512</memory>", 512),
        ("", 0),
    ],
)
def test_memory_has_units(text, size):
    assert machine(f"<domain>{text}</domain>").memory_bytes == size


def test_an_unknown_unit_is_not_guessed():
    with pytest.raises(Rejected, match="furlong"):
        machine("<domain><memory unit='furlong'>1</memory></domain>")


def test_the_variable_store_in_the_newer_form():
    text = "<domain><os><nvram type='file'><source file='/x.fd'/></nvram></os></domain>"
    assert machine(text).nvram == "/x.fd"


def test_a_disk_that_says_little():
    disk = only_disk("<disk type='file'><source file='/x'/><target dev='sda'/></disk>")
    assert disk == Disk("sda", "/x", "raw", SourceKind.FILE)


def test_marks_of_a_disk():
    disk = only_disk(
        "<disk type='block' device='lun'><source dev='/dev/sdx'/>"
        "<target dev='sdb' bus='scsi'/><shareable/><readonly/><serial> </serial></disk>"
    )
    assert (disk.shareable, disk.read_only, disk.serial, disk.bus) == (True, True, None, "scsi")


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("<disk type='network'><source protocol='iscsi' name='iqn.x:y/1'>", "iqn.x:y/1"),
        (
            "<disk type='network'><source protocol='nbd'><host name='h' port='10809'/>",
            "nbd:h:10809",
        ),
        (
            "<disk type='network'><source protocol='nbd'><host transport='unix' socket='/s'/>",
            "nbd:/s",
        ),
        ("<disk type='vhostuser'><source type='unix' path='/v.sock'>", "vhostuser:/v.sock"),
        ("<disk type='volume'><source pool='p' volume='v'>", "p/v"),
    ],
)
def test_a_disk_without_a_path_on_this_host_is_listed(source, path):
    disk = only_disk(f"{source}</source><target dev='vda'/></disk>")
    assert (disk.kind, disk.path, disk.holds_bitmaps) == (SourceKind.NETWORK, path, False)


def test_a_volume_that_is_resolved_is_a_file():
    text = with_disk(
        "<disk type='volume'><driver type='qcow2'/><source pool='p' volume='v'/>"
        "<target dev='vda'/></disk>"
    )
    (found,) = parse_disks(
        text, resolve_volume=lambda pool, volume: (SourceKind.FILE, f"/pools/{pool}/{volume}")
    )
    assert (found.disk.kind, found.disk.path) == (SourceKind.FILE, "/pools/p/v")
    assert found.disk.holds_bitmaps


@pytest.mark.parametrize(
    "slot",
    [
        "<disk type='file'><target dev='vda'/></disk>",
        "<disk type='file'><source/><target dev='vda'/></disk>",
        "<disk type='file' device='cdrom'><source file='/x'/><target dev='sda'/></disk>",
    ],
)
def test_an_empty_slot_and_a_cdrom_are_no_data(slot):
    assert parse_disks(with_disk(slot)) == ()


@pytest.mark.parametrize(
    ("text", "connected"),
    [
        (CLOUDSTACK, True),
        (CLOUDSTACK.replace("state='connected'", "state='disconnected'"), False),
        (CLOUDSTACK.replace("state='connected'", ""), False),
        (CLOUDSTACK.replace("guest_agent", "other"), None),
    ],
)
def test_the_agents_channel(text, connected):
    assert agent_connected(text) is connected


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE d [<!ENTITY a 'x'><!ENTITY b '&a;&a;'>]><domain><name>&b;</name></domain>",
        "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>",
        "<!DOCTYPE domain><domain/>",
    ],
)
def test_a_doctype_is_refused(text):
    with pytest.raises(Rejected, match="DOCTYPE"):
        parse_document(text)


@pytest.mark.parametrize("text", ["", "<domain>", "no xml", "<domain/><domain/>", "<a>\x00</a>"])
def test_what_is_no_xml_is_refused(text):
    with pytest.raises(Rejected, match="XML"):
        parse_document(text)


def test_another_document_of_libvirt_is_refused():
    with pytest.raises(Rejected, match="<network>"):
        machine("<network/>")
