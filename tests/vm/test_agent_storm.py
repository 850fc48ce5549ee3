"""Captures in a storm: agent, libvirtd and guest go down at random, and no point is ever wrong.

The worker of this test keeps points as plain bytes and knows what the disk holds, because nobody
but the test writes it.  A capture goes as far as the storm lets it; then everything comes up again,
the worker settles what it left, and the next capture must be right: an incremental over the
last stored point where one was promised, and equal to the disk in any case.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import libvirt
import nbd
import pytest

from sendense.capture.journal import stale_machines
from sendense.model.agent_status import FINAL, CaptureStatus, WorkState
from sendense.model.decision import Mode
from sendense.model.ticket import Ticket
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.errors import LabError
from sendense_lab.lab import DiskSpec, Lab
from tests.vm.agent_site import MIB, AgentSite, checkpoint_of, point_of

pytestmark = [pytest.mark.vm, pytest.mark.slow]

SIZE = 8 * MIB
BLOCK = 64 * 1024


class WrongBytesError(Exception):
    """A point would have been stored that is not the disk."""


@dataclass
class World:
    """What is, as the test knows it."""

    site: AgentSite
    vm: CloudVm
    chance: random.Random
    disk: bytearray = field(default_factory=lambda: bytearray(SIZE))
    points: dict[str, bytes] = field(default_factory=dict)
    """Stored ones, oldest first."""
    unsure: list[tuple[int, int]] = field(default_factory=list)

    def write(self) -> None:
        """Change some blocks of the disk."""
        for _ in range(self.chance.randrange(1, 4)):
            start = self.chance.randrange(SIZE // BLOCK) * BLOCK
            pattern = self.chance.randrange(256)
            self.disk[start : start + BLOCK] = bytes([pattern]) * BLOCK
            self.unsure.append((start, pattern))
        self.write_again()

    def write_again(self) -> None:
        """Write what may not have arrived; of a write whose answer was lost nobody knows."""
        for start, pattern in self.unsure:
            self.vm.write("vdb", start, BLOCK, pattern)
        self.unsure.clear()

    @property
    def last(self) -> str | None:
        return next(reversed(self.points), None)

    def restart_libvirt(self) -> None:
        """Start libvirtd, and the guest too where that took it down.

        A libvirtd that was killed in the middle of a start or of a job's beginning may decide, when
        it comes back, to end the guest ("shutting down, reason=daemon" in QEMU's log).
        """
        self.site.hypervisor.start()
        time.sleep(1)
        if not self.vm.running:
            self.vm.start(self.site.hypervisor, paused=False)

    def capture(self) -> Ticket:
        """Make the ticket that a control plane would."""
        decisions = self.site.decisions(self.site.survey(self.vm), self.last)
        return self.site.capture_ticket(
            self.vm, disks=decisions, committed=tuple(self.points) or ("none",)
        )

    def read(self, ticket: Ticket, status: CaptureStatus) -> bytes:
        """Read the disk as the ticket says."""
        export = next(item for item in status.exports if item.target == "vdb")
        before = self.points[self.last] if self.last and export.dirty_context else bytes(SIZE)
        if not export.dirty_context:
            return self.site.read(export)
        return self.site.patch(export, before)[0]

    def attempt(self, ticket: Ticket) -> None:
        """Capture, store and commit; the storm may end it anywhere."""
        frozen = bytes(self.disk)
        status = self.site.ready(ticket)
        self.write()
        found = self.read(ticket, status)
        # As a worker does right before it stores a point.
        if self.site.status(ticket).state is not WorkState.READY:
            return
        if found != frozen:
            raise WrongBytesError
        before = self.last
        self.points[point_of(ticket)] = found
        self.site.commit(ticket, (f"sendense-{before}",) if before else ())

    def settle(self, ticket: Ticket) -> None:
        """Say what became of the point, as the worker's successor does."""
        reply = self.site.send("GET", f"/v1/captures/{ticket.id}", ticket)
        if reply.status == 404:
            return
        older = [f"sendense-{name}" for name in self.points if name != point_of(ticket)]
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            stored = point_of(ticket) in self.points
            with suppress(AssertionError):  # busy with settling it by itself
                status = (
                    self.site.commit(ticket, tuple(older)) if stored else self.site.abort(ticket)
                )
                if status.state in FINAL:
                    return
            time.sleep(0.5)
        raise AssertionError(self.site.log()[-3000:])

    def prove(self) -> None:
        """Capture once more in calm weather: it must be right, and leave nothing."""
        ticket = self.capture()
        assert ticket.capture is not None
        decision = next(item for item in ticket.capture.disks if item.target == "vdb")
        if self.points:
            assert decision.mode is Mode.INCREMENTAL, decision
        status = self.site.ready(ticket)
        assert self.read(ticket, status) == bytes(self.disk)
        before = self.last
        self.points[point_of(ticket)] = bytes(self.disk)
        self.site.commit(
            ticket, tuple(f"sendense-{name}" for name in self.points if name == before)
        )
        assert self.site.own_marks(self.vm) == {checkpoint_of(ticket)}
        assert stale_machines(self.site.state_dir) == ()
        self.site.check_free(self.vm)
        assert self.site.look("/v1/heartbeat")["running"] == []


@contextmanager
def storm(world: World) -> Iterator[None]:
    """Have one thing go down at a random moment."""
    kind = world.chance.choice(["agent", "agent", "agent", "libvirt", "end", "nothing"])
    delay = world.chance.random() * 1.2

    def strike() -> None:
        time.sleep(delay)
        if kind == "agent":
            world.site.strike(signal.SIGKILL)
        elif kind == "end":
            world.site.strike(signal.SIGTERM)
        elif kind == "libvirt":
            world.site.hypervisor.kill()

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if kind == "libvirt":
            world.restart_libvirt()
        if kind in ("agent", "end"):
            world.site.stop()
            world.site.start()


@pytest.fixture(scope="module")
def agent(lab: Lab) -> Iterator[AgentSite]:
    site = AgentSite(lab, lab.add_hypervisor())
    with site.running():
        yield site


def weather(agent: AgentSite, seed: int, rounds: int) -> None:
    vm = agent.lab.create_vm(disks=[DiskSpec(size=SIZE)])
    vm.start(agent.hypervisor, paused=False)
    world = World(agent, vm, random.Random(seed))
    for _ in range(rounds):
        world.write()
        ticket = world.capture()
        # Whatever a worker meets when the ground goes away under it.
        ground = (OSError, AssertionError, nbd.Error, libvirt.libvirtError, LabError)
        with suppress(*ground), storm(world):
            world.attempt(ticket)
        world.write_again()
        world.settle(ticket)
        if world.chance.random() < 0.3:
            vm.destroy()
            vm.start(agent.hypervisor, paused=False)
        world.prove()
    vm.destroy()


def test_no_point_is_ever_wrong(agent: AgentSite) -> None:
    weather(agent, seed=20260301, rounds=8)
