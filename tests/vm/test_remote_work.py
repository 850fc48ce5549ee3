"""Backups and restores through an agent: the points are right, whatever dies in between.

The agent is a process of its own; the worker is we, or a process that is killed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from libvirt import (
    VIR_DOMAIN_START_PAUSED,
    VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA,
    libvirtError,
)

from sendense import steps
from sendense.errors import Cancelled, NotFound, Rejected, SendenseError, SourceChanged
from sendense.fleet.remote_host import CaptureTerms
from sendense.model.decision import Mode, Reason
from sendense.model.machine import PowerState
from sendense.model.point import RecoveryPoint
from sendense.model.ticket import Limits
from sendense.settings import Settings
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.restore import restore as managed_restore
from sendense.workflows.managed.task import Task
from sendense.workflows.remote_backup import (
    Attempt,
    RemoteBackupOptions,
    back_up_remotely,
)
from sendense.workflows.remote_destinations import (
    OntoMachine,
    ToPool,
    plan_remote_restore,
)
from sendense.workflows.remote_restore import (
    RemoteRestoreOptions,
    run_remote_restore,
)
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite
from tests.vm.remote_worker import CRASH, Worker, at_step, contents, new_worker, on_disk, raw_of

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    with site.running():
        yield site


@pytest.fixture(scope="module")
def worker(agent: AgentSite) -> Iterator[Worker]:
    with new_worker(agent) as worker:
        yield worker


@pytest.fixture
def vm(agent: AgentSite) -> Iterator[CloudVm]:
    """A machine that is paused, so that its disks stay as they are."""
    vm = agent.lab.create_vm(disks=[DiskSpec(size=24 * MIB)])
    vm.random_fill("vdb", 0, 4 * MIB, 3)
    vm.start(agent.hypervisor)
    yield vm
    if vm.running:
        vm.destroy()


def test_a_full_and_an_incremental(worker: Worker, vm: CloudVm) -> None:
    first = worker.back_up(vm)
    assert (first.mode, first.host) == (Mode.FULL, "lab-host")
    assert "QEMU" in first.versions
    assert worker.agent.own_marks(vm) == {first.checkpoint}
    vm.write("vdb", 9 * MIB, 64 * 1024, 5)
    vm.discard("vdb", 0, MIB)
    second = worker.back_up(vm)
    assert [image.decision.reason for image in second.disks] == [Reason.USABLE] * 2
    assert second.disks[1].read_bytes < 2 * MIB
    assert worker.agent.own_marks(vm) == {second.checkpoint}
    worker.agent.check_free(vm)
    worker.check(vm, second, contents(vm))


def test_a_bitmap_that_vanishes_between_look_and_begin_is_no_lie(
    worker: Worker, vm: CloudVm
) -> None:
    worker.back_up(vm)

    def lose(_attempt: Attempt) -> None:
        worker.agent.send("POST", "/v1/releases", worker.agent.ticket_to_release(vm))

    vm.write("vdb", 9 * MIB, 64 * 1024, 6)
    options = RemoteBackupOptions(CaptureTerms("lost-1"), lose)
    repository = worker.repository()
    with worker.client() as client, pytest.raises(SendenseError):
        back_up_remotely(client, vm.uuid, repository, Settings(), CRASH, options)
    point = worker.back_up(vm)
    assert {image.decision.reason for image in point.disks} == {Reason.BITMAP_MISSING}
    worker.check(vm, point, contents(vm))


def test_a_cancelled_backup_leaves_nothing(worker: Worker, vm: CloudVm) -> None:
    first = worker.back_up(vm)

    def cancel() -> None:
        raise Cancelled("somebody asked for it")

    vm.random_fill("vdb", 0, 16 * MIB, 8)
    with pytest.raises(Cancelled):
        worker.back_up(vm, replace(CRASH, granularity=65536), check=_After(0, cancel))
    worker.agent.check_free(vm)
    assert worker.agent.own_marks(vm) == {first.checkpoint}
    again = worker.back_up(vm)
    assert again.mode is Mode.INCREMENTAL
    worker.check(vm, again, contents(vm))


def has_job(vm: CloudVm) -> bool:
    try:
        return bool(vm.domain.jobStats().get("type", 0))
    except libvirtError:  # it begins or ends right now: "backup job data missing"
        return True


def test_a_machine_that_is_needed_meanwhile(worker: Worker, vm: CloudVm) -> None:
    """The job is cancelled in the middle of a read that lasts for minutes: the guest can move."""
    reading, wanted = threading.Event(), threading.Event()

    def check() -> None:
        reading.set()
        if wanted.is_set():
            raise Cancelled("the machine is needed")

    slow = Limits(bytes_per_s=64 * 1024)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(worker.back_up, vm, check=check, limits=slow)
        try:
            assert reading.wait(60)
            assert has_job(vm)
            wanted.set()
            # Seconds; the rest is for a machine that does much else.
            wait_until(lambda: not has_job(vm), "the end of the job", timeout_s=120)
        finally:
            wanted.set()
        with pytest.raises(Cancelled):
            run.result(60)
    assert worker.agent.own_marks(vm) == set()
    worker.agent.check_free(vm)
    vm.migrate(worker.agent.lab.add_hypervisor())
    with worker.client() as client, pytest.raises(NotFound):
        client.machine(vm.uuid)


def test_a_machine_that_is_started_right_after_the_agent_was_asked(
    worker: Worker, vm: CloudVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm.destroy()
    worker.agent.define(vm)
    # No check between chunks sees it: what a second does to a short read.
    monkeypatch.setattr("sendense.fleet.remote_host._POLL_S", 600.0)
    domain = worker.agent.hypervisor.connection.lookupByUUIDString(vm.uuid)
    try:
        with (
            at_step("disks-stored", lambda: domain.createWithFlags(VIR_DOMAIN_START_PAUSED)),
            pytest.raises(SourceChanged, match="stay off"),
        ):
            worker.back_up(vm)
        assert worker.repository().points(vm.uuid) == ()
    finally:
        domain.undefine()
    monkeypatch.undo()
    point = worker.back_up(vm)
    worker.check(vm, point, contents(vm))


def _swap(vm: CloudVm) -> None:
    host = vm.hypervisor
    assert host is not None
    vm.destroy()
    vm.detach_disk("vdb")
    assert vm.attach_disk(24 * MIB) == "vdb"
    vm.random_fill("vdb", 0, 2 * MIB, 11)
    vm.start(host)


def _add(vm: CloudVm) -> None:
    vm.random_fill(vm.attach_disk(8 * MIB), 0, MIB, 12)


@contextmanager
def full_host(agent: AgentSite) -> Iterator[Callable[[], None]]:
    """Have other work take the host's only place; gives what ends that work."""
    agent.configure("  performance: {max_concurrent_vms: 1}")
    wait_until(
        lambda: agent.look("/v1/heartbeat")["facts"]["max_concurrent_vms"] == 1,
        "the new limit",
        timeout_s=120,
    )
    other = agent.lab.create_vm(disks=[DiskSpec(size=4 * MIB)])
    other.start(agent.hypervisor)
    ticket = agent.capture_ticket(other)
    agent.ready(ticket)

    def end() -> None:
        agent.abort(ticket)

    try:
        yield end
    finally:
        agent.configure()
        other.destroy()


