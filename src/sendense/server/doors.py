"""The way of the API to what is not in the catalogue: repositories, agents, the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sendense.errors import NotFound
from sendense.model.agent_status import Heartbeat
from sendense.model.ascend import AscendPlan
from sendense.model.ascend_order import CloudRestore
from sendense.model.enrolment import Enrolment, GatewayPlace
from sendense.model.holdings import RepositoryEntry
from sendense.repository.protocol import Repository, RepositoryInfo
from sendense.server.control_plane import ControlPlane
from sendense.workflows.managed.ascend import plan_restore
from sendense.workflows.managed.deploying import CatalogSide, release_all
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.upkeep import relist

T = TypeVar("T")


class RepositoryDoors:
    """Opens repositories with the secrets that the catalogue has."""

    def __init__(self, estate: Estate) -> None:
        """Open those of an estate."""
        self._estate = estate

    def make(self, entry: RepositoryEntry) -> None:
        """Make the repository that an entry names, in its empty place."""
        self._estate.create(entry)

    def look(self, repository_id: str) -> RepositoryInfo:
        """Open a repository and describe it."""
        with self._estate.repository(repository_id) as repository:
            return repository.info()

    def list_again(self, repository_id: str) -> int:
        """Make the catalogue's list of its points again; gives how many there are."""
        with self._estate.repository(repository_id) as repository:
            relist(self._estate, repository_id, repository)
            return len(repository.points())

    def use(self, repository_id: str, act: Callable[[Repository], T]) -> T:
        """Open a repository, and do something with it that is done at once."""
        with self._estate.repository(repository_id) as repository:
            return act(repository)


class HostDoors:
    """Enrols hosts, asks their agents, and has the gateway take over what changed."""

    def __init__(self, plane: ControlPlane) -> None:
        """Enrol at this control plane."""
        self._plane = plane
        self._sides: dict[str, CatalogSide] = {}

    def enrol(self, host_id: str, public_key: str) -> Enrolment:
        """Enrol the agent of a host, by the public key that was made there."""
        side = CatalogSide(self._plane.estate, self._plane.desk())
        self._sides[host_id] = side
        return side.enrol(host_id, public_key)

    def undo(self, host_id: str) -> None:
        """Let a host in with what it had before it was enrolled last, or not at all."""
        side = self._sides.pop(host_id, None)
        if side is None:
            raise NotFound(
                f"what host {host_id} was let in with before is not known",
                hint="deploy its agent again: sendense host deploy",
            )
        side.restore(host_id)

    def gateway(self) -> GatewayPlace:
        """Say where agents dial."""
        return self._plane.desk().gateway

    def changed(self) -> None:
        """Have the gateway let in exactly who is enrolled now, at once."""
        self._plane.let_in()

    def look(self, host_id: str) -> Heartbeat:
        """Ask an agent how it is, now."""
        with self._plane.estate.agent(host_id) as client:
            return client.heartbeat()

    def release(self, host_id: str) -> tuple[str, ...]:
        """Take our bitmaps off all machines of a host; gives what stayed, and why."""
        return release_all(self._plane.estate, host_id)


class RestoreDoors:
    """Plans restores into clouds."""

    def __init__(self, estate: Estate) -> None:
        """Plan for an estate."""
        self._estate = estate

    def plan(self, wanted: CloudRestore) -> AscendPlan:
        """Tell all that a restore would do, or what is in its way; nothing is touched."""
        return plan_restore(self._estate, wanted)
