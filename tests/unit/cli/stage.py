"""What the command line works with in its tests: a host and a repository without any I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sendense import clock
from sendense.capture.host import Host
from sendense.capture.session import HostSettings
from sendense.cli.main import run
from sendense.cli.run import Services
from sendense.errors import NotFound, Rejected, SendenseError
from sendense.model.hold import Hold, HoldKind, refuse_held, with_hold, without_hold
from sendense.model.machine import Machine
from sendense.model.point import PointState, RecoveryPoint
from sendense.model.progress import Progress, ProgressListener, silent
from sendense.model.survey import Survey
from sendense.repository.opening import Access, RepositorySettings
from sendense.repository.protocol import (
    DiskReader,
    Finding,
    LostPoint,
    PointReader,
    PointWriter,
    RepositoryInfo,
    Verification,
    VerifyLevel,
)

PASSPHRASE = "correct horse battery"
OTHER_PASSPHRASE = "another horse, another staple"


def a_secret_file(path: Path, text: str) -> Path:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")
    return path


class MemoryReader:
    """One point in memory: its attachments, and no disk."""

    def __init__(self, repository: MemoryRepository, point: RecoveryPoint) -> None:
        self._repository = repository
        self.point = point

    def __enter__(self) -> MemoryReader:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def disk(self, identity: str) -> DiskReader:
        raise NotImplementedError

    def attachment(self, name: str) -> bytes:
        return self._repository.attachments[self.point.id, name]


class MemoryRepository:
    """Points in memory; ``damaged`` names those that a verification finds broken."""

    def __init__(self, location: str, points: Sequence[RecoveryPoint] = ()) -> None:
        self.location = location
        self._points = {point.id: point for point in points}
        self.damaged: set[str] = set()
        self.lost_points: tuple[LostPoint, ...] = ()
        self.attachments: dict[tuple[str, str], bytes] = {}
        self.kept: dict[str, tuple[Hold, ...]] = {}
        self.error: SendenseError | None = None
        self.closed = 0

    def info(self) -> RepositoryInfo:
        return RepositoryInfo(
            location=self.location,
            kind="memory",
            id="r1",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            machines=len({point.machine.uuid for point in self._points.values()}),
            points=len(self._points),
            stored_bytes=sum(point.stored_bytes for point in self._points.values()),
            free_bytes=None,
        )

    def points(self, machine: str | None = None) -> tuple[RecoveryPoint, ...]:
        if self.error is not None:
            raise self.error
        chosen = [point for point in self._points.values() if machine in (None, point.machine.uuid)]
        return tuple(sorted(chosen, key=lambda point: (point.machine.uuid, point.sequence)))

    def lost(self, machine: str | None = None) -> tuple[LostPoint, ...]:
        return tuple(item for item in self.lost_points if machine in (None, item.machine))

    def point(self, point_id: str) -> RecoveryPoint:
        if point_id not in self._points:
            raise NotFound(f"no point {point_id}")
        return self._points[point_id]

    def begin(self, machine: Machine, point_id: str) -> PointWriter:
        raise NotImplementedError

    def open(self, point_id: str) -> PointReader:
        return MemoryReader(self, self.point(point_id))

    def delete(
        self, point_ids: Sequence[str], *, progress: ProgressListener = silent
    ) -> tuple[str, ...]:
        refuse_held(self.holds(), point_ids, clock.now())
        for point_id in point_ids:
            self._points.pop(point_id, None)
        return tuple(point_ids)

    def holds(self, machine: str | None = None) -> tuple[Hold, ...]:
        known = {point.id for point in self.points(machine)}
        known |= {item.id for item in self.lost(machine)}
        return tuple(hold for name in sorted(known) for hold in self.kept.get(name, ()))

    def hold(self, hold: Hold) -> None:
        held = self._held(hold.point_id)
        self.kept[hold.point_id] = with_hold(held, hold, clock.now())

    def release_hold(self, point_id: str, kind: HoldKind) -> None:
        held = self._held(point_id)
        self.kept[point_id] = without_hold(held, point_id, kind, clock.now())

    def verify(
        self,
        point_id: str,
        level: VerifyLevel,
        *,
        only_new: bool = False,
        progress: ProgressListener = silent,
    ) -> Verification:
        for lost in self.lost_points:
            if lost.id == point_id:
                return Verification(
                    point_id, level, 0, (Finding(point_id, None, None, lost.message),), 0.1
                )
        point = self.point(point_id)
        progress(Progress("verify", "vda", 4096, 4096, 1.0))
        findings: tuple[Finding, ...] = ()
        if point_id in self.damaged:
            findings = (Finding(point_id, "vda", 65536, "the block differs from its hash"),)
            self._points[point_id] = replace(point, state=PointState.DAMAGED)
        return Verification(point_id, level, 4096, findings, 0.5)

    def _held(self, point_id: str) -> tuple[Hold, ...]:
        if point_id not in {item.id for item in self.lost_points}:
            self.point(point_id)
        return self.kept.get(point_id, ())

    def rebuild(self) -> int:
        return len(self._points)

    def close(self) -> None:
        self.closed += 1


class StageHost(Host):
    """A host with machines that are given, and errors on demand."""

    def __init__(self, settings: HostSettings, stage: Stage) -> None:
        super().__init__(settings)
        self.stage = stage
        self.versions = "sendense x, libvirt 9.0.0, QEMU 7.2.0"

    def machines(self) -> tuple[Machine, ...]:
        self.stage.used.append(self.settings)
        if self.stage.host_error is not None:
            raise self.stage.host_error
        return tuple(survey.machine for survey in self.stage.surveys)

    def find(self, name: str) -> Machine:
        for machine in self.machines():
            if name in (machine.name, machine.uuid):
                return machine
        raise NotFound(f"no machine {name!r} on this host", machine=name)

    def from_xml(self, path: Path) -> Machine:
        if not path.exists():
            raise NotFound(f"there is no file {path}")
        return self.stage.surveys[0].machine

    def survey(self, machine: Machine) -> Survey:
        trouble = self.stage.troubles.get(machine.name)
        if trouble is not None:
            raise trouble
        return next(item for item in self.stage.surveys if item.machine.uuid == machine.uuid)


@dataclass
class Stage:
    """One command line after the other, on the same host and repositories."""

    repositories: dict[str, MemoryRepository] = field(default_factory=dict)
    surveys: list[Survey] = field(default_factory=list)
    troubles: dict[str, BaseException] = field(default_factory=dict)
    """What looking at a machine, by its name, raises."""
    host_error: SendenseError | None = None
    used: list[HostSettings] = field(default_factory=list)
    real: bool = False
    """Repositories are real ones, of either kind."""

    def add(self, *points: RecoveryPoint, location: str = "mem") -> MemoryRepository:
        """Put a repository with these points there."""
        self.repositories[location] = MemoryRepository(location, points)
        return self.repositories[location]

    def run(self, *arguments: object) -> int:
        """Run one command line; gives the exit code."""
        services = Services(host=lambda settings: StageHost(settings, self))
        if not self.real:
            services = replace(services, open_repository=self._open, create_repository=self._create)
        return run([str(item) for item in arguments], services)

    def _open(self, url: str, access: Access) -> MemoryRepository:
        if url not in self.repositories:
            raise NotFound(f"there is no repository at {url}")
        return self.repositories[url]

    def _create(self, url: str, settings: RepositorySettings, access: Access) -> MemoryRepository:
        if url in self.repositories:
            raise Rejected(f"there is a repository at {url} already")
        return self.add(location=url)


def document(captured: Any) -> dict[str, Any]:
    """Read the one JSON document on standard output."""
    return document_of(captured.out)


def document_of(text: str) -> dict[str, Any]:
    """Read a text that is one JSON document."""
    parsed = json.loads(text)
    assert isinstance(parsed, dict)
    return parsed
