"""What happens between hosts: a guest moves, a host dies, a cable is cut. Points stay right."""

from __future__ import annotations

import filecmp
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sendense.model.job import Job, JobKind, JobState
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.cluster.host import ClusterHost
from sendense_lab.vm_making import DiskSpec
from tests.cluster.fleet_site import FleetSite
from tests.vm.agent_site import MIB

SLOW = {"performance": {"bandwidth_limit_mbps": 24}}
"""A disk of 24 MiB takes 8 s."""


@pytest.fixture(scope="module")
def fleet(site: Cluster) -> Iterator[FleetSite]:
    """Both hosts with their agents, which are slow enough to be disturbed."""
    with FleetSite.on(site, name="between", attempts=1) as made:
        for host in site.hosts.values():
            made.add(host)
            made.deploy(host, **SLOW)
        made.add_repository(site.root / "between-repository")
        yield made
        for host in site.hosts.values():
            made.clear(host)


@pytest.fixture
def one(site: Cluster) -> ClusterHost:
    return site.hosts["kvm1"]


@pytest.fixture
def two(site: Cluster) -> Iterator[ClusterHost]:
    host = site.hosts["kvm2"]
    yield host
    if not host.running:
        host.start()
    host.mend()


@pytest.fixture
def vm(fleet: FleetSite, one: ClusterHost) -> Iterator[CloudVm]:
    vm = fleet.cluster.create_vm(boot="none", disks=[DiskSpec(24 * MIB)])
    vm.random_fill("vdb", 0, 24 * MIB, 1)
    vm.start(one, paused=False)
    yield vm
    if vm.running:
        vm.destroy()


def back_up(fleet: FleetSite, vm: CloudVm, host: ClusterHost):
    fleet.see(vm, host)
    return fleet.succeed(JobKind.BACKUP, vm.uuid, host.name, consistency="crash")


def ensure_right(fleet: FleetSite, vm: CloudVm, point: object) -> None:
    """Compare a point with the disks of the machine, which is off and was not written since."""
    root = fleet.cluster.root
    for target in vm.disks:
        truth = vm.read_disk(target, root / "truth.raw")
        mine = fleet.read_disk(str(point), target, root / "mine.raw")
        assert filecmp.cmp(truth, mine, shallow=False), target
        truth.unlink()
        mine.unlink()


@contextmanager
def delayed(host: ClusterHost) -> Iterator[None]:
    """Make the line of a host slow, and see that what is sent on it comes late."""
    host.delay(kbit_per_s=4000)
    try:
        slowest = 0.0
        end = time.monotonic() + 60
        while slowest < 0.3:
            assert time.monotonic() < end, f"nothing is late by more than {slowest} s"
            began = time.monotonic()
            socket.create_connection((host.address, 22), timeout=30).close()
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)
        yield
    finally:
        host.mend()


def succeeded(fleet: FleetSite, job: Job) -> Mapping[str, Any]:
    ended = fleet.end_of(job, within_s=200)
    assert ended.state is JobState.SUCCEEDED, ended.failure
    assert ended.result is not None
    return ended.result


def ensure_restored(fleet: FleetSite, vm: CloudVm, done: Mapping[str, Any]) -> None:
    """Compare what was restored with the disks of the machine, and remove it."""
    for disk in done["disks"]:
        truth = vm.read_disk(disk["target"], fleet.cluster.root / "truth.raw")
        subprocess.run(["qemu-img", "compare", disk["path"], str(truth)], check=True)
        truth.unlink()
        Path(disk["path"]).unlink()


def test_an_incremental_goes_on_where_the_guest_moved_to(
    fleet: FleetSite, vm: CloudVm, one: ClusterHost, two: ClusterHost
):
    first = back_up(fleet, vm, one)
    vm.write("vdb", 2 * MIB, 65536, 3)
    fleet.cluster.migrate(vm, two)
    vm.write("vdb", 5 * MIB, 65536, 4)
    second = back_up(fleet, vm, two)
    assert (first["mode"], second["mode"]) == ("full", "incremental")
    assert vm.domain.listAllCheckpoints() != []
    vm.destroy()
    ensure_right(fleet, vm, second["point"])


