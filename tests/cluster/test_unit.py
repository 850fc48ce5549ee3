"""The agent inside its unit: it can do its work, and not much else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendense.fleet.bundle import UNIT
from sendense.model.agent_status import Level, WorkState
from sendense.model.decision import Mode
from sendense.model.point import Consistency
from sendense.model.ticket import PlaceKind, RestoreOrder, RestorePlace
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.commands import wait_until
from sendense_lab.errors import CommandFailed
from sendense_lab.vm_making import DiskSpec
from tests.cluster.installed_agent import InstalledAgent, exposure
from tests.vm.agent_site import MIB, point_of

SIZE = 8 * MIB
IDLE_MOST = 64 * MIB


on_one_release = pytest.mark.parametrize("agent", ["kvm1"], indirect=True)
"""For what the release makes no difference to."""


@pytest.fixture(scope="module", params=["kvm1", "kvm2"])
def agent(site: Cluster, request: pytest.FixtureRequest) -> Iterator[InstalledAgent]:
    installed = InstalledAgent(site, site.hosts[request.param])
    yield installed
    installed.host.run(["systemctl", "stop", UNIT])


@pytest.fixture
def stopped(agent: InstalledAgent) -> Iterator[CloudVm]:
    """A machine that is off and that libvirt keeps."""
    vm = agent.cluster.create_vm(boot="none", disks=[DiskSpec(SIZE)])
    vm.random_fill("vdb", 0, 2 * MIB, 1)
    agent.define(vm)
    yield vm
    agent.host.connection.lookupByUUIDString(vm.uuid).undefine()


def test_it_is_exposed_little(agent: InstalledAgent):
    assert agent.property_of("ActiveState") == "active"
    assert exposure(agent.host) <= 4.0


def test_a_guest_that_runs(agent: InstalledAgent):
    vm = agent.cluster.create_vm(agent.host, disks=[DiskSpec(16 * MIB)])
    vm.guest.wait_ready()
    first = agent.capture_ticket(vm, consistency=Consistency.FILESYSTEM)
    status = agent.ready(first)
    assert status.consistency is Consistency.FILESYSTEM, status.warnings
    before = {export.target: agent.read(export) for export in status.exports}
    assert agent.commit(first).state is WorkState.COMMITTED
    point = point_of(first)
    vm.write("vdb", 12 * MIB, 65536, 7)
    second = agent.capture_ticket(vm, point)
    assert {item.mode for item in agent.decisions(agent.survey(vm), point)} == {Mode.INCREMENTAL}
    for export in agent.ready(second).exports:
        patched, _count = agent.patch(export, before[export.target])
        assert patched == agent.read(export)
    agent.commit(second, (f"sendense-{point}",))
    released = agent.send("POST", "/v1/releases", agent.ticket_to_release(vm))
    assert released.status == 200, released.body
    assert agent.own_marks(vm) == set()
    vm.destroy()


def test_a_machine_that_is_off(agent: InstalledAgent, stopped: CloudVm):
    first = agent.capture_ticket(stopped)
    for export in agent.ready(first).exports:
        if export.target == "vdb":
            assert agent.read(export) == stopped.read("vdb", 0, SIZE)
    assert agent.commit(first).state is WorkState.COMMITTED
    assert agent.own_marks(stopped) == {f"sendense-{point_of(first)}"}
    released = agent.send("POST", "/v1/releases", agent.ticket_to_release(stopped))
    assert released.status == 200, released.body
    assert agent.own_marks(stopped) == set()


@pytest.mark.parametrize("kind", [PlaceKind.EXISTING, PlaceKind.NEW_FILE])
def test_disks_are_restored(agent: InstalledAgent, stopped: CloudVm, kind: PlaceKind):
    wanted = os.urandom(SIZE)
    volume = stopped.disks["vdb"]
    path = volume.path if kind is PlaceKind.EXISTING else agent.pool / f"new-{time.time_ns()}"
    place = RestorePlace("vdb", str(path), "qcow2", SIZE, kind)
    machine = stopped.uuid if kind is PlaceKind.EXISTING else None
    ticket = agent.restore_ticket(RestoreOrder((place,), machine=machine))
    status = agent.restore_ready(ticket)
    assert status.state is WorkState.READY, status.error
    agent.write(status.exports[0], wanted)
    agent.finish(ticket)
    wait_until(
        lambda: agent.restore_status(ticket).state is WorkState.COMMITTED,
        "the end of the restore",
        timeout_s=120,
    )
    raw = agent.cluster.root / "restored.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    assert raw.read_bytes() == wanted
    raw.unlink()


@on_one_release
def test_what_it_may_not_do(agent: InstalledAgent):
    inside = ["nsenter", "--target", str(agent.pid), "--mount", "--"]
    for folder in ("/etc", "/usr/lib", "/opt/sendense", "/var/lib/dpkg", "/boot"):
        refused = subprocess.run(
            [*inside, "touch", f"{folder}/written"], check=False, capture_output=True, text=True
        )
        assert "Read-only file system" in refused.stderr
    assert subprocess.run([*inside, "ls", "/root/.ssh"], check=False).returncode != 0
    status = Path(f"/proc/{agent.pid}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    # DAC_OVERRIDE is bit 1.
    assert int(facts["CapBnd"], 16) == 0b10


def test_health_and_metrics(agent: InstalledAgent):
    def seen() -> dict[str, str] | None:
        health = {item["name"]: item["level"] for item in agent.look("/v1/heartbeat")["health"]}
        return health if {"qemu", "scratch", "load", "memory", "clock"} <= set(health) else None

    health = wait_until(seen, "all checks", timeout_s=120, interval_s=0.3)
    assert health["libvirt"] == Level.OK.value, agent.look("/v1/heartbeat")["health"]
    assert health["memory"] == Level.OK.value
    metrics = agent.look("/metrics")
    assert 'sendense_agent_health{check="libvirt"} 1\n' in metrics
    assert "process_resident_memory_bytes" in metrics


@on_one_release
def test_scratch_that_is_full_is_told(agent: InstalledAgent):
    agent.settle(scratch_reserve="900T")
    agent.host.run(["systemctl", "reload", UNIT])

    def told() -> dict[str, str] | None:
        for item in agent.look("/v1/heartbeat")["health"]:
            if item["name"] == "scratch" and item["level"] == Level.FAILED.value:
                return dict(item)
        return None

    found = wait_until(told, "the warning", timeout_s=120, interval_s=0.5)
    assert "no capture begins" in found["message"]
    agent.settle()
    agent.host.run(["systemctl", "reload", UNIT])


@on_one_release
def test_it_takes_little_memory(agent: InstalledAgent):
    agent.restart()
    agent.look("/v1/machines")
    assert agent.resident_bytes() <= IDLE_MOST


@on_one_release
def test_one_that_hangs_is_started_again(agent: InstalledAgent):
    drop_in = f"/run/systemd/system/{UNIT}.d/watchdog.conf"
    agent.host.put(drop_in, "[Service]\nWatchdogSec=3\nRestartSec=0\n")
    agent.restart()
    wait_until(
        lambda: agent.property_of("StatusText").startswith("serving"), "its status", timeout_s=120
    )
    pid = agent.pid
    os.kill(pid, signal.SIGSTOP)
    agent.wait_restarted(pid)
    assert "Watchdog timeout" in agent.host.run(["journalctl", "-b", "--no-pager"])
    agent.host.run(["rm", drop_in])
    agent.restart()
    assert agent.look("/v1/heartbeat")["facts"]["id"] == "lab-agent"


@on_one_release
def test_settings_that_are_wrong_are_told_by_line(agent: InstalledAgent):
    program = ["/opt/sendense/bin/sendense-capture-agent", "--check", "--config"]
    agent.host.put("/root/wrong.yaml", "kvm_agent:\n  id: x\n  transprot: local\n")
    with pytest.raises(CommandFailed, match="transprot"):
        agent.host.run([*program, "/root/wrong.yaml"])
