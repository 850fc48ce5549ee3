"""Instances of a cloud are protected, whatever CloudStack does to them between two backups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sendense.model.ascend import Aim
from sendense.model.decision import Reason
from sendense.model.job import JobState
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.pool import MIB
from sendense_lab.simulator.records import BackupOffering, Instance
from tests.cluster.cloud_site import CloudSite


@pytest.fixture(scope="module")
def cloud(site: Cluster) -> Iterator[CloudSite]:
    with CloudSite.on(site, "cloudy", version="4.22") as made:
        yield made


@pytest.fixture
def web(cloud: CloudSite) -> Iterator[str]:
    """An instance with a data disk, and its first point."""
    uuid = cloud.deploy("web")
    cloud.add_disk(uuid)
    cloud.sync()
    assert cloud.back_up(uuid)["mode"] == "full"
    yield uuid
    cloud.clear()


def modes(done: dict[str, Any]) -> dict[str, str]:
    return {disk["target"]: disk["mode"] for disk in done["disks"]}


def reasons(done: dict[str, Any]) -> dict[str, str]:
    return {disk["target"]: disk["reason"] for disk in done["disks"]}


def proven(cloud: CloudSite, uuid: str, done: dict[str, Any]) -> None:
    """Stop the instance and compare; start it again."""
    if cloud.vm(uuid).running:
        cloud.api.run("stopVirtualMachine", id=uuid, forced="true")
        cloud.ensure_right(uuid, done["point"])
        cloud.api.run("startVirtualMachine", id=uuid)
    else:
        cloud.ensure_right(uuid, done["point"])


def write(cloud: CloudSite, uuid: str, place: int) -> None:
    for target in cloud.vm(uuid).disks:
        cloud.vm(uuid).write(target, place * MIB, 65536, place)


def test_power_and_place(cloud: CloudSite, web: str):
    write(cloud, web, 2)
    cloud.api.run("rebootVirtualMachine", id=web)
    write(cloud, web, 3)
    cloud.api.run("migrateVirtualMachine", virtualmachineid=web, hostid=cloud.hosts["kvm2"])
    write(cloud, web, 4)
    moved = cloud.back_up(web)
    assert modes(moved) == {"vda": "incremental", "vdb": "incremental"}
    write(cloud, web, 5)
    cloud.api.run("stopVirtualMachine", id=web)
    off = cloud.back_up(web)
    assert modes(off) == {"vda": "incremental", "vdb": "incremental"}
    cloud.ensure_right(web, off["point"])
    cloud.api.run("startVirtualMachine", id=web, hostid=cloud.hosts["kvm1"])
    write(cloud, web, 6)
    again = cloud.back_up(web)
    assert modes(again) == {"vda": "incremental", "vdb": "incremental"}
    proven(cloud, web, again)


def test_disks_come_grow_and_go(cloud: CloudSite, web: str):
    data = cloud.volumes(web)[1]
    cloud.api.run("resizeVolume", id=data["id"], size=2)
    cloud.vm(web).write("vdb", 1030 * MIB, 65536, 7)
    more = cloud.add_disk(web)
    done = cloud.back_up(web)
    assert (modes(done)["vda"], modes(done)["vdc"]) == ("incremental", "full")
    proven(cloud, web, done)
    cloud.api.run("stopVirtualMachine", id=web, forced="true")
    cloud.api.run("detachVolume", id=more)
    cloud.api.run("startVirtualMachine", id=web)
    write(cloud, web, 7)
    without = cloud.back_up(web)
    assert modes(without) == {"vda": "incremental", "vdb": "incremental"}
    proven(cloud, web, without)


def test_snapshots(cloud: CloudSite, web: str):
    root = cloud.volumes(web)[0]
    write(cloud, web, 2)
    cloud.api.run("createSnapshot", volumeid=root["id"])
    write(cloud, web, 3)
    after = cloud.back_up(web)
    assert modes(after) == {"vda": "incremental", "vdb": "incremental"}
    proven(cloud, web, after)
    write(cloud, web, 4)
    cloud.api.run("createVMSnapshot", virtualmachineid=web, snapshotmemory="true")
    write(cloud, web, 5)
    done = cloud.back_up(web)
    assert set(reasons(done).values()) == {Reason.MEMORY_SNAPSHOT_PRESENT.value}
    proven(cloud, web, done)


def test_a_reinstalled_root_is_read_whole(cloud: CloudSite, web: str):
    cloud.api.run("stopVirtualMachine", id=web, forced="true")
    cloud.api.run("restoreVirtualMachine", virtualmachineid=web)
    cloud.api.run("startVirtualMachine", id=web)
    done = cloud.back_up(web)
    assert modes(done) == {"vda": "full", "vdb": "incremental"}
    proven(cloud, web, done)


def test_a_volume_that_moved_or_was_reverted_is_read_whole(cloud: CloudSite, web: str):
    root, data = cloud.volumes(web)
    frozen = cloud.api.run("createSnapshot", volumeid=root["id"])
    write(cloud, web, 2)
    cloud.api.run("stopVirtualMachine", id=web, forced="true")
    cloud.api.run("revertSnapshot", id=frozen["id"])
    cloud.api.run("migrateVolume", volumeid=data["id"], storageid=cloud.second_pool)
    cloud.sync()
    off = cloud.back_up(web)
    assert modes(off) == {"vda": "full", "vdb": "full"}
    # Where its disks are now, the machine knows from its start; nothing is written by it.
    cloud.api.run("startVirtualMachine", id=web)
    proven(cloud, web, off)
    write(cloud, web, 3)
    done = cloud.back_up(web)
    assert modes(done) == {"vda": "incremental", "vdb": "incremental"}
    proven(cloud, web, done)


def test_a_host_that_died_costs_a_full(cloud: CloudSite, web: str):
    write(cloud, web, 2)
    vm = cloud.vm(web)
    vm.kill9()
    cloud.api.run("stopVirtualMachine", id=web, forced="true")
    cloud.api.run("startVirtualMachine", id=web, hostid=cloud.hosts["kvm2"])
    done = cloud.back_up(web)
    assert set(modes(done).values()) == {"full"}
    proven(cloud, web, done)


@pytest.mark.parametrize("command", ["stop", "migrate"])
def test_cloudstack_goes_first(cloud: CloudSite, web: str, command: str):
    cloud.vm(web).random_fill("vdb", 0, 64 * MIB, 5)
    with cloud.slow(8):  # the capture would take a minute
        job = cloud.begin(web, mode="full")
        cloud.fleet.wait_for(lambda: cloud.reading(job))
        if command == "stop":
            cloud.api.run("stopVirtualMachine", id=web, forced="true")
        else:
            # The domain is the capture's; CloudStack's agent waits 30 s for it, no longer.
            there = cloud.hosts["kvm2"]
            cloud.api.run("migrateVirtualMachine", virtualmachineid=web, hostid=there)
            assert cloud.instance(web)["hostid"] == there
        cloud.gave_way(job)
    proven(cloud, web, cloud.back_up(web))


def test_a_cloud_that_is_away(cloud: CloudSite, web: str):
    cloud.vm(web).random_fill("vdb", 0, 24 * MIB, 5)
    with cloud.slow(8):
        job = cloud.begin(web, mode="full")
        cloud.fleet.wait_for(lambda: cloud.reading(job))
        cloud.simulator.down()
    # What began goes on: nobody can want the instance meanwhile.
    try:
        ended = cloud.fleet.end_of(job)
    finally:
        cloud.simulator.up()
    assert ended.state is JobState.SUCCEEDED, ended.failure
    assert ended.result is not None
    proven(cloud, web, dict(ended.result))


def test_what_cloudstack_works_on_is_busy(cloud: CloudSite, web: str):
    job = cloud.api.call("createSnapshot", volumeid=cloud.volumes(web)[0]["id"])["jobid"]
    begun = cloud.begin(web)
    if cloud.first_ending(begun).state is not JobState.SUCCEEDED:  # it was faster
        cloud.gave_way(begun)
    cloud.fleet.wait_for(lambda: cloud.api.call("queryAsyncJobResult", jobid=job)["jobstatus"])
    proven(cloud, web, cloud.back_up(web))


def test_one_that_cloudstack_backs_up_is_left_alone_unless_told(cloud: CloudSite, web: str):
    world = cloud.simulator.world
    offering = world.add(BackupOffering(name="gold", zone_id=cloud.zone))
    instance = world.find(Instance, web)
    assert instance is not None
    instance.backup_offering_id = offering.id
    ended = cloud.fleet.end_of(cloud.begin(web))
    assert ended.failure is not None
    assert "gold" in ended.failure.message
    done = cloud.back_up(web, beside_cloudstack=True)
    assert any("gold" in warning for warning in done["warnings"])


def test_in_place_and_when_it_is_lost(cloud: CloudSite, web: str):
    write(cloud, web, 2)
    point = str(cloud.back_up(web)["point"])
    write(cloud, web, 3)
    cloud.api.run("migrateVirtualMachine", virtualmachineid=web, hostid=cloud.hosts["kvm2"])
    back = cloud.restore(web, point, Aim.IN_PLACE)
    assert [item["written_bytes"] for item in back["written"]] == [65536, 65536]
    cloud.api.run("stopVirtualMachine", id=web, forced="true")
    cloud.ensure_right(web, point)
    cloud.api.run("destroyVirtualMachine", id=web, expunge="true")
    cloud.sync()
    again = cloud.restore(web, point, Aim.RECREATE)
    made = str(again["instance"])
    assert cloud.instance(made)["state"] == "Running"
    cloud.api.run("stopVirtualMachine", id=made, forced="true")
    cloud.ensure_right(made, point)
