"""What versions differ in: APIs, parameters, snapshots of instances, imports."""

from __future__ import annotations

import pytest

from sendense_lab.simulator import PaperMachines
from sendense_lab.simulator.machines import FileFact, PoolFact
from sendense_lab.simulator.records import Instance
from tests.unit.simulator.asking import Refused, admin

GIB = 1 << 30


def apis(ask):
    return {
        api["name"]: {param["name"] for param in api["params"]} for api in ask("listApis")["api"]
    }


def test_what_each_version_knows(make):
    known = {
        version: apis(admin(make(version))) for version in ("4.18", "4.19", "4.20", "4.22", "4.23")
    }
    assert [v for v, names in known.items() if "importVm" in names] == [
        "4.19",
        "4.20",
        "4.22",
        "4.23",
    ]
    assert [v for v, names in known.items() if "importVolume" not in names] == ["4.18"]
    assert [v for v, names in known.items() if "createWebhook" in names] == ["4.20", "4.22", "4.23"]
    deploy = [v for v, names in known.items() if "volumeid" in names["deployVirtualMachine"]]
    assert deploy == ["4.22", "4.23"]
    keys = [v for v, names in known.items() if "rules" in names["registerUserKeys"]]
    assert keys == ["4.23"]
    assert "storageid" not in known["4.22"]["createVolume"]
    assert "storageid" in known["4.23"]["createVolume"]


@pytest.mark.parametrize("version", ["4.18", "4.20", "4.22", "4.23"])
def test_the_version_is_told(make, version):
    told = admin(make(version))("listCapabilities")["capability"]["cloudstackversion"]
    assert told.startswith(version + ".")


@pytest.mark.parametrize(
    ("version", "there", "absent"),
    [
        ("4.18", set(), {"domainpath", "arch", "deleteprotection"}),
        ("4.19", {"domainpath"}, {"arch", "deleteprotection"}),
        ("4.20", {"domainpath", "arch", "deleteprotection"}, set()),
    ],
)
def test_fields_of_an_instance(make, version, there, absent):
    simulator = make(version)
    simulator.add_instance("vm1")
    (vm,) = admin(simulator)("listVirtualMachines")["virtualmachine"]
    assert there <= vm.keys()
    assert not absent & vm.keys()
    assert ("isenabled" in vm["nic"][0]) is False


def refused(ask, command, **params):
    with pytest.raises(Refused) as caught:
        ask.run(command, **params)
    return caught.value


def test_a_volume_is_created_where_it_is_to_be_from_4_22_1_on(make):
    ask = admin(make("4.22.1"))
    offering = next(o["id"] for o in ask("listDiskOfferings")["diskoffering"] if o["iscustomized"])
    made = ask.run(
        "createVolume", name="d", size=1, diskofferingid=offering,
        zoneid=ask("listZones")["zone"][0]["id"],
        storageid=ask("listStoragePools")["storagepool"][1]["id"],
    )["volume"]  # fmt: skip
    assert (made["state"], made["storage"]) == ("Ready", "primary2")


def test_snapshots_of_volumes_need_a_setting_up_to_4_21(make):
    for version, allowed in (("4.20", False), ("4.22", True)):
        simulator = make(version)
        ask = admin(simulator)
        vm = simulator.add_instance("vm1")
        disk = simulator.world.root_of(vm)
        if not allowed:
            assert "kvm.snapshot.enabled" in refused(ask, "createSnapshot", volumeid=disk.id).text
            ask("updateConfiguration", name="kvm.snapshot.enabled", value="true")
        shot = ask.run("createSnapshot", volumeid=disk.id)["snapshot"]
        assert (shot["state"], disk.state) == ("BackedUp", "Ready")
        assert ask("listSnapshots", volumeid=disk.id)["count"] == 1
        assert "shutdown" in refused(ask, "revertSnapshot", id=shot["id"]).text
        ask.run("stopVirtualMachine", id=vm.id)
        ask.run("revertSnapshot", id=shot["id"])
        assert ask("listEvents", type="SNAPSHOT.REVERT", level="INFO")["count"] > 0
        ask.run("deleteSnapshot", id=shot["id"])
        assert ask("listSnapshots") == {}


def test_vm_snapshots_without_memory_before_4_21(make):
    simulator = make("4.20")
    ask = admin(simulator)
    vm = simulator.add_instance("vm1")
    assert refused(ask, "createVMSnapshot", virtualmachineid=vm.id).code == 431
    ask("updateConfiguration", name="kvm.vmstoragesnapshot.enabled", value="true")
    simulator.world.guest_agents = False
    assert "guest agent" in refused(ask, "createVMSnapshot", virtualmachineid=vm.id).text
    simulator.world.guest_agents = True
    path = simulator.world.root_of(vm).path
    shot = ask.run("createVMSnapshot", virtualmachineid=vm.id)["vmsnapshot"]
    assert (shot["type"], simulator.world.root_of(vm).path) == ("Disk", path)


