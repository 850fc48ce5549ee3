"""The agent is killed at any step: no guest stays frozen, no job stays, no base is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sendense.capture.journal import stale_machines
from sendense.model.agent_status import WorkState
from sendense.model.decision import Mode
from sendense.model.point import Consistency
from sendense.model.ticket import Ticket
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite, checkpoint_of, point_of

pytestmark = pytest.mark.vm

BEFORE_READY = ("bitmaps-prepared", "frozen", "job-begun", "thawed")
READY = ("capture-recorded", "capture-ready")
COMMITTING = ("commit-intended", "capture-committed", "job-ended", "superseded-dropped")


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    yield site
    site.stop()


@pytest.fixture(scope="module")
def guest(agent: AgentSite) -> CloudVm:
    vm = agent.lab.create_vm(boot="guest", disks=[DiskSpec(size=16 * MIB)])
    vm.start(agent.hypervisor)
    vm.guest.wait_ready()
    return vm


@pytest.fixture
def base(agent: AgentSite, guest: CloudVm) -> Iterator[Ticket]:
    """Leave nothing but one stored point's checkpoint."""
    with agent.running():
        agent.send("POST", "/v1/releases", agent.ticket_to_release(guest))
        ticket = agent.capture_ticket(guest)
        agent.ready(ticket)
        agent.commit(ticket)
    yield ticket
    agent.stop()


def killed(agent: AgentSite, guest: CloudVm, base: Ticket, step: str) -> Ticket:
    """Have the agent kill itself in an incremental capture; gives its ticket."""
    agent.start(step)
    ticket = agent.capture_ticket(guest, point_of(base), consistency=Consistency.FILESYSTEM)
    with suppress(OSError):
        agent.send("POST", "/v1/captures", ticket)
        if step in COMMITTING:
            agent.wait_for(ticket, WorkState.READY)
            agent.commit(ticket, (checkpoint_of(base),))
    agent.wait_dead()
    return ticket


def check_guest(agent: AgentSite, guest: CloudVm) -> None:
    """Prove that the guest is thawed and runs, and that nothing of a capture is under way."""
    wait_until(lambda: guest.guest.freeze_status() == "thawed", "the thaw", timeout_s=120)
    assert guest.domain.state()[0] == 1
    agent.check_free(guest)


def check_next(agent: AgentSite, guest: CloudVm, base: str) -> None:
    """Prove that the next capture is an incremental from the last stored point."""
    ticket = agent.capture_ticket(guest, base)
    assert ticket.capture is not None
    assert {item.mode for item in ticket.capture.disks} == {Mode.INCREMENTAL}
    agent.ready(ticket)
    assert agent.abort(ticket).state is WorkState.ABORTED
    check_guest(agent, guest)


@pytest.mark.parametrize("step", BEFORE_READY)
def test_killed_before_anything_could_be_read(
    agent: AgentSite, guest: CloudVm, base: Ticket, step: str
) -> None:
    ticket = killed(agent, guest, base, step)
    agent.start()
    check_guest(agent, guest)
    status = agent.status(ticket)
    assert status.state is WorkState.FAILED
    assert status.error is not None
    assert status.error.retryable
    assert agent.own_marks(guest) == {checkpoint_of(base)}
    assert stale_machines(agent.state_dir) == ()
    check_next(agent, guest, point_of(base))


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("step", READY)
def test_killed_while_it_exports(
    agent: AgentSite, guest: CloudVm, base: Ticket, step: str, *, stored: bool
) -> None:
    ticket = killed(agent, guest, base, step)
    agent.start()
    check_guest(agent, guest)
    assert agent.status(ticket).state is WorkState.PARKED
    assert agent.own_marks(guest) == {checkpoint_of(base), checkpoint_of(ticket)}
    if stored:
        assert agent.commit(ticket, (checkpoint_of(base),)).state is WorkState.COMMITTED
    else:
        assert agent.abort(ticket).state is WorkState.ABORTED
    kept = ticket if stored else base
    assert agent.own_marks(guest) == {checkpoint_of(kept)}
    check_next(agent, guest, point_of(kept))


@pytest.mark.parametrize("step", COMMITTING)
def test_killed_while_it_commits(agent: AgentSite, guest: CloudVm, base: Ticket, step: str) -> None:
    ticket = killed(agent, guest, base, step)
    agent.start()
    check_guest(agent, guest)
    # What was decided is done, whether its answer ever arrived or not.
    assert agent.status(ticket).state is WorkState.COMMITTED
    assert agent.own_marks(guest) == {checkpoint_of(ticket)}
    assert agent.commit(ticket, (checkpoint_of(base),)).state is WorkState.COMMITTED
    assert stale_machines(agent.state_dir) == ()
    check_next(agent, guest, point_of(ticket))


def test_killed_while_it_parks(agent: AgentSite, guest: CloudVm, base: Ticket) -> None:
    agent.configure(lease_s=5)
    agent.start("capture-parked")
    ticket = agent.capture_ticket(guest, point_of(base))
    agent.ready(ticket)
    agent.wait_dead()
    agent.configure()
    agent.start()
    check_guest(agent, guest)
    assert agent.commit(ticket, (checkpoint_of(base),)).state is WorkState.COMMITTED
    assert agent.own_marks(guest) == {checkpoint_of(ticket)}


def test_killed_while_libvirt_is_away_it_settles_later(
    agent: AgentSite, guest: CloudVm, base: Ticket
) -> None:
    ticket = killed(agent, guest, base, "capture-ready")
    agent.hypervisor.kill()
    agent.start()
    assert agent.status(ticket).state is WorkState.PARKED
    health = {item["name"]: item["level"] for item in agent.look("/v1/heartbeat")["health"]}
    assert health["libvirt"] == "failed"
    agent.hypervisor.start()
    wait_until(lambda: guest.domain.jobStats().get("type", 0) == 0, "the job's end", timeout_s=120)
    wait_until(lambda: not [*agent.hypervisor.run_dir.glob("*.qcow2")], "the end", timeout_s=120)
    check_guest(agent, guest)
    assert agent.abort(ticket).state is WorkState.ABORTED
    assert agent.own_marks(guest) == {checkpoint_of(base)}


def test_killed_from_outside_with_the_worker_reading(
    agent: AgentSite, guest: CloudVm, base: Ticket
) -> None:
    agent.start()
    ticket = agent.capture_ticket(guest, point_of(base))
    export = agent.ready(ticket).exports[0]
    handle = agent.open(export)
    handle.pread(4096, 0)
    agent.stop(signal.SIGKILL)
    del handle
    agent.start()
    check_guest(agent, guest)
    assert agent.status(ticket).state is WorkState.PARKED
    assert agent.abort(ticket).state is WorkState.ABORTED
