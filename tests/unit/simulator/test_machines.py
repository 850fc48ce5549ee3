"""What happens to instances, their volumes and their hosts."""

from __future__ import annotations

import pytest

from sendense_lab.simulator.records import Host, Instance, Pool, Volume
from tests.unit.simulator.asking import Refused, account, admin

GIB = 1 << 30


def refused(ask, command, **params):
    with pytest.raises(Refused) as caught:
        ask.run(command, **params)
    return caught.value


def offering(ask, *, custom=True):
    rows = ask("listDiskOfferings")["diskoffering"]
    return next(row["id"] for row in rows if row["iscustomized"] is custom)


def new_volume(ask, size=1):
    zone = ask("listZones")["zone"][0]["id"]
    return ask.run(
        "createVolume", name="data", zoneid=zone, size=size, diskofferingid=offering(ask)
    )["volume"]  # fmt: skip


def test_start_stop_reboot_and_move(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    started = ask.run("startVirtualMachine", id=vm.id)["virtualmachine"]
    assert simulator.machines.state(vm.instance_name).host == started["hostname"]
    assert ask.run("rebootVirtualMachine", id=vm.id)["virtualmachine"]["state"] == "Running"
    target = next(host for host in simulator.world.all(Host) if host.id != vm.host_id)
    moved = ask.run("migrateVirtualMachine", virtualmachineid=vm.id, hostid=target.id)
    assert moved["virtualmachine"]["hostname"] == target.name
    assert simulator.machines.state(vm.instance_name).host == target.name
    stopped = ask.run("stopVirtualMachine", id=vm.id)["virtualmachine"]
    assert (stopped["state"], "hostid" in stopped) == ("Stopped", False)
    assert simulator.machines.state(vm.instance_name) is None
    again = ask.run("startVirtualMachine", id=vm.id)["virtualmachine"]
    assert again["hostname"] == target.name
    assert refused(ask, "startVirtualMachine", id=vm.id).code == 431


def test_destroy_recover_and_expunge(simulator, ask):
    vm = simulator.add_instance("vm1", disks=(GIB,))
    root, data = simulator.world.volumes_of(vm)
    destroyed = ask.run("destroyVirtualMachine", id=vm.id)["virtualmachine"]
    assert destroyed["state"] == "Destroyed"
    assert ask("recoverVirtualMachine", id=vm.id)["virtualmachine"]["state"] == "Stopped"
    assert refused(ask, "expungeVirtualMachine", id=vm.id).code == 431
    ask.run("destroyVirtualMachine", id=vm.id, expunge="true")
    assert ask("listVirtualMachines") == {}
    left = ask("listVolumes")["volume"]
    assert [(disk["id"], "virtualmachineid" in disk) for disk in left] == [(data.id, False)]
    assert simulator.world.find(Volume, root.id) is None
    kinds = {event["type"] for event in ask("listEvents", listall="true")["event"]}
    assert {"VM.DESTROY", "VM.EXPUNGE"} <= kinds


def test_only_administrators_expunge(simulator):
    acme = account(simulator, "acme")
    vm = simulator.add_instance("vm1", account=simulator.account("acme"))
    assert refused(acme, "destroyVirtualMachine", id=vm.id, expunge="true").code == 431
    acme.run("destroyVirtualMachine", id=vm.id)
    assert acme("listVirtualMachines") == {}


def test_protected_from_deletion(simulator, ask):
    vm = simulator.add_instance("vm1")
    ask("updateVirtualMachine", id=vm.id, deleteprotection="true")
    assert "delete protection" in refused(ask, "destroyVirtualMachine", id=vm.id).text


def test_a_new_volume_comes_to_be_when_it_is_attached(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    disk = new_volume(ask)
    assert (disk["state"], "storageid" in disk, "path" in disk) == ("Allocated", False, False)
    attached = ask.run("attachVolume", id=disk["id"], virtualmachineid=vm.id)["volume"]
    root = simulator.world.root_of(vm)
    assert (attached["state"], attached["deviceid"]) == ("Ready", 1)
    assert attached["storageid"] == root.pool_id
    files = {fact.path for fact in simulator.machines.files(root.pool_id)}
    assert attached["path"] in files


def test_a_volume_of_an_instance_that_never_ran_stays_allocated(simulator, ask):
    vm = deploy(ask, startvm="false")
    (root,) = ask("listVolumes", virtualmachineid=vm["id"])["volume"]
    assert root["state"] == "Allocated"
    disk = new_volume(ask)
    attached = ask.run("attachVolume", id=disk["id"], virtualmachineid=vm["id"])["volume"]
    assert attached["state"] == "Allocated"
    ask.run("startVirtualMachine", id=vm["id"])
    states = {disk["state"] for disk in ask("listVolumes", virtualmachineid=vm["id"])["volume"]}
    assert states == {"Ready"}


def test_device_ids(simulator, ask):
    vm = simulator.add_instance("vm1", disks=(GIB, GIB))
    disk = new_volume(ask)
    attach = {"id": disk["id"], "virtualmachineid": vm.id}
    for number in (0, 1, 3):
        assert refused(ask, "attachVolume", deviceid=number, **attach).code == 431
    assert ask.run("attachVolume", **attach)["volume"]["deviceid"] == 4
    assert refused(ask, "attachVolume", **attach).code == 431
    assert set(simulator.machines.state(vm.instance_name).paths) == {0, 1, 2, 4}
    ask.run("detachVolume", id=disk["id"])
    assert set(simulator.machines.state(vm.instance_name).paths) == {0, 1, 2}


def test_a_root_is_swapped_on_an_instance_that_is_stopped(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    root = simulator.world.root_of(vm)
    other = new_volume(ask)
    ask.run("detachVolume", id=root.id)
    swapped = ask.run("attachVolume", id=other["id"], virtualmachineid=vm.id, deviceid=0)["volume"]
    assert (swapped["type"], swapped["deviceid"]) == ("ROOT", 0)
    assert ask.run("startVirtualMachine", id=vm.id)["virtualmachine"]["state"] == "Running"
    assert refused(ask, "detachVolume", id=other["id"]).code == 431


def test_resize_and_move_a_volume(simulator, ask):
    vm = simulator.add_instance("vm1", disks=(GIB,))
    disk = simulator.world.volumes_of(vm)[1]
    assert refused(ask, "resizeVolume", id=disk.id, size=0).code == 431
    assert ask.run("resizeVolume", id=disk.id, size=3)["volume"]["size"] == 3 * GIB
    assert "shrinkok" in refused(ask, "resizeVolume", id=disk.id, size=1).text
    pool = next(pool for pool in simulator.world.all(Pool) if pool.id != disk.pool_id)
    move = {"volumeid": disk.id, "storageid": pool.id}
    assert refused(ask, "migrateVolume", **move).code == 431
    ask.run("stopVirtualMachine", id=vm.id)
    assert ask.run("migrateVolume", **move)["volume"]["storageid"] == pool.id


def test_a_volume_that_is_attached_cannot_be_deleted(simulator, ask):
    vm = simulator.add_instance("vm1", disks=(GIB,))
    disk = simulator.world.volumes_of(vm)[1]
    with pytest.raises(Refused):
        ask("deleteVolume", id=disk.id)
    ask.run("detachVolume", id=disk.id)
    assert ask("deleteVolume", id=disk.id)["success"] is True
    with pytest.raises(Refused):
        ask("listVolumes", id=disk.id)


def test_reinstalling_makes_another_root(simulator, ask):
    vm = simulator.add_instance("vm1")
    before = simulator.world.root_of(vm).id
    ask.run("restoreVirtualMachine", virtualmachineid=vm.id)
    after = simulator.world.root_of(vm)
    assert after.id != before
    assert (after.state, vm.state) == ("Ready", "Running")


def deploy(ask, **params):
    """Deploy an instance; gives what the job gives."""
    zone = ask("listZones")["zone"][0]["id"]
    given = {
        "zoneid": zone,
        "serviceofferingid": ask("listServiceOfferings")["serviceoffering"][0]["id"],
        **params,
    }
    if "volumeid" not in given:
        template = ask("listTemplates", templatefilter="executable")["template"][0]["id"]
        given.setdefault("templateid", template)
    return ask.run("deployVirtualMachine", **given)["virtualmachine"]


def test_deploy_as_it_was(simulator, ask):
    world = simulator.world
    group = ask.run("createAffinityGroup", name="apart", type="host anti-affinity")["affinitygroup"]
    ask("registerSSHKeyPair", name="mine", publickey="ssh-ed25519 AAAA")
    network = ask("listNetworks", type="Shared")["network"][0]["id"]
    vm = deploy(
        ask, name="web-1", displayname="Web 1", userdata="aGVsbG8=", affinitygroupids=group["id"],
        keypairs="mine",
        **{
            "iptonetworklist[0].networkid": network, "iptonetworklist[0].ip": "10.9.7.7",
            "iptonetworklist[0].mac": "02:01:00:aa:bb:cc", "details[0].rootDiskController": "scsi",
        },
    )  # fmt: skip
    assert (vm["name"], vm["displayname"], vm["state"]) == ("web-1", "Web 1", "Running")
    (nic,) = vm["nic"]
    assert (nic["ipaddress"], nic["macaddress"]) == ("10.9.7.7", "02:01:00:aa:bb:cc")
    assert vm["details"] == {"rootDiskController": "scsi"}
    assert [one["name"] for one in vm["affinitygroup"]] == ["apart"]
    assert vm["keypairs"] == "mine"
    assert "userdata" not in vm
    shown = ask("listVirtualMachines", id=vm["id"], userdata="true")["virtualmachine"][0]
    assert shown["userdata"] == "aGVsbG8="
    assert simulator.machines.state(world.get(Instance, vm["id"]).instance_name)


def test_a_name_or_an_address_that_is_taken(ask):
    deploy(ask, name="web")
    with pytest.raises(Refused, match="already exists"):
        deploy(ask, name="web")
    with pytest.raises(Refused, match="Invalid name"):
        deploy(ask, name="1-web")
    network = ask("listNetworks", type="Shared")["network"][0]["id"]
    deploy(ask, networkids=network, ipaddress="10.9.9.9")
    with pytest.raises(Refused) as caught:
        deploy(ask, networkids=network, ipaddress="10.9.9.9")
    assert caught.value.code == 533


def test_a_limit_of_the_account_or_of_a_domain_above(simulator, ask):
    account(simulator, "acme", domain="ROOT/customers/acme")
    acme = simulator.account("acme", "ROOT/customers/acme")
    whose = {"account": "acme", "domainid": acme.domain_id}
    ask("updateResourceLimit", resourcetype=0, max=1, **whose)
    deploy(ask, **whose)
    with pytest.raises(Refused) as caught:
        deploy(ask, **whose)
    assert caught.value.code == 532
    ask("updateResourceLimit", resourcetype=0, max=-1, **whose)
    top = simulator.domain("ROOT/customers").id
    ask("updateResourceLimit", resourcetype=2, max=1, domainid=top)
    with pytest.raises(Refused) as caught:
        deploy(ask, **whose)
    assert caught.value.code == 532


def test_for_an_account_and_for_a_project(simulator, ask):
    account(simulator, "acme", domain="ROOT/acme")
    acme = simulator.account("acme", "ROOT/acme")
    vm = deploy(ask, account="acme", domainid=acme.domain_id)
    assert (vm["account"], vm["domainid"]) == ("acme", acme.domain_id)
    project = ask.run("createProject", name="shop", displaytext="s")["project"]
    assert deploy(ask, projectid=project["id"])["project"] == "shop"
    with pytest.raises(Refused):
        deploy(ask, account="acme")


def test_a_custom_offering_needs_its_size(ask):
    rows = ask("listServiceOfferings")["serviceoffering"]
    custom = next(row["id"] for row in rows if row["iscustomized"])
    with pytest.raises(Refused, match="custom parameter values"):
        deploy(ask, serviceofferingid=custom)
    vm = deploy(
        ask, serviceofferingid=custom,
        **{"details[0].cpuNumber": 2, "details[0].cpuSpeed": 800, "details[0].memory": 256},
    )  # fmt: skip
    assert (vm["cpunumber"], vm["cpuspeed"], vm["memory"]) == (2, 800, 256)


def test_a_start_that_fails_leaves_an_error(simulator, ask):
    simulator.machines.failing["start"] = "no memory"
    with pytest.raises(Refused):
        deploy(ask, name="broken")
    assert ask("listVirtualMachines", name="broken")["virtualmachine"][0]["state"] == "Error"


def test_around_a_volume_from_4_21_on(make):
    for version, known in (("4.20", False), ("4.22", True)):
        simulator = make(version)
        ask = admin(simulator)
        vm = simulator.add_instance("old", running=False)
        root = simulator.world.root_of(vm).id
        ask.run("detachVolume", id=root)
        if known:
            made = deploy(ask, name="new", volumeid=root)
            assert simulator.world.root_of(simulator.world.get(Instance, made["id"])).id == root
        else:
            with pytest.raises(Refused) as caught:
                deploy(ask, name="new", volumeid=root)
            assert caught.value.code == 431


def test_maintenance_moves_all_away(simulator, ask):
    host = simulator.world.host_named("kvm1")
    vms = [simulator.add_instance(f"vm{number}", host="kvm1") for number in range(3)]
    result = ask.run("prepareHostForMaintenance", id=host.id)["host"]
    assert result["resourcestate"] == "Maintenance"
    assert {simulator.machines.state(vm.instance_name).host for vm in vms} == {"kvm2"}
    assert ask("listHosts", resourcestate="Enabled")["count"] == 1
    ask.run("cancelHostMaintenance", id=host.id)
    assert ask("listHosts", resourcestate="Enabled")["count"] == 2


def test_maintenance_fails_where_nothing_can_move(simulator, ask):
    simulator.add_instance("vm", host="kvm1")
    simulator.machines.failing["migrate"] = "refused"
    host = simulator.world.host_named("kvm1")
    assert refused(ask, "prepareHostForMaintenance", id=host.id).code == 530
    assert host.resource_state == "ErrorInMaintenance"


def test_a_dead_host(simulator, ask):
    vm = simulator.add_instance("vm1", host="kvm1")
    for job in simulator.lose_host("kvm1"):
        ask.wait(job)
    assert (vm.state, simulator.machines.state(vm.instance_name).host) == ("Running", "kvm2")
    assert ask("listHosts", state="Down")["host"][0]["name"] == "kvm1"


def test_unmanaged_runs_on(simulator, ask):
    vm = simulator.add_instance("vm1")
    ask.run("unmanageVirtualMachine", id=vm.id)
    assert ask("listVirtualMachines") == {}
    assert ask("listVolumes") == {}
    assert simulator.machines.state(vm.instance_name)


def test_tags(simulator, ask):
    vm = simulator.add_instance("vm1", tags={"tier": "gold"})
    tag = {"resourceids": vm.id, "resourcetype": "UserVm"}
    ask.run("createTags", **tag, **{"tags[0].key": "k", "tags[0].value": "v"})
    with pytest.raises(Refused, match="already"):
        ask.run("createTags", **tag, **{"tags[0].key": "k", "tags[0].value": "w"})
    shown = ask("listVirtualMachines", id=vm.id)["virtualmachine"][0]["tags"]
    assert {(one["key"], one["value"]) for one in shown} == {("tier", "gold"), ("k", "v")}
    assert ask("listVirtualMachines", **{"tags[0].key": "k", "tags[0].value": "v"})["count"] == 1
    assert ask("listTags", key="k")["tag"][0]["resourceid"] == vm.id
    ask.run("deleteTags", **tag, **{"tags[0].key": "k"})
    assert ask("listTags", key="k") == {}
    with pytest.raises(Refused):
        ask.run("deleteTags", **tag, **{"tags[0].key": "k"})
