"""Captures that nobody asks for any more: the guest is free, and no point loses its base."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendense.capture.journal import stale_machines
from sendense.model.agent_status import WorkState
from sendense.model.ticket import Ticket
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite, checkpoint_of, point_of

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    site.configure(lease_s=5)
    with site.running():
        yield site


@pytest.fixture
def vm(agent: AgentSite) -> Iterator[CloudVm]:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=8 * MIB)])
    vm.start(agent.hypervisor, paused=False)
    yield vm
    if vm.running:
        vm.destroy()


def parked(agent: AgentSite, vm: CloudVm) -> tuple[Ticket, Ticket]:
    """Store a point, then have the capture after it parked; gives both tickets."""
    first = agent.capture_ticket(vm)
    agent.ready(first)
    agent.commit(first)
    second = agent.capture_ticket(vm, point_of(first))
    agent.ready(second)
    record = agent.state_dir / "agent" / f"{second.id}.json"
    wait_until(lambda: '"state": "parked"' in record.read_text(), "the lease's end", timeout_s=120)
    agent.check_free(vm)
    assert agent.own_marks(vm) == {checkpoint_of(first), checkpoint_of(second)}
    assert agent.status(second).state is WorkState.PARKED
    return first, second


def test_parked_then_committed(agent: AgentSite, vm: CloudVm) -> None:
    first, second = parked(agent, vm)
    assert second.id in agent.look("/v1/heartbeat")["running"]
    assert agent.commit(second, (checkpoint_of(first),)).state is WorkState.COMMITTED
    assert agent.own_marks(vm) == {checkpoint_of(second)}
    assert agent.commit(second, (checkpoint_of(first),)).state is WorkState.COMMITTED
    assert vm.uuid not in stale_machines(agent.state_dir)
    assert agent.look("/v1/heartbeat")["running"] == []


def test_parked_then_aborted(agent: AgentSite, vm: CloudVm) -> None:
    first, second = parked(agent, vm)
    assert agent.abort(second).state is WorkState.ABORTED
    assert agent.own_marks(vm) == {checkpoint_of(first)}
    assert vm.uuid not in stale_machines(agent.state_dir)


@pytest.mark.parametrize("stored", [True, False])
def test_the_next_capture_settles_what_is_parked(
    agent: AgentSite, vm: CloudVm, *, stored: bool
) -> None:
    first, second = parked(agent, vm)
    base = second if stored else first
    committed = (point_of(first), point_of(second)) if stored else (point_of(first),)
    third = agent.capture_ticket(vm, point_of(base), committed=committed)
    status = agent.ready(third)
    assert any("parked" in line for line in status.repaired)
    expected = {checkpoint_of(first), checkpoint_of(third)}
    expected |= {checkpoint_of(second)} if stored else set()
    assert agent.own_marks(vm) == expected
    state = agent.status(second).state
    assert state is (WorkState.COMMITTED if stored else WorkState.FAILED)
    agent.abort(third)


def test_parked_then_the_guest_stops(agent: AgentSite, vm: CloudVm) -> None:
    first, second = parked(agent, vm)
    vm.destroy()
    assert agent.own_marks(vm) == {checkpoint_of(first), checkpoint_of(second)}
    assert agent.commit(second, (checkpoint_of(first),)).state is WorkState.COMMITTED
    assert agent.own_marks(vm) == {checkpoint_of(second)}


def test_parked_over_a_restart(agent: AgentSite, vm: CloudVm) -> None:
    first, second = parked(agent, vm)
    agent.stop()
    agent.start()
    assert agent.status(second).state is WorkState.PARKED
    assert agent.commit(second, (checkpoint_of(first),)).state is WorkState.COMMITTED
    assert agent.own_marks(vm) == {checkpoint_of(second)}


def test_ended_in_order_a_capture_is_parked(agent: AgentSite, vm: CloudVm) -> None:
    first = agent.capture_ticket(vm)
    agent.ready(first)
    assert agent.stop() == 0
    agent.check_free(vm)
    agent.start()
    assert agent.status(first).state is WorkState.PARKED
    assert agent.abort(first).state is WorkState.ABORTED
    assert agent.own_marks(vm) == set()