@pytest.mark.parametrize(
    ("change", "words"), [(_swap, "disk vdb is another one"), (_add, "disk vdc was added")]
)
def test_disks_that_change_while_the_capture_waits(
    worker: Worker, vm: CloudVm, change: Callable[[CloudVm], None], words: str
) -> None:
    with full_host(worker.agent) as make_room:
        waited: list[str] = []

        def waiting(reason: str | None) -> None:
            if reason is not None and not waited:
                waited.append(reason)
                change(vm)
                make_room()

        with pytest.raises(SourceChanged, match=words) as raised:
            worker.back_up(vm, waiting=waiting)
    assert raised.value.retryable
    assert "max_concurrent_vms" in waited[0]
    assert worker.repository().points(vm.uuid) == ()
    assert worker.agent.own_marks(vm) == set()
    worker.agent.check_free(vm)
    point = worker.back_up(vm)
    assert {image.disk.target for image in point.disks} == set(vm.disks)
    worker.check(vm, point, contents(vm))


def test_a_machine_that_is_started_while_its_capture_waits_has_the_same_disks(
    worker: Worker,
) -> None:
    agent = worker.agent
    disks = [DiskSpec(size=8 * MIB), DiskSpec(4 * MIB, format="raw")]
    vm = agent.lab.create_vm(disks=disks)
    vm.random_fill("vdb", 0, MIB, 13)
    agent.define(vm)
    domain = agent.hypervisor.connection.lookupByUUIDString(vm.uuid)

    def started(_plan: Attempt) -> None:
        domain.createWithFlags(VIR_DOMAIN_START_PAUSED)

    options = RemoteBackupOptions(CaptureTerms("started-1"), started)
    try:
        with worker.client() as client:
            result = back_up_remotely(
                client, vm.uuid, worker.repository(), Settings(), CRASH, options
            )
    finally:
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
    assert result.point is not None
    assert {image.disk.target for image in result.point.disks} == {"vda", "vdb", "vdc"}


