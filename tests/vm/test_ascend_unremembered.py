"""Restores into a cloud of points that remember nothing of it: the inventory tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sendense.errors import Rejected
from sendense.model.ascend import Aim, AscendRequest, RefusalCode
from sendense.model.cloud_manifest import ATTACHMENT
from sendense.model.job import JobKind
from sendense.workflows.managed.ascend import plan_restore
from sendense_lab.lab import Lab
from sendense_lab.simulator.records import Instance
from tests.vm.agent_site import AGENT, MIB
from tests.vm.ascend_site import DETAILS, USER_DATA, AscendSite, CloudHere, shown

pytestmark = pytest.mark.vm

IN_PLACE = AscendRequest(Aim.IN_PLACE)
RECREATE = AscendRequest(Aim.RECREATE)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab, kind="Filesystem") as site:
        yield site


def unremembered(here: CloudHere) -> tuple[Instance, str]:
    """Have an instance backed up before its cloud is read for the first time."""
    control = here.site.control
    control.catalog.clouds.edit(here.cloud.id, enabled=False)
    vm = here.simulator.add_instance(
        "shop", disks=(24 * MIB,), display_name="The shop", tags={"tier": "front"},
        details=DETAILS, user_data=USER_DATA,
    )  # fmt: skip
    machine = here.machine(vm.id)
    machine.random_fill("vda", 0, 2 * MIB, 5)
    machine.random_fill("vdb", 1 * MIB, 3 * MIB, 6)
    control.succeed(JobKind.DISCOVER, AGENT)
    point: str = here.back_up(vm.id)["point"]
    with here.site.estate.repository(control.repository_id) as repository:
        names = {each.name for each in repository.point(point).attachments}
    assert ATTACHMENT not in names
    with pytest.raises(Rejected, match="no known cloud had its instance"):
        plan_restore(here.site.estate, here.wanted(point, IN_PLACE))
    control.catalog.clouds.edit(here.cloud.id, enabled=True)
    here.sync()
    return vm, point


def warned(warnings: list[str]) -> bool:
    return any("remembers nothing of its cloud" in each for each in warnings)


def test_in_place_and_as_another_disk(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        vm, point = unremembered(here)
        truth = here.freeze(vm.id)
        here.api.run("startVirtualMachine", id=vm.id)
        here.machine(vm.id).write("vdb", 9 * MIB, 256 * 1024, 7)
        done = here.restore(vm.id, point, IN_PLACE)
        assert (done["instance"], done["started"]) == (vm.id, True)
        assert warned(done["warnings"])
        here.api.run("stopVirtualMachine", id=vm.id)
        here.ensure_same(vm.id, truth)
        done = here.restore(vm.id, point, AscendRequest(Aim.DATA_DISK, ("vdb",), name="rescued"))
        mine = here.copies(vm.id, "mine")
        assert mine["2"].read_bytes() == truth["1"].read_bytes()


def test_one_that_is_lost(site: AscendSite) -> None:
    with site.cloud("4.22") as here:
        vm, point = unremembered(here)
        was = shown(here.row(vm.id))
        truth = here.freeze(vm.id)
        here.simulator.expunge(vm)
        here.sync()
        done = here.restore(vm.id, point, replace(RECREATE, start=True))
        assert done["way"] == "import-and-deploy"
        assert warned(done["warnings"])
        assert shown(here.row(done["instance"])) == was
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)
        assert USER_DATA not in f"{done} {here.facts(vm.id)}"


def test_disks_that_came_and_went_since(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        vm, point = unremembered(here)
        truth = here.freeze(vm.id)
        gone = here.volumes(vm.id)[1]
        here.api.run("detachVolume", id=gone["id"])
        here.sync()
        plan = plan_restore(site.estate, here.wanted(point, IN_PLACE))
        assert [each.code for each in plan.refusals] == [RefusalCode.NO_VOLUME]
        assert "vdb" in plan.refusals[0].reason
        named = replace(IN_PLACE, volumes=("root",))
        plan = plan_restore(site.estate, here.wanted(point, named))
        assert any("no volume of the instance" in each and "vdb" in each for each in plan.warnings)
        assert plan.refusals == ()
        done = here.restore(vm.id, point, named)
        assert [each["name"] for each in done["written"]] == [here.volumes(vm.id)[0]["name"]]
        here.ensure_same(vm.id, {"0": truth["0"]})


def test_a_volume_that_was_enlarged_since(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        vm, point = unremembered(here)
        truth = here.freeze(vm.id)
        data = here.volumes(vm.id)[1]
        here.api.run("resizeVolume", id=data["id"], size="1")
        here.sync()
        plan = plan_restore(site.estate, here.wanted(point, IN_PLACE))
        assert {each.code for each in plan.refusals} == {RefusalCode.SIZE}
        here.simulator.expunge(vm)
        here.sync()
        done = here.restore(vm.id, point, replace(RECREATE, start=False))
        assert here.copies(done["instance"], "mine")["1"].read_bytes() == truth["1"].read_bytes()
