"""Where a backup reads from: a host, this one or another, that holds a machine and captures it.

A backup needs four things of a host: to look at a machine, to hold it against other runs, to
take back what a dead run left, and to begin a capture.  Here they are for the host that we run on;
:mod:`sendense.fleet.remote_host` has them for a host that an agent speaks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from sendense.capture.host import Host
from sendense.capture.journal import JournalEntry
from sendense.capture.session import CaptureSession
from sendense.model.machine import Machine
from sendense.model.plan import CapturePlan
from sendense.model.survey import Survey
from sendense.repository.opening import open_repository
from sendense.settings import Settings
from sendense.workflows.claiming import Opener, claimed


@dataclass(frozen=True)
class Purpose:
    """What a capture is for: what tells, after a crash, whether it came to its end."""

    repository: str
    """Location of the repository."""
    committed: tuple[str, ...] = ()
    """Points of the machine that are there, oldest first."""


class HeldMachine(Protocol):
    """A machine that no other run touches until the block is left."""

    @property
    def repaired(self) -> tuple[str, ...]:
        """Give what a dead run had left, and was taken back."""

    def capture(self, plan: CapturePlan, purpose: Purpose) -> CaptureSession:
        """Give the capture that carries out a plan; it begins when its ``with`` is entered."""


class SourceHost(Protocol):
    """A host as a backup sees it."""

    @property
    def name(self) -> str:
        """Give the host's name."""

    @property
    def versions(self) -> str:
        """Give our version there, libvirt's and QEMU's; all of them once a capture began."""

    def survey(self, machine: Machine) -> Survey:
        """Look at a machine's disks; changes nothing."""

    def held(self, machine: Machine, operation: str) -> AbstractContextManager[HeldMachine]:
        """Hold a machine; :class:`~sendense.errors.Busy` says who else does."""


@dataclass(frozen=True)
class _HeldHere:
    host: Host
    entry: JournalEntry
    repaired: tuple[str, ...]

    def capture(self, plan: CapturePlan, purpose: Purpose) -> CaptureSession:
        machine = plan.survey.machine
        self.entry.about(
            repository=purpose.repository,
            point=plan.point_id,
            machine=machine.uuid,
            name=machine.name,
        )
        return self.host.capture(plan, self.entry)


class LocalSource:
    """The host that we run on; a :class:`SourceHost`."""

    def __init__(self, host: Host, settings: Settings, opener: Opener = open_repository) -> None:
        """Capture on ``host``; ``opener`` opens the repository of a dead run."""
        self._host = host
        self._settings = settings
        self._opener = opener

    @property
    def name(self) -> str:
        """Give the host's name."""
        return self._host.name

    @property
    def versions(self) -> str:
        """Give our version, libvirt's and QEMU's."""
        return self._host.versions

    def survey(self, machine: Machine) -> Survey:
        """Look at a machine's disks."""
        return self._host.survey(machine)

    @contextmanager
    def held(self, machine: Machine, operation: str) -> Iterator[HeldMachine]:
        """Hold a machine by its journal on this host."""
        with claimed(machine, self._settings, operation, self._opener) as claim:
            yield _HeldHere(self._host, claim.entry, claim.repaired)
