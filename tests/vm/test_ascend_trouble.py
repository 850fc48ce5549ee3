"""Restores into a cloud that go elsewhere, that are refused, and that go wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sendense import steps
from sendense.model.ascend import Aim, AscendRequest, RefusalCode
from sendense.model.cloud import Owner
from sendense.model.job import JobState
from sendense.workflows.managed.ascend import plan_restore
from sendense_lab.lab import Lab
from sendense_lab.simulator.records import Instance, Network, ServiceOffering
from tests.vm.agent_site import MIB
from tests.vm.ascend_site import AscendSite, CloudHere

pytestmark = pytest.mark.vm

RECREATE = AscendRequest(Aim.RECREATE)
IN_PLACE = AscendRequest(Aim.IN_PLACE)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab, kind="Filesystem") as site:
        yield site


def test_a_data_disk_for_another_instance_that_runs(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        vm, other = here.add("shop"), here.add("office")
        point = here.back_up(vm.id)["point"]
        truth = here.freeze(vm.id)
        request = AscendRequest(Aim.DATA_DISK, ("vdb",), instance_id=other.id, name="rescued")
        done = here.restore(vm.id, point, request)
        assert (done["way"], done["instance"]) == ("new-data-volume", other.id)
        row = here.volumes(other.id)[-1]
        assert (row["name"], row["deviceid"], row["state"]) == ("rescued", 2, "Ready")
        assert here.row(other.id)["state"] == "Running"
        here.api.run("stopVirtualMachine", id=other.id)
        mine = here.copies(other.id, "other")
        assert mine["2"].read_bytes() == truth["1"].read_bytes()


def test_a_data_disk_where_nothing_can_be_imported(site: AscendSite) -> None:
    with site.cloud("4.18") as here:
        vm = here.add("shop")
        point = here.back_up(vm.id)["point"]
        truth = here.freeze(vm.id)
        here.restore(vm.id, point, AscendRequest(Aim.DATA_DISK, ("vdb",)))
        mine = here.copies(vm.id, "mine")
        assert mine["2"].read_bytes()[: 24 * MIB] == truth["1"].read_bytes()


def test_another_cloud_with_other_names(site: AscendSite) -> None:
    with site.cloud("4.18") as here:
        vm = here.add("shop", tags={"tier": "front"})
        point = here.back_up(vm.id)["point"]
        truth = here.freeze(vm.id)
        with site.cloud("4.22") as there:
            world = there.simulator.world
            world.named(Network, "shared1").name = "dmz"
            there.simulator.create_account("ann", domain="ROOT/acme")
            there.sync()
            bare = there.wanted(point, RECREATE)
            codes = {each.code for each in plan_restore(site.estate, bare).refusals}
            assert {RefusalCode.ZONE, RefusalCode.NETWORK, RefusalCode.OWNER} <= codes
            request = AscendRequest(
                Aim.RECREATE,
                zone_id="zone1",
                owner=Owner("", "ROOT/acme", "ann"),
                networks={"shared1": "dmz"},
                offering_id="Small Instance",
                disk_offerings={"*": "Custom"},
                start=False,
            )
            done = there.restore(vm.id, point, request)
            row = there.row(done["instance"])
            assert (row["name"], row["account"], row["domain"]) == ("shop", "ann", "acme")
            assert (row["state"], row["nic"][0]["networkname"]) == ("Stopped", "dmz")
            there.ensure_same(done["instance"], truth)


def test_what_is_refused_is_refused_at_once_and_nothing_is_touched(site: AscendSite) -> None:
    with site.cloud("4.22") as here:
        here.simulator.create_account("ann", domain="ROOT/acme")
        account = here.simulator.account("ann", "ROOT/acme")
        vm = here.add("shop", account=account)
        point = here.back_up(vm.id)["point"]
        here.simulator.expunge(vm)
        here.simulator.add_instance("shop", account=account, running=False)
        account.limits["user_vm"] = 0
        world = here.simulator.world
        world.remove(world.named(ServiceOffering, "Tiny Instance"))
        before = here.all_volumes(), here.instances()
        plan = plan_restore(site.estate, here.wanted(point, RECREATE))
        codes = {each.code for each in plan.refusals}
        assert {RefusalCode.QUOTA, RefusalCode.NAME, RefusalCode.SERVICE_OFFERING} <= codes
        assert not plan.steps
        failed = here.fail(vm.id, point, RECREATE)
        assert failed.failure is not None
        assert failed.failure.code == "conflict"
        assert (here.all_volumes(), here.instances()) == before
        assert all("ascend" not in fact for fact in here.facts(vm.id))


def test_a_start_meanwhile_ends_it_and_it_is_told_what_is_half_done(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        vm = here.add("shop")
        point = here.back_up(vm.id)["point"]
        truth = here.freeze(vm.id)
        here.api.run("startVirtualMachine", id=vm.id)
        here.machine(vm.id).write("vdb", 9 * MIB, 256 * 1024, 7)
        with meanwhile("remote-disk-written", lambda: started(here, vm.id)):
            failed = here.fail(vm.id, point, IN_PLACE)
        assert failed.failure is not None
        hint = failed.failure.hint or ""
        assert "half restored" in hint
        assert all(row["id"] in hint for row in here.volumes(vm.id))
        here.api.run("stopVirtualMachine", id=vm.id)
        done = here.restore(vm.id, point, IN_PLACE)
        assert done["started"]
        here.api.run("stopVirtualMachine", id=vm.id)
        here.ensure_same(vm.id, truth)


def started(here: CloudHere, uuid: str) -> None:
    """Have it run as far as CloudStack knows; here the locks of its files would keep it off."""
    here.simulator.world.get(Instance, uuid).state = "Running"


@contextmanager
def meanwhile(name: str, act: Callable[[], None]) -> Iterator[None]:
    """Do something once, when a step of the restore is reached."""
    once = threading.Lock()

    def reached(step: str) -> None:
        if step == name and once.acquire(blocking=False):
            act()

    steps.listen(reached)
    try:
        yield
    finally:
        steps.unlisten()


def test_one_that_failed_is_gone_on_with(site: AscendSite) -> None:
    with site.cloud("4.22") as here:
        vm = here.add("shop")
        point = here.back_up(vm.id)["point"]
        truth = here.freeze(vm.id)
        here.simulator.expunge(vm)
        limits = here.simulator.account("admin").limits
        with meanwhile("ascend-planned", lambda: limits.update(user_vm=0)):
            failed = here.fail(vm.id, point, RECREATE)
        limits.clear()
        made = [row["id"] for row in here.all_volumes()]
        assert len(made) == 2
        assert failed.failure is not None
        assert all(each in (failed.failure.hint or "") for each in made)
        job = here.begin(vm.id, here.wanted(point, RECREATE, continues=failed.id))
        ended = site.control.end_of(job)
        assert ended.state is JobState.SUCCEEDED, ended.failure
        assert sorted(row["id"] for row in here.all_volumes()) == sorted(made)
        assert ended.result is not None
        here.api.run("stopVirtualMachine", id=ended.result["instance"])
        here.ensure_same(str(ended.result["instance"]), truth)
