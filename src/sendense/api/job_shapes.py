"""Bodies about jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, StringConstraints

from sendense.api.shapes import Asked, Id, Name, Priority, Shape
from sendense.api.store_shapes import Keep
from sendense.model.decision import RequestedMode
from sendense.model.job import JobKind, JobState
from sendense.model.point import Consistency
from sendense.repository.protocol import VerifyLevel

Targets = Annotated[list[Name], Field(max_length=100)]
PointIds = Annotated[list[Id], Field(max_length=1000)]


class FailureShape(Shape):
    """Why a job failed."""

    code: str
    """Stable: see `docs/errors.md`."""
    message: str
    hint: str | None
    retryable: bool
    step: str


_EXAMPLE: dict[str, JsonValue] = {
    "id": "019a2f6b3c41d2f08a7b9c6e",
    "kind": "backup",
    "subject": "2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01",
    "content": {"mode": "auto", "consistency": "filesystem"},
    "state": "running",
    "attempt": 1,
    "priority": 0,
    "requested_by": "policy:nightly",
    "created_at": "2026-11-29T01:30:00Z",
    "host_id": "019a2f6b0000a1b2c3d4e5f6",
    "repository_id": "019a2f6b1111a1b2c3d4e5f6",
    "policy_id": "019a2f6b2222a1b2c3d4e5f6",
    "not_before": None,
    "started_at": "2026-11-29T01:30:04Z",
    "finished_at": None,
    "progress": {"phase": "backup", "done_bytes": 1073741824, "total_bytes": 4294967296},
    "result": None,
    "failure": None,
    "cancel_requested": False,
}


class JobShape(Shape):
    """A job."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    kind: JobKind
    subject: str
    """UUID of the instance, or id of the repository or host that it is about."""
    content: dict[str, Any]
    state: JobState
    attempt: int
    priority: int
    requested_by: str
    created_at: datetime
    host_id: str | None
    repository_id: str | None
    policy_id: str | None
    not_before: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    failure: FailureShape | None
    """Of the last attempt."""
    cancel_requested: bool


class JobInFull(JobShape):
    """A job, and what keeps it."""

    model_config = ConfigDict(json_schema_extra=None)

    waits_for: str | None
    """Why it has not begun; null where it does not wait."""


class AttemptShape(Shape):
    """An attempt at a job that has ended."""

    attempt: int
    worker: str
    takes: int
    """How many workers had it: more than 1 where one of them died."""
    started_at: datetime
    finished_at: datetime
    failure: FailureShape | None
    then: str
    """What followed, and why."""


class JobOptions(Asked):
    """What every request for a job may say."""

    priority: Priority = 0
    """Higher ones begin first."""
    not_before: AwareDatetime | None = None


class BackupAsked(JobOptions):
    """A backup of one instance."""

    vm_id: Id = Field(examples=["2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01"])
    """UUID of the instance."""
    backup_type: RequestedMode = RequestedMode.AUTO
    """`auto` reads in full what has to be, and says why; `incremental` leaves out fulls that are
    merely due."""
    consistency: Consistency = Consistency.FILESYSTEM
    repository_id: Id | None = None
    """Where to; without it the one of the policy that takes the instance, or the only one there
    is."""
    strict: bool = False
    """Fail rather than be less consistent than asked."""
    include: Targets = Field(default_factory=list)
    """Disks, by target, serial or path; none: all."""
    exclude: Targets = Field(default_factory=list)


class RestoreAsked(JobOptions):
    """A restore of one point: onto the disks of its instance, or as new files."""

    point_id: Id
    repository_id: Id | None = None
    """Needed where more than one repository has the point."""
    host_id: Id | None = None
    """Where to; without it where the instance is."""
    pool: Name | None = None
    """Write new files into this pool of the host; without it the disks of the instance itself,
    which must be off."""
    name: Name | None = None
    """Of the new machine; with `pool` only."""
    new_macs: bool = False
    define: bool = False
    """Define the new machine on the host; with `pool` only."""
    start: bool = False
    format: Annotated[str, StringConstraints(pattern="^(qcow2|raw)$")] | None = None
    allow_larger: bool = False
    include: Targets = Field(default_factory=list)
    exclude: Targets = Field(default_factory=list)


class VerifyAsked(JobOptions):
    """A check of points; of all of a repository if none is named."""

    repository_id: Id
    level: VerifyLevel = VerifyLevel.DATA
    points: PointIds = Field(default_factory=list)
    machine: Id | None = None


class PruneAsked(JobOptions):
    """A removal of the points that no rule keeps."""

    repository_id: Id
    keep: Keep
    timezone: Name = "UTC"
    machine: Id | None = None
    """Of one instance only."""


class GcAsked(JobOptions):
    """A removal of what no point needs."""

    repository_id: Id


class CopyAsked(JobOptions):
    """A copy of points to another repository; of all points if nothing is named."""

    repository_id: Id
    to: Id
    """Id of the other repository."""
    points: PointIds = Field(default_factory=list)
    machine: Id | None = None
    last: Annotated[int, Field(ge=1, le=100_000)] | None = None


class DiscoverAsked(JobOptions):
    """A look at what runs on a host, or on all."""

    host_id: Id | None = None
