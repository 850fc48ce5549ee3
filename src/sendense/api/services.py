"""What the API works with: the catalogue, the engine of jobs, the way to repositories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Request

from sendense import clock
from sendense.api.attempts import Attempts
from sendense.api.cloud_door import CloudDoor, NoClouds
from sendense.api.gauges import Gauges
from sendense.api.logins import Logins
from sendense.api.restore_door import NoRestores, RestoreDoor
from sendense.api.streams import Streams
from sendense.api.summaries import Summaries
from sendense.catalog.catalog import Catalog
from sendense.errors import Unsupported
from sendense.jobs.scheduling import run_now
from sendense.model.admission import Limits
from sendense.model.agent_status import Heartbeat
from sendense.model.enrolment import Enrolment, GatewayPlace
from sendense.model.holdings import RepositoryEntry
from sendense.model.job import Job, JobRequest
from sendense.model.running import Round
from sendense.repository.protocol import Repository, RepositoryInfo

PREFIX = "/api/v1"
T = TypeVar("T")


class JobQueue(Protocol):
    """Takes jobs; what becomes of them is in the catalogue."""

    def submit(self, request: JobRequest) -> Job:
        """Take a request; it will be carried out, whatever happens to this process."""

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; :class:`~sendense.errors.Conflict` if it has ended."""

    def run_policy(self, policy_id: str, who: str) -> Round:
        """Take a round of a policy, all its backups or none."""


class RepositoryDoor(Protocol):
    """The way to the repositories themselves, with the secrets that the catalogue has."""

    def make(self, entry: RepositoryEntry) -> None:
        """Make the repository that an entry names, in its empty place."""

    def look(self, repository_id: str) -> RepositoryInfo:
        """Open a repository and describe it."""

    def list_again(self, repository_id: str) -> int:
        """Make the catalogue's list of its points again; gives how many there are."""

    def use(self, repository_id: str, act: Callable[[Repository], T]) -> T:
        """Open a repository, and do something with it that is done at once."""


class HostDoor(Protocol):
    """The way to the agents, and to the gateway that they dial."""

    def enrol(self, host_id: str, public_key: str) -> Enrolment:
        """Enrol the agent of a host, by the public key that was made there."""

    def undo(self, host_id: str) -> None:
        """Let a host in with what it had before it was enrolled last, or not at all."""

    def gateway(self) -> GatewayPlace:
        """Say where agents dial."""

    def changed(self) -> None:
        """Have the gateway let in exactly who is enrolled now, at once."""

    def look(self, host_id: str) -> Heartbeat:
        """Ask an agent how it is, now."""

    def release(self, host_id: str) -> tuple[str, ...]:
        """Take our bitmaps off all machines of a host; gives what stayed, and why."""


class NoHosts:
    """Where there is neither gateway nor agent: the catalogue is all."""

    def enrol(self, host_id: str, public_key: str) -> Enrolment:
        """Refuse."""
        raise Unsupported(f"host {host_id} cannot be enrolled: there is no gateway here")

    def undo(self, host_id: str) -> None:
        """Refuse."""
        raise Unsupported(f"host {host_id} was not enrolled here: there is no gateway")

    def gateway(self) -> GatewayPlace:
        """Refuse."""
        raise Unsupported("there is no gateway here")

    def changed(self) -> None:
        """Do nothing: nobody is connected."""

    def look(self, host_id: str) -> Heartbeat:
        """Refuse."""
        raise Unsupported(f"host {host_id} cannot be reached: there is no gateway here")

    def release(self, host_id: str) -> tuple[str, ...]:
        """Refuse."""
        raise Unsupported(f"host {host_id} cannot be reached: there is no gateway here")


class CatalogQueue:
    """Jobs by way of the catalogue alone: whoever carries them out looks there."""

    def __init__(self, catalog: Catalog, wake: Callable[[], None] = lambda: None) -> None:
        """Write to a catalogue; ``wake`` tells the engine that there is something new."""
        self._catalog = catalog
        self._wake = wake

    def submit(self, request: JobRequest) -> Job:
        """Take a request."""
        job = self._catalog.jobs.submit(request, clock.now())
        self._wake()
        return job

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job."""
        job = self._catalog.jobs.request_cancel(job_id, clock.now())
        self._wake()
        return job

    def run_policy(self, policy_id: str, who: str) -> Round:
        """Take a round of a policy, all its backups or none."""
        made = run_now(self._catalog, policy_id, who, clock.now())
        self._wake()
        return made


@dataclass
class Services:
    """All that routes reach."""

    catalog: Catalog
    queue: JobQueue
    repositories: RepositoryDoor
    attempts: Attempts = field(default_factory=Attempts)
    streams: Streams = field(default_factory=Streams)
    hosts: HostDoor = field(default_factory=NoHosts)
    clouds: CloudDoor = field(default_factory=NoClouds)
    restores: RestoreDoor = field(default_factory=NoRestores)
    hook_attempts: Attempts = field(default_factory=Attempts)
    """Of events that no cloud of ours signed: they keep nobody from signing in."""
    logins: Logins = field(default_factory=Logins)
    limits: Limits = field(default_factory=Limits)
    """Of jobs that run at once, to say why one waits."""

    def __post_init__(self) -> None:
        """Make what hangs on the catalogue."""
        self.summaries = Summaries(self.catalog)
        self.gauges = Gauges(self.summaries)


async def _services(request: Request) -> Services:
    # Not in a thread: it only reads an attribute.
    services = request.app.state.services
    if not isinstance(services, Services):
        raise TypeError("the application has no services")
    return services


ServicesHere = Annotated[Services, Depends(_services)]
