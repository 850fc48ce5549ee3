"""A control plane of real processes: asked by REST, and killed in the middle of its work."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from sendense_lab.cloud_vm import CloudVm
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite
from tests.vm.cloud_processes import CloudProcesses

pytestmark = [pytest.mark.vm, pytest.mark.slow]


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Iterator[CloudProcesses]:
    agent = AgentSite(lab, lab.add_hypervisor())
    cloud = CloudProcesses(lab, agent)
    try:
        cloud.start_server()
        cloud.enrol()
        cloud.make_repository()
        agent.start(program="sendense.agent")
        for name in ("mover1", "mover2"):
            cloud.start(name, "worker", "--name", name)
        yield cloud
    finally:
        agent.stop()
        cloud.stop()


@pytest.fixture
def vm(cloud: CloudProcesses) -> Iterator[CloudVm]:
    vm = cloud.agent.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.random_fill("vdb", 0, 12 * MIB, 3)
    vm.start(cloud.agent.hypervisor)
    cloud.wait_for(lambda: vm.uuid in {it["uuid"] for it in cloud.get("/instances")["items"]})
    yield vm
    cloud.agent.configure_again("performance: {bandwidth_limit_mbps: 0}")
    if vm.running:
        vm.destroy()


def back_up(cloud: CloudProcesses, vm: CloudVm):
    return cloud.post(
        "/backup/cloudstack",
        {"vm_id": vm.uuid, "backup_type": "incremental", "consistency": "crash"},
    )


def begun(cloud: CloudProcesses, job) -> bool:
    return bool((cloud.get(f"/jobs/{job['id']}")["progress"] or {}).get("done_bytes"))


def slowly(cloud: CloudProcesses) -> None:
    """Have the host's bytes flow so slowly that a backup can be met in the middle."""
    cloud.agent.configure_again("performance: {bandwidth_limit_mbps: 8}")
    cloud.wait_for(lambda: cloud.get("/agents")["items"][0]["bandwidth_limit_mbps"] == 8)


def check(cloud: CloudProcesses, vm: CloudVm, count: int) -> None:
    """Prove that there are so many points, all sound, and nothing is left on the host."""
    points = cloud.get("/points", machine=vm.uuid)["items"]
    assert len(points) == count
    repository = cloud.get("/repositories")["items"][0]["id"]
    cloud.succeeded(cloud.post("/jobs/verify", {"repository_id": repository, "machine": vm.uuid}))
    cloud.agent.check_free(vm)
    assert len(cloud.agent.own_marks(vm)) == 1


def test_a_backup_by_rest_begins_within_two_seconds(cloud: CloudProcesses, vm: CloudVm) -> None:
    asked = time.monotonic()
    job = back_up(cloud, vm)
    cloud.wait_for(lambda: begun(cloud, job) or cloud.get(f"/jobs/{job['id']}")["result"])
    seconds = time.monotonic() - asked
    first = cloud.succeeded(job)
    assert first["mode"] == "full"
    print(f"from POST to bytes that were reported: {seconds:.1f} s")
    vm.write("vdb", 20 * MIB, 64 * 1024, 5)
    second = cloud.succeeded(back_up(cloud, vm))
    assert {disk["reason"] for disk in second["disks"]} == {"usable"}
    check(cloud, vm, 2)


def test_a_worker_that_is_killed_in_the_middle(cloud: CloudProcesses, vm: CloudVm) -> None:
    cloud.succeeded(back_up(cloud, vm))
    vm.random_fill("vdb", 0, 24 * MIB, 8)
    slowly(cloud)
    job = back_up(cloud, vm)
    cloud.wait_for(lambda: begun(cloud, job))
    catalog = cloud.catalog()
    (run,) = [item for item in catalog.runs.list() if item.job_id == job["id"]]
    cloud.kill(run.worker)
    cloud.agent.configure_again("performance: {bandwidth_limit_mbps: 0}")
    done = cloud.succeeded(job)
    assert done["mode"] == "incremental"
    cloud.start(run.worker, "worker", "--name", run.worker)
    check(cloud, vm, 2)
    catalog.close()


def test_a_worker_that_is_killed_in_the_middle_of_a_restore(
    cloud: CloudProcesses, vm: CloudVm
) -> None:
    point = cloud.succeeded(back_up(cloud, vm))["point"]
    slowly(cloud)
    pool = cloud.agent.pool
    job = cloud.post("/jobs/restore", {"point_id": point, "pool": str(pool)})
    cloud.wait_for(lambda: [*pool.glob(f"*{point}*.part")] and begun(cloud, job))
    catalog = cloud.catalog()
    (run,) = [item for item in catalog.runs.list() if item.job_id == job["id"]]
    catalog.close()
    cloud.kill(run.worker)
    cloud.agent.configure_again("performance: {bandwidth_limit_mbps: 0}")
    done = cloud.succeeded(job)
    cloud.start(run.worker, "worker", "--name", run.worker)
    assert {disk["target"] for disk in done["disks"]} == {"vda", "vdb"}
    left = {str(path) for path in pool.glob(f"*{point}*")}
    assert left == {disk["path"] for disk in done["disks"]}
    cloud.agent.check_free(vm)


def test_a_server_that_is_killed_in_the_middle(cloud: CloudProcesses, vm: CloudVm) -> None:
    slowly(cloud)
    job = back_up(cloud, vm)
    cloud.wait_for(lambda: begun(cloud, job))
    cloud.kill("server")
    time.sleep(1)
    cloud.start_server()
    cloud.agent.configure_again("performance: {bandwidth_limit_mbps: 0}")
    assert cloud.succeeded(job)["mode"] == "full"
    check(cloud, vm, 1)


def test_an_agent_that_is_killed_in_the_middle(cloud: CloudProcesses, vm: CloudVm) -> None:
    cloud.succeeded(back_up(cloud, vm))
    vm.random_fill("vdb", 0, 24 * MIB, 9)
    slowly(cloud)
    job = back_up(cloud, vm)
    cloud.wait_for(lambda: begun(cloud, job))
    cloud.agent.stop(signal.SIGKILL)
    cloud.agent.configure_again("performance: {bandwidth_limit_mbps: 0}")
    cloud.agent.start(program="sendense.agent")
    done = cloud.succeeded(job)
    assert done["mode"] == "incremental"
    check(cloud, vm, 2)
