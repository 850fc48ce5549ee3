"""An API in front of real hosts: what it says happened, libvirt and qemu-img show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sendense_lab.cluster.cluster import Cluster
from sendense_lab.commands import run
from sendense_lab.live_xml import disk_elements
from sendense_lab.pool import MIB
from sendense_lab.simulator import Simulator
from sendense_lab.simulator.lab_machines import LabMachines
from tests.cluster.cloud_caller import CloudCaller

GIB = 1 << 30
IMPORTED = 64 * MIB


class Cloud:
    """A simulated cloud over a cluster, and a look at it from both sides."""

    def __init__(self, site: Cluster, machines: LabMachines, simulator: Simulator) -> None:
        self.site = site
        self.machines = machines
        keys = simulator.admin_keys
        self.api = CloudCaller(simulator.url, keys.api_key, keys.secret)
        self.zone = self.api.one("listZones")["id"]
        self.pool = self.api.one("listStoragePools")
        self.hosts = {host["name"]: host["id"] for host in self.api.rows("listHosts")}
        self.network = self.named("listNetworks", "shared1")
        self.offering = self.named("listServiceOfferings", "Small Instance")
        self.custom_disk = self.named("listDiskOfferings", "Custom")

    def named(self, command: str, name: str, **params: str) -> str:
        rows = self.api.rows(command, listall="true", **params)
        found: str = next(row["id"] for row in rows if row["name"] == name)
        return found

    def deploy(self, name: str, host: str) -> dict[str, Any]:
        return self.api.run(
            "deployVirtualMachine",
            name=name,
            serviceofferingid=self.offering,
            templateid=self.named("listTemplates", "Lab guest", templatefilter="all"),
            zoneid=self.zone,
            networkids=self.network,
            hostid=self.hosts[host],
        )

    def file(self, volume: dict[str, Any]) -> Path:
        """Where a host finds a volume, by nothing but the API."""
        assert self.pool["type"] == "NetworkFilesystem"
        return Path("/mnt", self.pool["id"], volume["path"])

    def volumes(self, machine: str) -> list[dict[str, Any]]:
        rows = self.api.rows("listVolumes", virtualmachineid=machine, listall="true")
        return sorted(rows, key=lambda row: row["deviceid"])

    def domain(self, machine: str) -> Any:
        """The domain, and that it is on the host of which the API says so."""
        said = self.api.one("listVirtualMachines", id=machine, listall="true")
        assert said["state"] == "Running"
        for host in self.site.hosts.values():
            for domain in host.connection.listAllDomains():
                if domain.UUIDString() == machine:
                    assert (host.name, domain.name()) == (said["hostname"], said["instancename"])
                    return domain
        raise AssertionError(f"no host has {machine}")

    def is_no_domain(self, machine: str) -> bool:
        return not any(
            domain.UUIDString() == machine
            for host in self.site.hosts.values()
            for domain in host.connection.listAllDomains()
        )


@pytest.fixture(scope="module")
def cloud(site: Cluster) -> Iterator[Cloud]:
    machines = LabMachines.over(site)
    with Simulator(machines, version="4.22") as simulator:
        yield Cloud(site, machines, simulator)


@pytest.fixture(scope="module")
def pair(cloud: Cloud) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Two instances that boot side by side."""
    pair = (cloud.deploy("web1", "kvm1"), cloud.deploy("db1", "kvm1"))
    yield pair
    for machine in pair:
        if cloud.machines.state(machine["id"]) is not None:
            cloud.machines.stop(machine["id"], forced=True)


def info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(["qemu-img", "info", "-U", "--output=json", path]))
    return found


def source_of(domain: Any, target: str) -> str:
    source = disk_elements(domain)[target].find("source")
    assert source is not None
    return str(source.get("file"))


def test_an_instance_is_a_domain_where_the_api_says(cloud: Cloud, pair):
    for machine in pair:
        domain = cloud.domain(machine["id"])
        (root,) = cloud.volumes(machine["id"])
        assert source_of(domain, "vda") == str(cloud.file(root))
        assert disk_elements(domain)["vda"].findtext("serial") == root["id"].replace("-", "")[:20]
        template = info(cloud.file(root))["backing-filename"]
        assert Path(template).parent == cloud.file(root).parent
        assert not domain.isPersistent()


def test_power_and_moves(cloud: Cloud, pair):
    machine = pair[0]["id"]
    first = cloud.domain(machine).ID()
    cloud.api.run("stopVirtualMachine", id=machine)
    assert cloud.is_no_domain(machine)
    cloud.api.run("startVirtualMachine", id=machine, hostid=cloud.hosts["kvm1"])
    assert cloud.domain(machine).ID() != first
    cloud.api.run("migrateVirtualMachine", virtualmachineid=machine, hostid=cloud.hosts["kvm2"])
    domain = cloud.domain(machine)
    assert domain.connect().getURI() == cloud.site.hosts["kvm2"].connection.getURI()