class _After:
    def __init__(self, calls: int, act) -> None:
        self._left, self._act = calls, act

    def __call__(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._act()


def _die_at(worker: Worker, vm: CloudVm, step: str) -> None:
    def stop(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    steps.listen(stop)
    worker.back_up(vm)


@pytest.mark.parametrize(
    ("step", "made"),
    [
        ("dedup:begun", False),
        ("disks-stored", False),
        ("dedup:packs-durable", False),
        ("dedup:point-stored", True),
        ("point-committed", True),
    ],
)
def test_a_worker_that_is_killed(worker: Worker, vm: CloudVm, step: str, *, made: bool) -> None:
    first = worker.back_up(vm)
    vm.write("vdb", 9 * MIB, 64 * 1024, 7)
    process = multiprocessing.get_context("fork").Process(target=_die_at, args=(worker, vm, step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    if step == "dedup:begun":  # nothing was remembered, nothing had begun
        assert worker.agent.own_marks(vm) == {first.checkpoint}
    else:
        stored = worker.settle()
        assert (stored is not None) == made
        assert worker.agent.own_marks(vm) == {stored.checkpoint if stored else first.checkpoint}
    worker.agent.check_free(vm)
    vm.write("vdb", 12 * MIB, 64 * 1024, 8)
    last = worker.back_up(vm)
    assert {image.decision.reason for image in last.disks} == {Reason.USABLE}
    assert len(worker.repository().points(vm.uuid)) == (3 if made else 2)
    worker.check(vm, last, contents(vm))


def test_restore_onto_the_machine(worker: Worker, vm: CloudVm) -> None:
    point = worker.back_up(vm)
    expected = contents(vm)
    vm.random_fill("vdb", 0, 24 * MIB, 99)
    worker.agent.define(vm)
    try:
        with worker.client() as client:
            destination = OntoMachine(client.survey(vm.uuid))
            plan = plan_remote_restore(point, destination)
            result = run_remote_restore(
                client, plan, destination, worker.repository(), RemoteRestoreOptions("restore-1")
            )
        assert {item.target for item in result.disks} == {"vda", "vdb"}
        assert on_disk(vm) == expected
    finally:
        worker.agent.hypervisor.connection.lookupByUUIDString(vm.uuid).undefine()
    assert worker.agent.own_marks(vm) == set()


def test_restore_onto_a_machine_that_libvirt_has_forgotten(worker: Worker, vm: CloudVm) -> None:
    point = worker.back_up(vm)
    assert point.machine.power is not PowerState.STOPPED
    expected = contents(vm)
    vm.random_fill("vdb", 0, 24 * MIB, 98)
    destination = OntoMachine(survey=None)
    plan = plan_remote_restore(point, destination)
    assert plan.machine is not None
    with worker.client() as client:
        result = run_remote_restore(
            client, plan, destination, worker.repository(), RemoteRestoreOptions("restore-3")
        )
        assert any("does not know the machine" in text for text in result.warnings)
        assert on_disk(vm) == expected
        # One that runs after all is refused by its host.
        vm.start(worker.agent.hypervisor)
        with pytest.raises(Rejected, match="runs"):
            run_remote_restore(
                client, plan, destination, worker.repository(), RemoteRestoreOptions("restore-4")
            )


def test_restore_to_new_files(worker: Worker, vm: CloudVm) -> None:
    point = worker.back_up(vm)
    expected = contents(vm)
    destination = ToPool(str(worker.agent.pool))
    plan = plan_remote_restore(point, destination)
    with worker.client() as client:
        run_remote_restore(
            client, plan, destination, worker.repository(), RemoteRestoreOptions("restore-2")
        )
    for item in plan.disks:
        volume = Path(item.destination.path)
        assert volume.exists()
        assert raw_of(volume) == expected[item.image.disk.target]
        volume.unlink()


class _Job:
    """A job of the kind ``restore``, as the engine gives it; its facts outlive a process."""

    def __init__(self, worker: Worker, vm: CloudVm, point: RecoveryPoint, attempt: int) -> None:
        content = {"point": point.id, "pool": str(worker.agent.pool)}
        self.job = SimpleNamespace(
            id=point.id, attempt=attempt, subject=vm.uuid, content=content,
            repository_id="main", host_id="lab-host",
        )  # fmt: skip
        self.worker = worker
        self.catalog = worker.agent.folder / f"facts-{point.id}"
        self.waiting = self.report = lambda _news: None
        self.check = lambda: None

    @property
    def facts(self):
        return tuple(map(json.loads, self.catalog.read_text().splitlines()))

    def remember(self, fact) -> None:
        with self.catalog.open("a") as file:
            file.write(json.dumps(fact) + "\n")

    def carry_out(self):
        self.catalog.touch()
        estate = SimpleNamespace(
            repository=lambda _id: closing(self.worker.repository()),
            agent=lambda _id: self.worker.client(),
        )
        return managed_restore(cast(Estate, estate), cast(Task, self))

    def carry_out_until(self, step: str) -> None:
        def stop(reached: str) -> None:
            if reached == step:
                os.kill(os.getpid(), signal.SIGKILL)

        steps.listen(stop)
        self.carry_out()


@pytest.mark.parametrize("step", ["remote-disk-restored", "remote-restore-finished"])
def test_a_restore_outlives_its_worker(worker: Worker, vm: CloudVm, step: str) -> None:
    point = worker.back_up(vm)
    expected = contents(vm)
    first = _Job(worker, vm, point, 1)
    process = multiprocessing.get_context("fork").Process(
        target=first.carry_out_until, args=(step,)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    done = _Job(worker, vm, point, 2).carry_out()
    assert done.get("resumed", False) == (step == "remote-restore-finished")
    assert {disk["target"] for disk in done["disks"]} == set(expected)
    for disk in done["disks"]:
        assert raw_of(Path(disk["path"])) == expected[disk["target"]]
    left = {path.name for path in worker.agent.pool.glob(f"*{point.id}*")}
    assert left == {Path(disk["path"]).name for disk in done["disks"]}
    # Whoever asks once more is told the same.
    assert _Job(worker, vm, point, 3).carry_out()["resumed"]
    worker.agent.check_free(vm)