def test_vm_snapshots_without_memory_from_4_21_on_move_to_new_files(make):
    simulator = make("4.22")
    ask = admin(simulator)
    vm = simulator.add_instance("vm1")
    root = simulator.world.root_of(vm)
    path = root.path
    shot = ask.run("createVMSnapshot", virtualmachineid=vm.id)["vmsnapshot"]
    assert root.path != path
    assert simulator.machines.state(vm.instance_name).paths[0] == root.path
    assert "VM snapshots" in refused(ask, "createSnapshot", volumeid=root.id).text
    ask.run("deleteVMSnapshot", vmsnapshotid=shot["id"])
    assert root.path == path
    ask.run("createSnapshot", volumeid=root.id)
    assert "volume snapshots" in refused(ask, "createVMSnapshot", virtualmachineid=vm.id).text


def test_with_memory_only_while_it_runs(make):
    simulator = make()
    ask = admin(simulator)
    vm = simulator.add_instance("vm1", running=False)
    memory = {"virtualmachineid": vm.id, "snapshotmemory": "true"}
    assert refused(ask, "createVMSnapshot", **memory).code == 431
    ask.run("startVirtualMachine", id=vm.id)
    ask.run("createVMSnapshot", **memory)
    disk = {"id": simulator.world.root_of(vm).id}
    for command, more in (("detachVolume", {}), ("resizeVolume", {"size": 5})):
        assert "VM snapshots" in refused(ask, command, **disk, **more).text


FILES = {
    "good": FileFact("good", "qcow2", 100, GIB),
    "based": FileFact("based", "qcow2", 100, GIB, backing="template"),
    "secret": FileFact("secret", "qcow2", 100, GIB, encrypted=True),
    "used": FileFact("used", "qcow2", 100, GIB, locked=True),
}


def with_files(simulator):
    pool = simulator.machines.pools()[0].id
    for fact in FILES.values():
        simulator.machines.add_file(pool, fact)
    return pool


def test_importing_a_volume(make):
    simulator = make("4.20")
    ask = admin(simulator)
    vm = simulator.add_instance("vm1", running=False)
    pool = with_files(simulator)
    found = ask("listVolumesForImport", storageid=pool)["volumeforimport"]
    assert {row["path"] for row in found} == set(FILES)
    for path, reason in (("based", "backing"), ("secret", "encrypted"), ("used", "locked")):
        assert reason in refused(ask, "importVolume", path=path, storageid=pool).text
    known = simulator.world.root_of(vm)
    assert "already" in refused(ask, "importVolume", path=known.path, storageid=known.pool_id).text
    assert "not found" in refused(ask, "importVolume", path="nothing", storageid=pool).text
    disk = ask.run("importVolume", path="good", storageid=pool, name="back")["volume"]
    assert (disk["state"], disk["path"], disk["size"]) == ("Ready", "good", GIB)
    assert "good" not in {
        row["path"] for row in ask("listVolumesForImport", storageid=pool)["volumeforimport"]
    }
    ask.run("attachVolume", id=disk["id"], virtualmachineid=vm.id)
    assert "attached" in refused(ask, "unmanageVolume", id=disk["id"]).text


def test_importing_an_instance(make):
    simulator = make("4.19")
    ask = admin(simulator)
    pool = with_files(simulator)
    given = {
        "name": "back", "zoneid": ask("listZones")["zone"][0]["id"], "importsource": "shared",
        "hypervisor": "KVM", "storageid": pool, "diskpath": "good",
        "clusterid": ask("listClusters")["cluster"][0]["id"],
        "serviceofferingid": ask("listServiceOfferings")["serviceoffering"][0]["id"],
        "networkid": ask("listNetworks")["network"][0]["id"],
    }  # fmt: skip
    vm = ask.run("importVm", **given)["virtualmachine"]
    assert (vm["state"], len(vm["nic"])) == ("Stopped", 1)
    assert simulator.world.root_of(simulator.world.get(Instance, vm["id"])).path == "good"
    assert ask.run("startVirtualMachine", id=vm["id"])["virtualmachine"]["state"] == "Running"


@pytest.mark.parametrize(("version", "taken"), [("4.20", False), ("4.22", False), ("4.22.1", True)])
def test_which_pools_can_be_imported_from(make, version, taken):
    pools = (PoolFact("5b6d2c44-7d55-3f6c-9e4f-6a1f0f9d3a09", "mounted", "SharedMountPoint", "/m"),)
    simulator = make(version, machines=PaperMachines(pools=pools))
    ask = admin(simulator)
    pool = with_files(simulator)
    if taken:
        assert ask.run("importVolume", path="good", storageid=pool)["volume"]["path"] == "good"
    else:
        assert "SharedMountPoint" in refused(ask, "importVolume", path="good", storageid=pool).text


def test_from_4_18_nothing_is_imported(make):
    simulator = make("4.18")
    answer = admin(simulator).send(admin(simulator).signed("importVolume"))
    assert answer.status == 401
