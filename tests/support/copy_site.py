"""Two repositories of any kinds, what the source holds, and what a copy has to bring."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sendense.model.decision import Method
from sendense.model.point import SAFETY, RecoveryPoint, latest_image
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.opening import create_repository
from sendense.repository.protocol import Repository
from sendense.storage.store import Store
from sendense.storage.urls import open_store
from sendense.workflows.copy import run_copy
from sendense.workflows.copy_planning import CopyRequest, plan_copy
from sendense.workflows.point_copier import CopyOptions, PointCopied
from tests.support.dedup import copied, dedup_repository, reopened
from tests.support.memory_repository import MemoryRepository
from tests.support.points import MACHINE_UUID, Write, restored, store

KINDS = ("chain", "dedup", "memory")


def repository_of(kind: str, folder: Path, name: str) -> Repository:
    """Make an empty repository; dedup ones of different names have different keys."""
    if kind == "chain":
        return create_repository(f"qcow2:{folder / name}")
    if kind == "dedup":
        return quick_dedup(memory(), name)
    return MemoryRepository()


def memory() -> Store:
    """Give an empty store."""
    return open_store(f"memory:{secrets.token_hex(8)}")


@cache
def _template(name: str) -> DedupRepository:
    return dedup_repository(memory())


def quick_dedup(place: Store, name: str) -> DedupRepository:
    """Make an empty dedup repository without deriving a key: that takes 0.1 s."""
    template = _template(name)
    return reopened(copied(template.parts.store, place), template)


@dataclass
class Site:
    """A source with its contents, and a target."""

    source: Repository
    target: Repository
    contents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """By point and disk: what the source was given, also of points that it lost since."""

    def backup(
        self, name: str, *writes: Write, uuid: str = MACHINE_UUID, safety: bool = False
    ) -> RecoveryPoint:
        """Store a point in the source."""
        earlier = self.source.points(uuid)
        for write in writes:
            base = b""
            last = latest_image(earlier, write.disk.identity)
            if last is not None and write.method is not Method.EVERYTHING:
                base = self.contents[last[0].id, write.disk.identity]
            result = bytearray(base.ljust(write.size, b"\0"))
            for chunk in write.chunks:
                result[chunk.offset : chunk.end] = chunk.data or bytes(chunk.length)
            self.contents[name, write.disk.identity] = bytes(result)
        attachments = {"domain.xml": name.encode(), **({SAFETY: b"{}"} if safety else {})}
        return store(self.source, name, *writes, uuid=uuid, attachments=attachments)

    def copy(
        self, *points: str, options: CopyOptions | None = None, **request
    ) -> tuple[PointCopied, ...]:
        """Copy as the command does; without names all points."""
        wanted = CopyRequest(points=points, **request)
        planned = plan_copy(self.source, self.target, wanted)
        return run_copy(self.source, self.target, planned.plan, options)

    def check(self, *expected: str) -> None:
        """Hold the target's points to their names, if any are given, and their contents."""
        there = self.target.points()
        if expected:
            assert [point.id for point in there] == list(expected)
        for point in there:
            for image in point.disks:
                content = restored(self.target, point.id, image.disk.identity)
                assert content == self.contents[point.id, image.disk.identity]
            with self.target.open(point.id) as reader:
                assert reader.attachment("domain.xml") == point.id.encode()


def verdicts(results: tuple[PointCopied, ...]) -> dict[str, str]:
    """Give what became of each point, in a word."""
    return {
        item.item.point.id: "failed" if item.error else item.item.verdict.value for item in results
    }


def without_errors(results: tuple[PointCopied, ...]) -> tuple[PointCopied, ...]:
    """Give results again; an error in one is raised."""
    for item in results:
        if item.error is not None:
            raise item.error
    return results