def test_a_host_dies_in_the_middle_and_the_guest_goes_on_elsewhere(
    fleet: FleetSite, vm: CloudVm, one: ClusterHost, two: ClusterHost
):
    first = back_up(fleet, vm, one)
    fleet.cluster.migrate(vm, two)
    vm.random_fill("vdb", 0, 16 * MIB, 9)
    fleet.see(vm, two)
    job = fleet.begin(JobKind.BACKUP, vm.uuid, two.name, consistency="crash")
    fleet.wait_for(lambda: fleet.captures_on(two))
    two.kill()
    assert not vm.running
    vm.start(one, paused=False)
    # CloudStack starts it on another host. The job has one try here, and says why it failed.
    ended = fleet.end_of(job, within_s=200)
    assert ended.state is JobState.FAILED
    assert ended.failure is not None
    last = back_up(fleet, vm, one)
    vm.destroy()
    ensure_right(fleet, vm, last["point"])
    points = {entry.id for entry in fleet.catalog.points.of_machine(vm.uuid, fleet.repository_id)}
    assert points == {first["point"], last["point"]}


def test_a_cut_cable_in_the_middle_costs_no_point_and_no_guest(
    fleet: FleetSite, vm: CloudVm, two: ClusterHost
):
    vm.destroy()
    vm.start(two, paused=False)
    fleet.see(vm, two)
    job = fleet.begin(JobKind.BACKUP, vm.uuid, two.name, consistency="crash")
    fleet.wait_for(lambda: fleet.captures_on(two))
    two.cut()
    time.sleep(10)
    two.mend()
    ended = fleet.end_of(job, within_s=200)
    assert ended.state is JobState.SUCCEEDED, ended.failure
    last = back_up(fleet, vm, two)
    assert last["mode"] == "incremental"
    vm.destroy()
    ensure_right(fleet, vm, last["point"])


def test_a_half_open_connection_in_the_middle_costs_no_point(
    fleet: FleetSite, vm: CloudVm, two: ClusterHost
):
    vm.destroy()
    vm.start(two, paused=False)
    fleet.see(vm, two)
    job = fleet.begin(JobKind.BACKUP, vm.uuid, two.name, consistency="crash")
    fleet.wait_for(lambda: fleet.captures_on(two))
    # The host hears us; we hear nothing of it.
    two.lose(from_host=100)
    time.sleep(10)
    two.mend()
    ended = fleet.end_of(job, within_s=200)
    assert ended.state is JobState.SUCCEEDED, ended.failure
    assert ended.result is not None
    vm.destroy()
    ensure_right(fleet, vm, ended.result["point"])


def test_a_line_that_delays_everything_costs_time_only(
    fleet: FleetSite, vm: CloudVm, two: ClusterHost
):
    vm.destroy()
    vm.start(two, paused=False)
    fleet.see(vm, two)
    job = fleet.begin(JobKind.BACKUP, vm.uuid, two.name, consistency="crash")
    fleet.wait_for(lambda: fleet.captures_on(two))
    with delayed(two):
        time.sleep(10)
    point = succeeded(fleet, job)["point"]
    vm.destroy()
    ensure_right(fleet, vm, point)
    pool = str(fleet.cluster.pool.folder)
    job = fleet.begin(JobKind.RESTORE, vm.uuid, two.name, point=point, pool=pool)
    fleet.wait_for(lambda: fleet.captures_on(two))
    with delayed(two):
        time.sleep(10)
    ensure_restored(fleet, vm, succeeded(fleet, job))


def test_a_cut_cable_in_the_middle_of_a_restore_is_no_half_machine(
    fleet: FleetSite, vm: CloudVm, two: ClusterHost
):
    vm.destroy()
    vm.start(two, paused=False)
    point = back_up(fleet, vm, two)["point"]
    vm.destroy()
    pool = str(fleet.cluster.pool.folder)
    job = fleet.begin(JobKind.RESTORE, vm.uuid, two.name, point=point, pool=pool)
    fleet.wait_for(lambda: fleet.captures_on(two))
    two.cut()
    time.sleep(10)
    two.mend()
    ended = fleet.end_of(job, within_s=200)
    if ended.state is JobState.FAILED:
        # One try, and the network took it: nothing is left, and the next one has its way free.
        assert ended.failure is not None
        done = fleet.succeed(JobKind.RESTORE, vm.uuid, two.name, point=point, pool=pool)
    else:
        assert ended.result is not None
        done = ended.result
    ensure_restored(fleet, vm, done)
