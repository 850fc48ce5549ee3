"""Restores onto volumes that the control plane names: of any machine, by what differs, proven.

The agent is a process of its own; the worker is we.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from sendense.agent.marks import half_restored
from sendense.errors import Busy, Damaged, NotAllowed, Rejected, SendenseError
from sendense.fleet.agent_client import AgentClient
from sendense.model.point import RecoveryPoint
from sendense.model.restoring import VolumePlace
from sendense.workflows.remote_destinations import (
    OntoMachine,
    OntoVolumes,
    plan_remote_restore,
)
from sendense.workflows.remote_restore import (
    RemoteRestoreOptions,
    RemoteRestoreResult,
    run_remote_restore,
)
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.lab import DiskSpec, Lab
from sendense_lab.pool import Volume
from tests.vm.agent_site import MIB, AgentSite
from tests.vm.remote_worker import Worker, at_step, new_worker, on_disk, raw_of

pytestmark = pytest.mark.vm

SIZE = 24 * MIB


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    with site.running():
        yield site


@pytest.fixture(scope="module")
def worker(agent: AgentSite) -> Iterator[Worker]:
    with new_worker(agent) as worker:
        yield worker


@pytest.fixture(scope="module")
def original(agent: AgentSite) -> CloudVm:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)])
    vm.random_fill("vdb", 0, 6 * MIB, 3)
    return vm


@pytest.fixture(scope="module")
def point(worker: Worker, original: CloudVm) -> RecoveryPoint:
    return worker.back_up(original, domain_xml=original.xml())


@pytest.fixture(scope="module")
def expected(original: CloudVm, point: RecoveryPoint) -> dict[str, bytes]:
    """What the disks hold that the point was made of."""
    return on_disk(original)


@pytest.fixture
def other(agent: AgentSite) -> Iterator[CloudVm]:
    """Another machine, off, with disks of the same sizes: its root one is cut from the template."""
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)])
    vm.random_fill("vdb", 0, SIZE, 7)
    yield vm
    if vm.running:
        vm.destroy()


def place(volume: Volume, image_format: str | None = None) -> VolumePlace:
    return VolumePlace(str(volume.path), image_format or volume.format, volume.size)


def onto(vm: CloudVm, point: RecoveryPoint, *targets: str) -> OntoVolumes:
    """Name volumes of a machine, by the identity of the point's disk."""
    identity = {image.disk.target: image.disk.identity for image in point.disks}
    places = {identity[target]: place(vm.disks[target]) for target in targets or tuple(vm.disks)}
    return OntoVolumes(vm.uuid, places, vm.name)


def restore(
    worker: Worker, point: RecoveryPoint, destination: OntoVolumes, **options
) -> RemoteRestoreResult:
    plan = plan_remote_restore(point, destination)
    with worker.client() as client:
        return run_remote_restore(
            client,
            plan,
            destination,
            worker.repository(),
            RemoteRestoreOptions(uuid.uuid4().hex, **options),
        )


def test_all_disks_onto_fresh_volumes_of_another_machine(
    worker: Worker, other: CloudVm, point: RecoveryPoint, expected: dict[str, bytes]
) -> None:
    result = restore(worker, point, onto(other, point), verify=True)
    assert on_disk(other) == expected
    assert [item.read_back for item in result.disks] == [True, True]
    assert any("does not know the machine" in text for text in result.warnings)
    assert half_restored(worker.agent.state_dir) == ()
    worker.agent.check_free(other)
    other.start(worker.agent.hypervisor)


def test_one_disk_as_raw_by_what_differs(
    worker: Worker, agent: AgentSite, point: RecoveryPoint, expected: dict[str, bytes]
) -> None:
    volume = agent.lab.pool.create(SIZE, format="raw")
    volume.path.write_bytes(os.urandom(SIZE))
    named = {"vdb": place(volume)}
    result = restore(worker, point, OntoVolumes(str(uuid.uuid4()), named), changed_only=True)
    assert volume.path.read_bytes() == expected["vdb"]
    assert [item.image.disk.target for item in result.plan.left_out] == ["vda"]
    assert result.disks[0].compared_bytes == SIZE


def test_only_what_differs_is_written(
    worker: Worker, other: CloudVm, point: RecoveryPoint, expected: dict[str, bytes]
) -> None:
    destination = onto(other, point)
    restore(worker, point, destination, changed_only=True)
    assert on_disk(other) == expected
    other.write("vdb", 9 * MIB + 4096, 64 * 1024, 5)
    other.discard("vdb", 2 * MIB, MIB)
    result = restore(worker, point, destination, changed_only=True, verify=True)
    assert on_disk(other) == expected
    root, data = result.disks
    assert (root.data_bytes, root.zero_bytes) == (0, 0)
    assert data.data_bytes == MIB
    assert data.zero_bytes == 2 * 64 * 1024


