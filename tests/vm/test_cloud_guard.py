"""Instances of a cloud are captured in its ways, whatever the inventory has of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from sendense import clock
from sendense.cloudstack.transport import Limits
from sendense.errors import Conflict, SendenseError
from sendense.model.decision import Reason
from sendense.model.job import JobKind, JobState
from sendense.model.places import domain_xml_of
from sendense.workflows.managed.cloud_guard import CloudCapture, Unguarded, guarded
from sendense.workflows.managed.cloud_hosts import pools_of
from sendense.workflows.managed.cloud_sync import look_at_instances
from sendense_lab.lab import Lab
from sendense_lab.simulator.records import Instance, Volume
from tests.vm.agent_site import AGENT, MIB
from tests.vm.ascend_site import AscendSite, CloudHere

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab) as site:
        # A cloud that is down is waited for no longer than it takes to say so.
        site.estate.clouds._limits = Limits(per_second=500, patience_s=0.5)
        yield site


@pytest.fixture
def here(site: AscendSite) -> Iterator[CloudHere]:
    with site.cloud("4.20") as here:
        yield here
    # What no cloud has is looked for in all that are known.
    for cloud in site.estate.catalog.clouds.every():
        site.estate.catalog.clouds.remove(cloud.id, clock.now())


def discover(here: CloudHere) -> None:
    here.site.control.succeed(JobKind.DISCOVER, AGENT)


def take_for_gone(here: CloudHere) -> None:
    """Have the inventory believe that the cloud has no instance any more."""
    later = clock.now() + timedelta(hours=1)
    here.site.estate.catalog.inventory.sweep(here.cloud.id, None, later, later)


def test_the_cloud_is_asked_whatever_the_inventory_has(here: CloudHere) -> None:
    estate = here.site.estate
    vm = here.add("web")
    discover(here)
    take_for_gone(here)
    assert isinstance(guarded(estate, vm.id), CloudCapture)
    assert estate.catalog.inventory.instance(vm.id).gone_at is None


def test_a_host_shows_it_before_the_cloud_was_read(here: CloudHere) -> None:
    estate = here.site.estate
    vm = here.simulator.add_instance("early")
    discover(here)
    row = here.simulator.world.get(Instance, vm.id)
    row.state = "Migrating"
    with pytest.raises(SendenseError, match="Migrating"):
        guarded(estate, vm.id)
    row.state = "Running"
    here.simulator.down()
    with pytest.raises(SendenseError) as caught:
        guarded(estate, vm.id)
    assert caught.value.retryable
    assert float(caught.value.data["retry_s"]) >= 120
    here.simulator.up()
    here.sync()  # its hosts are not known before
    assert isinstance(guarded(estate, vm.id), CloudCapture)


def test_what_no_cloud_has_is_its_hosts(here: CloudHere) -> None:
    estate, agent = here.site.estate, here.site.control.agent
    here.sync()
    vm = agent.lab.create_vm()
    vm.start(agent.hypervisor)
    discover(here)
    found = guarded(estate, vm.uuid)
    assert isinstance(found, Unguarded)
    assert "no cloud has it" in found.warnings[0]
    known = estate.catalog.instances.get(vm.uuid).machine
    estate.catalog.instances.see(AGENT, [replace(known, name="v-2-VM")], clock.now())
    with pytest.raises(Conflict, match="v-2-VM"):
        guarded(estate, vm.uuid)
    estate.catalog.clouds.edit(here.cloud.id, enabled=False)
    assert guarded(estate, vm.uuid) == Unguarded()
    vm.destroy()


def test_a_volume_that_the_host_does_not_show_is_told(here: CloudHere) -> None:
    vm = here.add("web")
    world = here.simulator.world
    data = next(each for each in world.all(Volume) if each.kind == "DATADISK")
    lost = world.add(replace(data, id=str(uuid4()), name="lost", device_id=5, path="lost"))
    try:
        found = guarded(here.site.estate, vm.id)
    finally:
        del world.table(Volume)[lost.id]
    assert any(lost.id in warning for warning in found.warnings)


def test_a_definition_of_long_ago_is_not_read(here: CloudHere) -> None:
    estate = here.site.estate
    vm = here.add("web")
    here.api.run("stopVirtualMachine", id=vm.id)
    here.sync()
    instance = estate.catalog.inventory.instance(vm.id).instance
    xml = domain_xml_of(instance, pools_of(estate, here.cloud.id)).replace('"kvm"', '"qemu"')
    root = here.machine(vm.id).disks["vda"].path
    stale = root.with_name("stale")
    stale.write_bytes(root.read_bytes())
    hypervisor = here.site.control.agent.hypervisor
    domain = hypervisor.connection.defineXML(xml.replace(str(root), str(stale)))
    try:
        with pytest.raises(Conflict, match="stale"):
            guarded(estate, vm.id)
    finally:
        domain.undefine()
        stale.unlink()
    assert isinstance(guarded(estate, vm.id), CloudCapture)


def test_a_snapshot_with_memory_takes_our_bitmaps_off(here: CloudHere) -> None:
    vm = here.add("web")
    here.back_up(vm.id)
    agent, machine = here.site.control.agent, here.machine(vm.id)
    assert agent.own_marks(machine)
    here.api.run("createVMSnapshot", virtualmachineid=vm.id, snapshotmemory="true")
    look_at_instances(here.site.estate, here.cloud.id, [vm.id])
    # The server's own look may be at it.
    here.site.control.wait_for(lambda: not agent.own_marks(machine))


def test_a_policy_may_want_no_bitmaps(here: CloudHere) -> None:
    vm = here.add("web")
    here.back_up(vm.id)
    control, machine = here.site.control, here.machine(vm.id)
    machine.write("vdb", 9 * MIB, 65536, 7)
    done = control.succeed(JobKind.BACKUP, vm.id, consistency="crash", keep_bitmaps=False)
    assert {disk["reason"] for disk in done["disks"]} == {Reason.BITMAPS_UNWANTED.value}
    assert done["mode"] == "incremental"
    assert not control.agent.own_marks(machine)


def in_place(here: CloudHere, point: str, uuid: str, **more: Any):
    control = here.site.control
    return control.end_of(control.submit(JobKind.RESTORE, uuid, point=point, **more))


def test_what_a_cloud_has_is_restored_in_place_by_the_cloud_only(here: CloudHere) -> None:
    vm = here.add("web")
    point = here.back_up(vm.id)["point"]
    here.api.run("stopVirtualMachine", id=vm.id)
    before = here.machine(vm.id).read("vdb", 0, 4096)
    for _ in range(2):
        ended = in_place(here, point, vm.id)
        assert ended.state is JobState.FAILED
        assert "sendense cloud restore" in (ended.failure.hint or "")
        take_for_gone(here)
    assert here.machine(vm.id).read("vdb", 0, 4096) == before
    new = in_place(here, point, vm.id, pool=str(here.site.control.agent.pool))
    assert new.state is JobState.SUCCEEDED, new.failure


def test_files_of_one_that_is_gone_may_be_anothers(here: CloudHere) -> None:
    """Its data disk lives on at another instance, under the same path."""
    vm = here.add("web")
    point = here.back_up(vm.id)["point"]
    here.api.run("destroyVirtualMachine", id=vm.id, expunge="true")
    here.sync()
    ended = in_place(here, point, vm.id)
    assert ended.state is JobState.FAILED
    assert "pool" in (ended.failure.hint or "")
