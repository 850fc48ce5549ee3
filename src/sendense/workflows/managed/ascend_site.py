"""What the steps of a restore into a cloud work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sendense import clock
from sendense.cloudstack import actions
from sendense.cloudstack.client import CloudClient
from sendense.errors import Busy, Conflict
from sendense.model.ascend_steps import NEW
from sendense.model.cloud import CloudPool
from sendense.model.cloud_manifest import CloudManifest
from sendense.model.job import Json
from sendense.model.point import RecoveryPoint
from sendense.repository.protocol import Repository
from sendense.workflows.managed.ascend_journal import Course, Journal
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.task import Task

_POLL_S = 2.0
_PATIENCE_S = 300.0
"""For a start or a stop of somebody else to end."""


@dataclass(frozen=True)
class Done:
    """What a piece came to."""

    made: Mapping[str, str] = field(default_factory=dict)
    said: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """One restore under way."""

    estate: Estate
    task: Task
    repository: Repository
    point: RecoveryPoint
    manifest: CloudManifest
    client: CloudClient
    """With the key for restores."""
    pools: Mapping[str, CloudPool]
    journal: Journal
    course: Course
    continues: str = ""
    """The restore that this one goes on with."""

    def is_ours(self, mark: str) -> bool:
        """Tell whether an instance's mark is of this restore, or of the one it goes on with."""
        marks = {str(said["mark"]) for said in self.journal.done.values() if "mark" in said}
        return mark in {self.task.job.id, self.continues, *marks} - {""}

    def id_of(self, name: str) -> str:
        """Give the id that something has that the plan names: one of the cloud's, or made here."""
        return self.journal.made[NEW] if name == NEW else name

    def volume_of(self, source: str) -> str:
        """Give the volume that was made for one of the point."""
        return self.journal.made[source]

    def work_id(self) -> str:
        """Give a new id for work on an agent."""
        job = self.task.job
        return f"{job.id}-{job.attempt}-{clock.now():%H%M%S%f}"


def settled_state(site: Site, uuid: str) -> str:
    """Give the state of an instance once it is Running or Stopped; others are waited for."""
    deadline = clock.monotonic() + _PATIENCE_S
    while True:
        found = actions.state(site.client, uuid)
        if found in ("Running", "Stopped"):
            return found
        if not found or found in ("Destroyed", "Expunging", "Error"):
            raise Conflict(
                f"instance {uuid} is {found or 'not there any more'}",
                hint="it was taken away meanwhile: look at CloudStack's events",
            )
        if clock.monotonic() >= deadline:
            raise Busy(f"instance {uuid} is {found}, for {_PATIENCE_S:.0f} s now")
        site.task.check()
        clock.sleep(_POLL_S)
