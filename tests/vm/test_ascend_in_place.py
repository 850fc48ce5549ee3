"""Restores of an instance of a cloud onto itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendense.model.ascend import Aim, AscendRequest
from sendense.model.retention import KeepRules
from sendense_lab.lab import Lab
from tests.vm.agent_site import MIB
from tests.vm.ascend_site import AscendSite, CloudHere

pytestmark = pytest.mark.vm

IN_PLACE = AscendRequest(Aim.IN_PLACE)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab) as site:
        yield site


@pytest.fixture
def here(site: AscendSite) -> Iterator[CloudHere]:
    with site.cloud("4.20") as here:
        yield here


def test_the_same_instance_gets_what_differs(here: CloudHere) -> None:
    vm = here.add("web", tags={"tier": "front"})
    truth = here.freeze(vm.id)
    here.api.run("startVirtualMachine", id=vm.id)
    point = here.back_up(vm.id)["point"]
    here.machine(vm.id).write("vdb", 9 * MIB, 256 * 1024, 7)
    here.machine(vm.id).write("vda", 1 * MIB, 64 * 1024, 8)
    done = here.restore(vm.id, point, IN_PLACE)
    written = {item["name"]: item["written_bytes"] for item in done["written"]}
    assert sorted(written.values()) == [64 * 1024, 256 * 1024]
    assert all(item["proven"] for item in done["written"])
    assert (done["instance"], done["started"], done["way"]) == (vm.id, True, "in-place")
    row = here.row(vm.id)
    assert row["state"] == "Running"
    assert [tag["key"] for tag in row["tags"]] == ["tier"]
    here.api.run("stopVirtualMachine", id=vm.id)
    here.ensure_same(vm.id, truth)
    # The next backup's prune leaves what undoes it, and the backups that the rules keep.
    newest = here.back_up(vm.id)["point"]
    kept = {each["point"]: each["reason"] for each in here.prune(vm.id, KeepRules(last=1))["kept"]}
    assert kept.keys() == {newest, done["safety_point"]}
    assert "undoes a restore" in kept[done["safety_point"]]
    undone = here.restore(vm.id, done["safety_point"], IN_PLACE)
    assert not undone["started"]
    assert here.machine(vm.id).read("vdb", 9 * MIB, 512) == b"\x07" * 512
