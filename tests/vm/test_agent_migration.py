"""A guest moves to another host: both agents tell, and its incremental goes on over there."""

from __future__ import annotations

import pytest

from sendense.model.agent_status import WorkState
from sendense.model.decision import Mode
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite, checkpoint_of, point_of

pytestmark = pytest.mark.vm


def kinds(site: AgentSite, machine: str) -> list[str]:
    events = site.look("/v1/events?after=0&wait_s=5")["events"]
    return [item["kind"] for item in events if item["machine"] == machine]


def test_a_guest_that_moves_away(lab: Lab) -> None:
    here, there = (AgentSite(lab, lab.add_hypervisor(), name) for name in ("here", "there"))
    vm = lab.create_vm(disks=[DiskSpec(size=8 * MIB)])
    vm.random_fill("vdb", 0, 2 * MIB, 1)
    with here.running(), there.running():
        vm.start(here.hypervisor, paused=False)
        first = here.capture_ticket(vm)
        full = here.read(here.ready(first).exports[1])
        here.commit(first)
        # One that is parked, and whose point was not stored, does not hold the guest.
        lost = here.capture_ticket(vm, point_of(first))
        here.ready(lost)
        here.stop()
        here.start()
        vm.migrate(there.hypervisor)
        vm.write("vdb", 4 * MIB, 65536, 3)
        assert kinds(here, vm.uuid)[-1] == "migrated-away"
        assert kinds(there, vm.uuid)[0] == "migrated-here"
        assert here.send("GET", f"/v1/machines/{vm.uuid}", here.ticket()).status == 404

        second = there.capture_ticket(vm, point_of(first))
        assert second.capture is not None
        assert {item.mode for item in second.capture.disks} == {Mode.INCREMENTAL}
        export = there.ready(second).exports[1]
        patched, count = there.patch(export, full)
        assert patched == there.read(export)
        assert patched[4 * MIB : 4 * MIB + 65536] == bytes([3]) * 65536
        assert count < 3 * MIB
        assert there.commit(second, (checkpoint_of(first),)).state is WorkState.COMMITTED
        there.check_free(vm)
        assert checkpoint_of(second) in there.own_marks(vm)
    vm.destroy()