class _Once:
    """Acts at the n-th call, and no more."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        self._left, self._act = number, act

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


def test_an_agent_that_is_killed_in_the_middle_and_a_repeat(
    worker: Worker, other: CloudVm, point: RecoveryPoint, expected: dict[str, bytes]
) -> None:
    agent = worker.agent
    paths = {str(volume.path) for volume in other.disks.values()}
    destination = onto(other, point)

    def kill() -> None:
        agent.stop(signal.SIGKILL)
        agent.start()

    with (
        at_step("remote-range-settled", _Once(8, kill)),
        pytest.raises(SendenseError),
    ):
        restore(worker, point, destination, changed_only=True)
    assert set(half_restored(agent.state_dir)) == paths
    assert on_disk(other) != expected
    restore(worker, point, destination, changed_only=True, verify=True)
    assert on_disk(other) == expected
    assert half_restored(agent.state_dir) == ()
    agent.check_free(other)


def test_a_machine_that_is_started_meanwhile(
    worker: Worker, other: CloudVm, point: RecoveryPoint, expected: dict[str, bytes]
) -> None:
    refused = []

    def start() -> None:
        with suppress(Exception):
            other.start(worker.agent.hypervisor)
            return
        refused.append(True)

    destination = onto(other, point)
    # A start that takes long to be refused ends the restore, which is then repeated.
    with at_step("remote-range-settled", _Once(8, start)), suppress(Rejected):
        restore(worker, point, destination, changed_only=True)
    # The lock of its images kept it off.
    assert refused
    if half_restored(worker.agent.state_dir):
        restore(worker, point, destination, changed_only=True)
    assert on_disk(other) == expected


def test_storage_that_does_not_keep_what_it_is_given(
    worker: Worker, other: CloudVm, point: RecoveryPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = worker.agent
    call = AgentClient.call
    served: list[dict[str, object]] = []

    def listening(self, method, path, *rest):
        answer = call(self, method, path, *rest)
        if "/v1/restores" in path and isinstance(answer, dict) and answer.get("exports"):
            served[:] = answer["exports"]
        return answer

    def spoil() -> None:
        handle = agent.open_raw(served[-1])
        handle.pwrite(b"x", 20 * MIB + 7)
        handle.flush()
        handle.shutdown()

    monkeypatch.setattr(AgentClient, "call", listening)
    destination = onto(other, point, "vdb")
    with (
        at_step("remote-disk-written", spoil),
        pytest.raises(Damaged, match="reads back differently") as raised,
    ):
        restore(worker, point, destination, verify=True)
    assert raised.value.data["offset"] // MIB == 20
    assert half_restored(agent.state_dir) == (str(other.disks["vdb"].path),)
    restore(worker, point, destination, changed_only=True, verify=True)
    assert half_restored(agent.state_dir) == ()


def test_uefi_variables(worker: Worker, agent: AgentSite) -> None:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=4 * MIB)], uefi=True)
    wanted, other = (os.urandom(528 * 1024) for _ in range(2))
    vm.nvram.write_bytes(wanted)
    point = worker.back_up(vm, domain_xml=vm.xml())
    vm.nvram.write_bytes(other)
    vm.nvram.chmod(0o640)
    kept = restore(worker, point, onto(vm, point))
    assert vm.nvram.read_bytes() == other
    assert any("UEFI variables" in text for text in kept.warnings)
    destination = replace(onto(vm, point), nvram=True)
    for mode in (0o640, 0o600):  # as it was; as a new one
        result = restore(worker, point, destination, changed_only=True)
        assert vm.nvram.read_bytes() == wanted
        assert not any("UEFI variables" in text for text in result.warnings)
        assert [*vm.nvram.parent.glob(f"{vm.uuid}*")] == [vm.nvram]
        assert vm.nvram.stat().st_mode & 0o777 == mode
        vm.nvram.unlink()
    plan = plan_remote_restore(point, OntoMachine())
    with worker.client() as client:
        run_remote_restore(
            client, plan, OntoMachine(), worker.repository(), RemoteRestoreOptions("nvram-1")
        )
    assert vm.nvram.read_bytes() == wanted


def test_what_is_not_written(
    worker: Worker, other: CloudVm, point: RecoveryPoint, tmp_path
) -> None:
    agent = worker.agent
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(SIZE))
    small, large = (agent.lab.pool.create(SIZE + step) for step in (-MIB, MIB))
    volume = other.disks["vdb"]
    before = raw_of(volume.path)
    refusals: dict[str, tuple[type[SendenseError], VolumePlace]] = {
        "lies in no pool": (NotAllowed, VolumePlace(str(outside), "raw", SIZE)),
        "begins as a qcow2 image does": (Rejected, place(volume, "raw")),
        # What the inventory says may be wrong.
        "holds 23.0 MiB": (Rejected, VolumePlace(str(small.path), "qcow2", SIZE)),
        "bytes, the disk of the point": (Rejected, VolumePlace(str(large.path), "qcow2", SIZE)),
    }
    for words, (kind, target) in refusals.items():
        with pytest.raises(kind, match=words):
            restore(worker, point, OntoVolumes(other.uuid, {"vdb": target}))
    other.start(worker.agent.hypervisor)
    with pytest.raises(Rejected, match="runs"):
        restore(worker, point, onto(other, point, "vdb"))
    # Named as the volume of a machine that libvirt does not know.
    with pytest.raises(Busy, match=r"is disk vdb of .*, which runs"):
        restore(worker, point, OntoVolumes(str(uuid.uuid4()), {"vdb": place(volume)}))
    other.destroy()
    assert raw_of(volume.path) == before
    assert outside.read_bytes() == bytes(SIZE)
    assert half_restored(agent.state_dir) == ()
