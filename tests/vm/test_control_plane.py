"""The whole way: control plane, gateway, tunnels, agent, guest, repository."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendense import clock
from sendense.capture.domainxml import parse_disks
from sendense.model.coding import encode
from sendense.model.fleet import Transport
from sendense.model.job import JobKind, JobState
from sendense.model.retention import KeepRules
from sendense.model.secret import Secret
from sendense.workflows.managed.enrolling import enrol
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import AGENT, MIB
from tests.vm.control_site import Cloud, control_plane

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Iterator[Cloud]:
    with control_plane(lab) as cloud:
        yield cloud


@pytest.fixture
def vm(cloud: Cloud) -> Iterator[CloudVm]:
    vm = cloud.agent.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.random_fill("vdb", 0, 4 * MIB, 3)
    vm.start(cloud.agent.hypervisor)
    cloud.wait_for(lambda: vm.uuid in {item.uuid for item in cloud.catalog.instances.names()})
    yield vm
    if vm.running:
        vm.destroy()


def paths_of(xml: str) -> list[str]:
    """Give the files of a machine's disks."""
    return [disk.disk.path for disk in parse_disks(xml)]


def test_a_host_is_seen_with_its_machines(cloud: Cloud, vm: CloudVm) -> None:
    host = cloud.wait_for(lambda: cloud.catalog.hosts.get(AGENT).heartbeat)
    assert host.facts.incremental
    instance = cloud.catalog.instances.get(vm.uuid)
    assert (instance.host_id, instance.name) == (AGENT, vm.name)


def test_backups_through_the_tunnels(cloud: Cloud, vm: CloudVm) -> None:
    first = cloud.succeed(JobKind.BACKUP, vm.uuid, consistency="crash")
    assert (first["mode"], first["warnings"]) == ("full", [])
    vm.write("vdb", 9 * MIB, 64 * 1024, 5)
    second = cloud.succeed(JobKind.BACKUP, vm.uuid, consistency="crash")
    assert (second["mode"], [disk["reason"] for disk in second["disks"]]) == (
        "incremental",
        ["usable"] * 2,
    )
    entry = cloud.catalog.points.get(second["point"], cloud.repository_id)
    assert entry.machine_uuid == vm.uuid
    cloud.succeed(JobKind.VERIFY, cloud.repository_id)
    kept = KeepRules(last=1)
    pruned = cloud.succeed(JobKind.PRUNE, vm.uuid, machine=vm.uuid, keep=encode(kept))
    assert pruned["deleted"] == [first["point"]]
    assert cloud.catalog.points.of_machine(vm.uuid, cloud.repository_id) == (entry,)
    cloud.agent.check_free(vm)


def test_a_restore_to_the_pool(cloud: Cloud, vm: CloudVm) -> None:
    made = cloud.succeed(JobKind.BACKUP, vm.uuid, consistency="crash")
    vm.destroy()
    done = cloud.succeed(JobKind.RESTORE, vm.uuid, point=made["point"], pool=str(cloud.agent.pool))
    for disk in done["disks"]:
        volume = vm.disks[disk["target"]]
        subprocess.run(["qemu-img", "compare", disk["path"], volume.path], check=True)
        Path(disk["path"]).unlink()


def test_a_cancelled_job_frees_the_guest(cloud: Cloud, vm: CloudVm) -> None:
    cloud.agent.configure_again("performance: {bandwidth_limit_mbps: 4}")
    cloud.wait_for(lambda: cloud.facts().bandwidth_limit_mbps == 4)
    vm.random_fill("vdb", 0, 24 * MIB, 4)
    job = cloud.submit(JobKind.BACKUP, vm.uuid, consistency="crash")
    cloud.wait_for(lambda: (cloud.catalog.jobs.get(job.id).progress or {}).get("done_bytes"))
    asked = time.monotonic()
    cloud.catalog.jobs.request_cancel(job.id, clock.now())
    assert cloud.end_of(job).state is JobState.CANCELLED
    assert time.monotonic() - asked < 40
    cloud.agent.check_free(vm)
    assert cloud.agent.own_marks(vm) == set()


def test_a_revoked_host_is_cut_off(cloud: Cloud) -> None:
    cloud.catalog.hosts.revoke(AGENT, clock.now())
    cloud.plane.let_in()
    port = cloud.catalog.hosts.get(AGENT).control_port

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    cloud.wait_for(refused)
    key = (cloud.agent.folder / "tunnel.key.pub").read_text()
    cloud.catalog.hosts.enrol(
        AGENT, public_key=key, ticket_secret=cloud.agent.secret, at=clock.now()
    )
    cloud.plane.let_in()
    began = clock.now()
    cloud.wait_for(lambda: (cloud.catalog.hosts.get(AGENT).last_seen or began) > began)


def test_the_transport_tls(cloud: Cloud, vm: CloudVm) -> None:
    cloud.catalog.hosts.edit(AGENT, transport=Transport.TLS)
    key = (cloud.agent.folder / "tunnel.key.pub").read_text()
    made = enrol(cloud.catalog, cloud.plane.desk(), AGENT, key)
    assert made.certificate is not None
    folder = cloud.agent.folder / "pki"
    folder.mkdir()
    for name, text in (
        ("ca-cert.pem", made.certificate.authority),
        ("server-cert.pem", made.certificate.certificate),
        ("server-key.pem", made.certificate.key),
    ):
        (folder / name).write_text(text)
    cloud.agent.stop()
    cloud.agent.know(AGENT, Secret(made.secret))
    cloud.agent.configure(
        f"  tls: {{address: 127.0.0.1, certificates: {folder}}}",
        transport="tls",
        gateway=cloud.agent.gateway,
    )
    cloud.agent.start(program="sendense.agent")
    vm.write("vdb", 9 * MIB, 64 * 1024, 5)
    done = cloud.succeed(JobKind.BACKUP, vm.uuid, consistency="crash")
    vm.destroy()
    restored = cloud.succeed(
        JobKind.RESTORE, vm.uuid, point=done["point"], pool=str(cloud.agent.pool)
    )
    for disk in restored["disks"]:
        volume = vm.disks[disk["target"]]
        subprocess.run(["qemu-img", "compare", disk["path"], volume.path], check=True)
        Path(disk["path"]).unlink()
