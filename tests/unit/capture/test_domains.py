"""Finding machines: by libvirt's own test driver, and by XML files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendense.capture.connection import open_host
from sendense.capture.domains import (
    find_domain,
    list_machines,
    machine_from_xml,
    machine_of,
    power_state,
)
from sendense.errors import NotFound, Rejected
from sendense.model.machine import PowerState, SourceKind

UUID = "2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01"
XML = f"""<domain type='test'><name>i-2-10-VM</name><uuid>{UUID}</uuid><memory>1024</memory>
<os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver type='qcow2'/><source file='/x'/><target dev='vda'/></disk>
<disk type='volume'><source pool='default-pool' volume='v1'/><target dev='vdb'/></disk>
</devices></domain>"""


@pytest.fixture
def connection():
    with open_host("test:///default") as connection:
        yield connection


def test_machines_that_run_and_that_are_only_defined(connection):
    connection.defineXML(XML)
    machines = list_machines(connection)
    assert [(machine.name, machine.power) for machine in machines] == [
        ("i-2-10-VM", PowerState.STOPPED),
        ("test", PowerState.RUNNING),
    ]
    assert machines[0].persistent


@pytest.mark.parametrize("name", ["i-2-10-VM", UUID, UUID.upper()])
def test_found_by_name_and_by_uuid(connection, name):
    connection.defineXML(XML)
    assert machine_of(find_domain(connection, name)).uuid == UUID


def test_a_name_that_looks_like_a_uuid_is_found(connection):
    other = "11111111-6f0a-4d0e-9d3e-0d1f5a1c0b01"
    connection.defineXML(XML.replace("i-2-10-VM", other))
    assert find_domain(connection, other).UUIDString() == UUID


def test_near_names_are_offered(connection):
    with pytest.raises(NotFound) as caught:
        find_domain(connection, "tets")
    assert caught.value.hint == "did you mean test?"
    with pytest.raises(NotFound) as caught:
        find_domain(connection, "i-99-99-VM")
    assert "XML file" in (caught.value.hint or "")


def test_power(connection):
    domain = find_domain(connection, "test")
    assert power_state(domain) is PowerState.RUNNING
    domain.suspend()
    assert power_state(domain) is PowerState.PAUSED
    domain.destroy()
    assert power_state(domain) is PowerState.STOPPED


def test_a_pools_volume_has_a_path(connection):
    pool = connection.storagePoolLookupByName("default-pool")
    pool.createXML("<volume><name>v1</name><capacity>1024</capacity></volume>", 0)
    connection.defineXML(XML)
    disk = machine_of(find_domain(connection, UUID)).disks[1]
    assert (disk.kind, disk.path) == (SourceKind.FILE, "/default-pool/v1")


def test_a_volume_of_no_pool_is_listed_by_its_name(connection):
    connection.defineXML(XML.replace("default-pool", "gone"))
    disk = machine_of(find_domain(connection, UUID)).disks[1]
    assert (disk.kind, disk.path) == (SourceKind.NETWORK, "gone/v1")


def test_a_machine_from_its_file(tmp_path):
    path = tmp_path / "vm.xml"
    path.write_text(XML)
    machine = machine_from_xml(path)
    assert (machine.uuid, machine.power, machine.persistent) == (UUID, PowerState.STOPPED, False)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"<domain><name>x</name></domain>", "no <uuid>"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"not xml", "well-formed"),
        (b" " * (5 << 20), "too large"),
    ],
)
def test_a_file_that_is_no_domain_is_refused(tmp_path, content, complaint):
    path = tmp_path / "vm.xml"
    path.write_bytes(content)
    with pytest.raises(Rejected, match=complaint):
        machine_from_xml(path)


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(NotFound, match="there is no file"):
        machine_from_xml(tmp_path / "missing.xml")
    with pytest.raises(Rejected, match="is a folder"):
        machine_from_xml(Path(tmp_path))
