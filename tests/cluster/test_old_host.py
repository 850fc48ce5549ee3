"""The oldest host that is supported: Python 3.9, libvirt 7.0, QEMU 5.2.

Its libvirt has no backup of machines that run, in none of its forms.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendense.fleet.bundle import UNIT
from sendense.model.agent_status import Level, WorkState
from sendense.model.decision import Mode
from sendense.model.finding import Level as FindingLevel
from sendense.model.point import Consistency
from sendense_lab.cluster.cluster import cluster
from sendense_lab.commands import wait_until
from tests.cluster.fleet_site import FleetSite
from tests.cluster.installed_agent import InstalledAgent, exposure
from tests.vm.agent_site import MIB


@pytest.fixture(scope="module")
def agent() -> Iterator[InstalledAgent]:
    with cluster({"old": "bullseye"}, name="tests-old-host") as site:
        yield InstalledAgent(site, site.hosts["old"])


def test_the_preflight_says_so(agent: InstalledAgent):
    found = FleetSite.look(agent.cluster, agent.host)
    assert found.ready
    assert not found.incremental
    (warning,) = [item for item in found.findings if item.check == "incremental"]
    assert warning.level is FindingLevel.WARNING
    assert "only those that are off" in warning.message


def test_it_runs_confined(agent: InstalledAgent):
    assert agent.host.run(["python3", "--version"]).startswith("Python 3.9")
    assert agent.property_of("ActiveState") == "active"
    assert exposure(agent.host) <= 4.0


def test_a_machine_that_is_off_is_read_in_full(agent: InstalledAgent):
    vm = agent.cluster.create_vm(boot="none")
    vm.random_fill("vdb", 0, MIB, 1)
    agent.define(vm)
    for _round in range(2):
        ticket = agent.capture_ticket(vm)
        assert ticket.capture is not None
        assert {item.mode for item in ticket.capture.disks} == {Mode.FULL}
        for export in agent.ready(ticket).exports:
            assert len(agent.read(export)) == export.size
        assert agent.commit(ticket).state is WorkState.COMMITTED
    agent.host.connection.lookupByUUIDString(vm.uuid).undefine()


def test_one_that_runs_is_refused_with_what_to_do(agent: InstalledAgent):
    vm = agent.cluster.create_vm(agent.host)
    vm.guest.wait_ready()
    ticket = agent.capture_ticket(vm, consistency=Consistency.FILESYSTEM)
    agent.begin(ticket)
    wait_until(lambda: agent.status(ticket).state is WorkState.FAILED, "its end", timeout_s=120)
    error = agent.status(ticket).error
    assert error is not None
    assert error.code == "unsupported"
    assert "while it is off" in str(error.hint)
    assert vm.guest.freeze_status() == "thawed"
    assert vm.domain.listAllCheckpoints() == []
    vm.destroy()


def test_its_health_says_so(agent: InstalledAgent):
    def told() -> str | None:
        beat = agent.look("/v1/heartbeat")
        assert beat["facts"]["incremental"] is False
        found = [item for item in beat["health"] if item["name"] == "qemu"]
        return str(found[0]["level"]) if found else None

    assert wait_until(told, "the check", timeout_s=120, interval_s=0.3) == Level.WARNING.value
    agent.host.run(["systemctl", "reload", UNIT])
    assert agent.look("/v1/heartbeat")["facts"]["host"] == "old"
