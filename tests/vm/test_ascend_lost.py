"""Instances that a cloud has lost, made again there or elsewhere by one request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendense import steps
from sendense.model.ascend import Aim, AscendRequest
from sendense_lab.lab import Lab
from sendense_lab.simulator.records import Template
from tests.vm.ascend_site import USER_DATA, AscendSite, lost, shown

pytestmark = pytest.mark.vm

RECREATE = AscendRequest(Aim.RECREATE)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab, kind="Filesystem") as site:
        yield site


def test_a_lost_instance_is_made_again(site: AscendSite) -> None:
    with site.cloud("4.23") as here:
        uuid, point, was, truth = lost(here)
        done = here.restore(uuid, point, RECREATE)
        assert (done["way"], done["started"]) == ("import-and-deploy", True)
        assert done["instance"] != uuid
        first, *volumes = done["new"]
        assert (first["kind"], first["id"]) == ("instance", done["instance"])
        assert first["name"]
        assert sorted(done["made"].values()) == sorted(each["id"] for each in volumes)
        assert {each["name"] for each in volumes} == {
            row["name"] for row in here.volumes(done["instance"])
        }
        assert shown(here.row(done["instance"])) == was
        assert here.machine(done["instance"]).running
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)
        said = f"{done} {here.facts(uuid)}"
        assert USER_DATA not in said
        assert "secret-word" not in said


def test_it_gets_its_secondary_addresses_as_far_as_they_are_free(site: AscendSite) -> None:
    with site.cloud("4.22") as here:
        vm = here.add("shop")
        card = here.row(vm.id)["nic"][0]["id"]
        for last in (77, 78, 79):
            here.api.run("addIpToNic", nicid=card, ipaddress=f"10.9.0.{last}")
        here.sync()
        point = here.back_up(vm.id)["point"]
        here.simulator.expunge(vm)
        other = here.simulator.add_instance("office", running=False)
        other.nics[0].secondary_ips = ["10.9.0.78"]
        late = here.simulator.add_instance("late", running=False)

        def taken(step: str) -> None:
            if step == "ascend-planned":
                late.nics[0].secondary_ips = ["10.9.0.79"]

        steps.listen(taken)
        try:
            done = here.restore(vm.id, point, RECREATE)
        finally:
            steps.unlisten()
        (nic,) = here.row(done["instance"])["nic"]
        assert [each["ipaddress"] for each in nic["secondaryip"]] == ["10.9.0.77"]
        lost = [each for each in done["warnings"] if "secondary" in each]
        assert len(lost) == 2
        assert "10.9.0.78): another instance has" in lost[0]
        assert "10.9.0.79 was not restored" in lost[1]


def test_without_its_template_the_root_file_is_made_an_instance(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        uuid, point, was, truth = lost(here)
        for template in here.simulator.world.all(Template):
            here.simulator.world.remove(template)
        done = here.restore(uuid, point, RECREATE)
        assert done["way"] == "import-vm"
        now = shown(here.row(done["instance"]))
        assert {**now, "cards": 0} == {**was, "cards": 0}
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)