def test_a_data_disk_comes_grows_and_goes(cloud: Cloud, pair):
    machine = pair[0]["id"]
    disk = cloud.api.run(
        "createVolume", name="data", zoneid=cloud.zone, diskofferingid=cloud.custom_disk, size=1
    )
    cloud.api.run("attachVolume", id=disk["id"], virtualmachineid=machine)
    _, disk = cloud.volumes(machine)
    domain = cloud.domain(machine)
    assert source_of(domain, "vdb") == str(cloud.file(disk))
    vm = cloud.machines.vm(machine)
    vm.write("vdb", 0, MIB, 0x33)
    cloud.api.run("createSnapshot", volumeid=disk["id"])
    assert source_of(domain, "vdb") == str(cloud.file(disk))
    (copied,) = (cloud.site.root / "secondary/snapshots" / disk["id"]).iterdir()
    assert "backing-filename" not in info(copied)
    run(["qemu-io", "-r", "-f", "qcow2", "-c", f"read -P 0x33 0 {MIB}", copied])
    cloud.api.run("resizeVolume", id=disk["id"], size=2)
    assert domain.blockInfo("vdb")[0] == 2 * GIB
    vm.guest.wait_ready()
    cloud.api.run("detachVolume", id=disk["id"])
    assert "vdb" not in disk_elements(domain)
    assert info(cloud.file(disk))["virtual-size"] == 2 * GIB
    cloud.api.call("deleteVolume", id=disk["id"])
    assert not cloud.file(disk).exists()


def test_vm_snapshots(cloud: Cloud, pair):
    machine = pair[1]["id"]
    (root,) = cloud.volumes(machine)
    taken = cloud.api.run("createVMSnapshot", virtualmachineid=machine, snapshotmemory="true")
    assert len(info(cloud.file(root))["snapshots"]) == 1
    cloud.api.run("deleteVMSnapshot", vmsnapshotid=taken["id"])
    assert "snapshots" not in info(cloud.file(root))
    taken = cloud.api.run("createVMSnapshot", virtualmachineid=machine, snapshotmemory="false")
    (now,) = cloud.volumes(machine)
    assert (now["id"], now["path"] != root["path"]) == (root["id"], True)
    assert source_of(cloud.domain(machine), "vda") == str(cloud.file(now))
    assert info(cloud.file(now))["backing-filename"] == str(cloud.file(root))
    cloud.api.run("deleteVMSnapshot", vmsnapshotid=taken["id"])
    assert cloud.volumes(machine)[0]["path"] == root["path"]
    assert source_of(cloud.domain(machine), "vda") == str(cloud.file(root))
    assert not cloud.file(now).exists()


def test_images_are_imported_and_expunged(cloud: Cloud):
    folder = cloud.site.pool.folder
    for name in ("restored-root", "restored-data"):
        run(["qemu-img", "convert", "-O", "qcow2", cloud.site.pool.template.path, folder / name])
    files = {
        fact["path"] for fact in cloud.api.rows("listVolumesForImport", storageid=cloud.pool["id"])
    }
    assert {"restored-root", "restored-data"} <= files
    machine = cloud.api.run(
        "importVm",
        name="restored",
        importsource="shared",
        hypervisor="KVM",
        zoneid=cloud.zone,
        clusterid=cloud.pool["clusterid"],
        storageid=cloud.pool["id"],
        diskpath="restored-root",
        networkid=cloud.network,
        serviceofferingid=cloud.offering,
    )["id"]
    data = cloud.api.run(
        "importVolume",
        name="data",
        storageid=cloud.pool["id"],
        path="restored-data",
        diskofferingid=cloud.custom_disk,
    )
    cloud.api.run("attachVolume", id=data["id"], virtualmachineid=machine)
    assert cloud.is_no_domain(machine)
    cloud.api.run("startVirtualMachine", id=machine)
    domain = cloud.domain(machine)
    assert source_of(domain, "vda") == str(folder / "restored-root")
    assert source_of(domain, "vdb") == str(folder / "restored-data")
    assert disk_elements(domain)["vdb"].findtext("serial") == data["id"].replace("-", "")[:20]
    cloud.api.run("stopVirtualMachine", id=machine, forced="true")
    cloud.api.run("detachVolume", id=data["id"])
    cloud.api.run("destroyVirtualMachine", id=machine, expunge="true")
    assert cloud.is_no_domain(machine)
    assert not (folder / "restored-root").exists()
    assert (folder / "restored-data").exists()
