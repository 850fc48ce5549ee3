"""Captures through the agent's API: what is read is what was frozen, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sendense import clock
from sendense.model.agent_status import CaptureStatus, WorkState
from sendense.model.coding import decode
from sendense.model.decision import Mode
from sendense.model.point import Consistency
from sendense.model.secret import Secret
from sendense.model.ticket import Action, sign
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.domain_xml import domain_xml
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite, checkpoint_of, point_of, raw_content

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    with site.running():
        yield site


@pytest.fixture(scope="module")
def guest(agent: AgentSite) -> CloudVm:
    """A guest that runs an operating system with its agent."""
    vm = agent.lab.create_vm(boot="guest", disks=[DiskSpec(size=32 * MIB)])
    vm.random_fill("vdb", 0, 8 * MIB, 1)
    vm.start(agent.hypervisor)
    vm.guest.wait_ready()
    return vm


def test_full_and_incremental_of_a_running_guest(agent: AgentSite, guest: CloudVm) -> None:
    beat = agent.look("/v1/heartbeat")
    assert beat["facts"]["incremental"] is True
    first = agent.capture_ticket(guest, consistency=Consistency.FILESYSTEM)
    status = agent.ready(first)
    assert status.consistency is Consistency.FILESYSTEM
    assert status.frozen_s is not None
    assert status.domain_xml
    full = {export.target: agent.read(export) for export in status.exports}
    assert agent.commit(first).state is WorkState.COMMITTED
    agent.check_free(guest)
    point = point_of(first)
    assert agent.own_marks(guest) == {f"sendense-{point}"}

    guest.write("vdb", 20 * MIB, 64 * 1024, 7)
    second = agent.capture_ticket(guest, point)
    assert {item.mode for item in agent.decisions(agent.survey(guest), point)} == {Mode.INCREMENTAL}
    status = agent.ready(second)
    for export in status.exports:
        patched, count = agent.patch(export, full[export.target])
        assert patched == agent.read(export)
        assert count < export.size / 2
    assert patched[20 * MIB : 20 * MIB + 65536] == bytes([7]) * 65536
    assert agent.commit(second, (f"sendense-{point}",)).state is WorkState.COMMITTED
    assert agent.own_marks(guest) == {checkpoint_of(second)}
    agent.check_free(guest)


@pytest.fixture
def vm(agent: AgentSite) -> Iterator[CloudVm]:
    """A running machine with a data disk, whose last point is stored."""
    vm = agent.lab.create_vm(disks=[DiskSpec(size=16 * MIB)])
    vm.random_fill("vdb", 0, 2 * MIB, 3)
    vm.start(agent.hypervisor, paused=False)
    yield vm
    if vm.running:
        vm.destroy()


def stored(agent: AgentSite, vm: CloudVm) -> str:
    """Make a full, as if a worker had stored it; gives its point."""
    ticket = agent.capture_ticket(vm)
    agent.ready(ticket)
    assert agent.commit(ticket).state is WorkState.COMMITTED
    return point_of(ticket)


def test_a_machine_that_is_off(agent: AgentSite) -> None:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=16 * MIB), DiskSpec(8 * MIB, format="raw")])
    vm.random_fill("vdb", MIB, 2 * MIB, 4)
    vm.random_fill("vdc", 0, MIB, 5)
    agent.define(vm)
    first = agent.capture_ticket(vm)
    status = agent.ready(first)
    full = {export.target: agent.read(export) for export in status.exports}
    for target, content in full.items():
        assert content == raw_content(vm, target, agent.folder)
    assert agent.commit(first).state is WorkState.COMMITTED

    point = point_of(first)
    vm.write("vdb", 5 * MIB, MIB, 9)
    second = agent.capture_ticket(vm, point)
    status = agent.ready(second)
    changed = next(item for item in status.exports if item.target == "vdb")
    patched, count = agent.patch(changed, full["vdb"])
    assert patched == raw_content(vm, "vdb", agent.folder)
    assert count < 3 * MIB
    assert agent.commit(second, (f"sendense-{point}",)).state is WorkState.COMMITTED
    assert agent.own_marks(vm) == {checkpoint_of(second)}
    agent.check_free(vm)


def test_a_machine_that_libvirt_forgot_comes_with_its_xml(agent: AgentSite) -> None:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=8 * MIB)])
    vm.random_fill("vdb", 0, MIB, 6)
    xml = domain_xml(vm.shape, vm.disks)
    agent.define(vm)
    disks = agent.decisions(agent.survey(vm), None)
    agent.hypervisor.connection.lookupByUUIDString(vm.uuid).undefine()
    ticket = agent.capture_ticket(vm, disks=disks, domain_xml=xml)
    status = agent.ready(ticket)
    assert agent.read(status.exports[1]) == raw_content(vm, "vdb", agent.folder)
    assert status.domain_xml == xml
    assert agent.abort(ticket).state is WorkState.ABORTED
    assert agent.own_marks(vm) == set()
    # Any file of the host could be read by a disk outside of the pools.
    outside = xml.replace(str(vm.disks["vdb"].path), "/etc/passwd")
    ticket = agent.capture_ticket(vm, disks=disks, domain_xml=outside)
    agent.begin(ticket)
    wait_until(lambda: agent.status(ticket).state is WorkState.FAILED, "the end", timeout_s=120)
    error = agent.status(ticket).error
    assert error is not None
    assert error.code == "not-allowed"


def test_aborted_and_asked_again(agent: AgentSite, vm: CloudVm) -> None:
    point = stored(agent, vm)
    ticket = agent.capture_ticket(vm, point)
    export = agent.ready(ticket).exports[0]
    with pytest.raises(PermissionError):
        agent.through_gate(export, "x" * 43)
    wire = agent.through_gate(export)
    assert agent.abort(ticket).state is WorkState.ABORTED
    wire.settimeout(10)
    while wire.recv(4096):
        pass  # QEMU's greeting may be on its way; then the gate ends it
    wire.close()
    with pytest.raises(PermissionError):
        agent.through_gate(export)
    assert agent.own_marks(vm) == {f"sendense-{point}"}
    agent.check_free(vm)
    # The verdict stands, whoever asks for another one later.
    assert agent.commit(ticket).state is WorkState.ABORTED
    assert agent.abort(ticket).state is WorkState.ABORTED
    reply = agent.send("POST", "/v1/captures", ticket)
    assert (reply.status, reply.body["state"]) == (202, "aborted")


def test_tickets_that_are_refused(agent: AgentSite, vm: CloudVm) -> None:
    good = agent.capture_ticket(vm)

    def refused(reply_status: int, words: str, text: str, path: str = "/v1/captures") -> None:
        reply = agent.send("POST", path, raw=text)
        assert reply.status == reply_status, reply.body
        assert words in reply.body["message"]
        assert reply.body["code"] == "not-allowed"

    refused(401, "no ticket", "")
    refused(403, "not signed for this agent", sign(good, Secret(b"x" * 40)))
    body, _, mac = sign(good, agent.secret).partition(".")
    refused(403, "not signed for this agent", f"{body[:-4]}AAAA.{mac}")
    refused(403, "another agent", sign(replace(good, agent="other"), agent.secret))
    refused(403, "to capture", sign(good, agent.secret), "/v1/restores")
    late = clock.now() - timedelta(seconds=61)
    refused(403, "60 s are tolerated", sign(replace(good, expires_at=late), agent.secret))
    look = agent.ticket(expires_at=late)
    assert agent.send("GET", "/v1/heartbeat", look).status == 403
    assert agent.send("GET", "/v1/machines", good).status == 403
    # Within the tolerated skew.
    skewed = agent.ticket(expires_at=clock.now() - timedelta(seconds=30))
    assert agent.send("GET", "/v1/heartbeat", skewed).status == 200
    # Nothing of all that began anything.
    assert agent.send("GET", f"/v1/captures/{good.id}", good).status == 404
    assert agent.own_marks(vm) == set()


def test_a_ticket_is_the_key_to_its_own_work_only(agent: AgentSite, vm: CloudVm) -> None:
    mine, other = agent.capture_ticket(vm), agent.capture_ticket(vm)
    agent.ready(mine)
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/commit"),
    ):  # fmt: skip
        reply = agent.send(method, f"/v1/captures/{mine.id}{path}", other, {"drop": []})
        assert reply.status == 403
    # Sent again it leads to the same work, also after it expired, and begins nothing.
    again = agent.send("POST", "/v1/captures", mine)
    assert decode(CaptureStatus, again.body).state is WorkState.READY
    assert agent.send("POST", f"/v1/captures/{mine.id}/commit", mine, {"drop": ["x"]}).status == 400
    agent.abort(mine)
    assert agent.own_marks(vm) == set()


def test_a_ticket_that_was_used_stays_used_over_a_restart(lab: Lab) -> None:
    site = AgentSite(lab, lab.add_hypervisor(), "replayed")
    vm = lab.create_vm(disks=[DiskSpec(size=8 * MIB)])
    vm.start(site.hypervisor, paused=False)
    with site.running():
        ticket = site.capture_ticket(vm)
        site.ready(ticket)
        site.commit(ticket)
    with site.running():
        reply = site.send("POST", "/v1/captures", ticket)
        assert (reply.status, reply.body["state"]) == (202, "committed")
        assert reply.body["machine"]["uuid"] == vm.uuid
        assert site.look("/v1/heartbeat")["running"] == []
    vm.destroy()


@pytest.mark.parametrize(
    "change",
    [
        {"target": "vdz"},
        {"bitmap": "sendense-0000"},
    ],
)
def test_a_decision_that_does_not_hold(
    agent: AgentSite, vm: CloudVm, change: dict[str, Any]
) -> None:
    point = stored(agent, vm)
    disks = agent.decisions(agent.survey(vm), point)
    wrong = (*disks[:-1], replace(disks[-1], **change))
    ticket = agent.capture_ticket(vm, disks=wrong)
    agent.begin(ticket)
    wait_until(lambda: agent.status(ticket).state is WorkState.FAILED, "the end", timeout_s=120)
    error = agent.status(ticket).error
    assert error is not None
    assert (error.code, error.retryable) == ("source-changed", True)
    assert agent.own_marks(vm) == {f"sendense-{point}"}
    agent.check_free(vm)


def test_a_guest_that_stops_ends_its_capture(agent: AgentSite, vm: CloudVm) -> None:
    point = stored(agent, vm)
    ticket = agent.capture_ticket(vm, point)
    agent.ready(ticket)
    vm.destroy()
    wait_until(lambda: agent.status(ticket).state is WorkState.FAILED, "the end", timeout_s=120)
    error = agent.status(ticket).error
    assert error is not None
    assert error.code == "source-changed"
    assert agent.own_marks(vm) == {f"sendense-{point}"}
    agent.check_free(vm)


def test_events_and_release(agent: AgentSite, vm: CloudVm) -> None:
    last = agent.look("/v1/heartbeat")["last_event"]
    stored(agent, vm)
    release = agent.ticket(Action.RELEASE, release=vm.uuid)
    removed = agent.send("POST", "/v1/releases", release).body["removed"]
    assert len(removed) == 1
    assert agent.own_marks(vm) == set()
    assert agent.send("POST", "/v1/releases", release).body["removed"] == removed
    vm.destroy()
    events = agent.look(f"/v1/events?after={last}&wait_s=10")["events"]
    assert [item["kind"] for item in events if item["machine"] == vm.uuid][-1] == "stopped"
