"""The agent as a process: what it takes of its host, whom it serves, how it changes and ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendense.model.agent_status import WorkState
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    with site.running():
        yield site


def machines(agent: AgentSite, count: int) -> list[CloudVm]:
    made = [agent.lab.create_vm(disks=[DiskSpec(size=4 * MIB)]) for _ in range(count)]
    for vm in made:
        vm.start(agent.hypervisor, paused=False)
    return made


def test_the_host_s_limits_are_kept_and_told(agent: AgentSite) -> None:
    agent.configure("  performance: {max_concurrent_vms: 1}")
    wait_until(
        lambda: agent.look("/v1/heartbeat")["facts"]["max_concurrent_vms"] == 1,
        "the new limit",
        timeout_s=120,
    )
    one, two = machines(agent, 2)
    first, second = agent.capture_ticket(one), agent.capture_ticket(two)
    agent.ready(first)
    waiting = agent.begin(second)
    assert waiting.state is WorkState.QUEUED
    assert "max_concurrent_vms" in (waiting.waiting_for or "")
    assert agent.look("/v1/heartbeat")["queued"] == 1
    reply = agent.send("POST", f"/v1/captures/{second.id}/commit", second, {"drop": []})
    assert (reply.status, reply.body["code"]) == (409, "busy")
    agent.abort(first)
    agent.wait_for(second, WorkState.READY)
    agent.abort(second)
    for vm in (one, two):
        assert agent.own_marks(vm) == set()
        vm.destroy()
    agent.configure()


def test_outside_of_its_window_a_capture_waits(agent: AgentSite) -> None:
    (vm,) = machines(agent, 1)
    hour = time.localtime().tm_hour
    window = f"{(hour + 2) % 24:02d}:00-{(hour + 3) % 24:02d}:00"
    agent.configure(f'  performance: {{backup_window: "{window}"}}')
    wait_until(
        lambda: agent.look("/v1/heartbeat")["facts"]["backup_window"] == window,
        "the window",
        timeout_s=120,
    )
    ticket = agent.capture_ticket(vm)
    waiting = agent.begin(ticket)
    assert waiting.state is WorkState.QUEUED
    assert f"{(hour + 2) % 24:02d}:00" in (waiting.waiting_for or "")
    agent.configure()
    agent.wait_for(ticket, WorkState.READY)
    agent.abort(ticket)
    vm.destroy()


def test_a_wrong_file_changes_nothing_and_is_told(agent: AgentSite) -> None:
    def settings_health() -> dict[str, str]:
        health = agent.look("/v1/heartbeat")["health"]
        return next(item for item in health if item["name"] == "settings")

    text = agent.settings_file.read_text()
    agent.settings_file.write_text(text.replace("lease_s: 60", "lease_s: soon"))
    wait_until(lambda: settings_health()["level"] == "warning", "the complaint", timeout_s=120)
    line = 1 + text.splitlines().index("  lease_s: 60")
    assert f"line {line}: kvm_agent.lease_s" in settings_health()["message"]
    agent.settings_file.write_text(text.replace("transport: ssh", "transport: local"))
    wait_until(lambda: "next start" in settings_health()["message"], "the note", timeout_s=120)
    assert agent.look("/v1/heartbeat")["facts"]["transport"] == "ssh"
    agent.settings_file.write_text(text)
    wait_until(lambda: settings_health()["level"] == "ok", "the end of it", timeout_s=120)


def test_memory(agent: AgentSite) -> None:
    site = AgentSite(agent.lab, agent.hypervisor, "memory")
    site.configure(
        "  performance: {max_concurrent_vms: 10}\n  nbd_export: {max_concurrent_exports: 20}"
    )
    with site.running():
        site.look("/v1/heartbeat")
        idle = site.resident_bytes()
        assert idle < 64 * MIB, idle
        guests = machines(agent, 10)
        tickets = [site.capture_ticket(vm) for vm in guests]
        exports = [export for ticket in tickets for export in site.ready(ticket).exports]
        readers = [threading.Thread(target=site.read, args=(item,)) for item in exports]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        loaded = site.resident_bytes()
        print(f"idle {idle / MIB:.1f} MiB, ten captures {loaded / MIB:.1f} MiB")
        assert loaded < 256 * MIB, loaded
        for ticket in tickets:
            assert site.abort(ticket).state is WorkState.ABORTED
    for vm in guests:
        site.check_free(vm)
        vm.destroy()


def test_two_agents_in_one_state_directory(agent: AgentSite) -> None:
    other = AgentSite(agent.lab, agent.hypervisor, "other")
    text = other.settings_file.read_text()
    other.settings_file.write_text(text.replace(str(other.state_dir), str(agent.state_dir)))
    with pytest.raises(AssertionError, match="another agent works"):
        other.start(program="sendense.agent")
    other.stop()


def test_as_it_is_installed_with_the_transport_local(lab: Lab) -> None:
    site = AgentSite(lab, lab.add_hypervisor(), "local")
    site.configure(transport="local")
    (vm,) = machines(site, 1)
    vm.write("vdb", 0, MIB, 8)
    site.start(program="sendense.agent")
    ticket = site.capture_ticket(vm)
    export = site.ready(ticket).exports[1]
    assert Path(export.socket or "").is_socket()
    assert site.read(export)[:MIB] == bytes([8]) * MIB
    assert site.commit(ticket).state is WorkState.COMMITTED
    metrics = site.look("/metrics")
    assert 'sendense_agent_works_total{kind="capture",outcome="committed"} 1' in metrics
    assert site.stop(signal.SIGTERM) == 0
    assert not (site.folder / "a.sock").exists()
    vm.destroy()
