"""restic and borg: archives of files with deduplication and encryption, with their defaults.

restic 0.14 makes repositories of format 2: zstd ("auto"), AES-256-CTR with Poly1305.  borg 1.2 uses
lz4; of its modes it is ``repokey``, which its documentation begins with: AES-256-CTR with
HMAC-SHA256.
"""

from __future__ import annotations

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.memory import watch_memory
from bench.timing import Cost, children_s

_STEP_S = 0.05
_PASSWORD = "correct horse battery"  # noqa: S105 - of repositories that last for minutes


@dataclass(frozen=True)
class Archived:
    """What a command of an archive took."""

    cost: Cost
    peak: int


class Archive(ABC):
    """A program with a repository of its own."""

    name: str

    def __init__(self, folder: Path) -> None:
        """Keep everything in ``folder``."""
        self.folder = folder
        self.repository = folder / "repository"

    def begin(self) -> None:
        """Make a new repository in the place of what is there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self._run(self._init())

    def backup(self, source: Path, name: str) -> Archived:
        """Back up one file."""
        return self._run(self._backup(source, name))

    def restore(self, source: Path, name: str, into: Path) -> tuple[Archived, Path]:
        """Restore the file; gives where it is."""
        into.mkdir()
        done = self._run(self._restore(name, into), folder=into)
        return done, into / source.relative_to("/")

    def stored(self) -> int:
        """Give the size of the repository."""
        return folder_size(self.repository)

    def _run(self, command: Sequence[str | Path], *, folder: Path | None = None) -> Archived:
        environment = {**os.environ, **self._environment()}
        before, began = children_s(), time.perf_counter()
        peaks = watch_memory(command, environment=environment, step_s=_STEP_S, folder=folder)
        cost = Cost(time.perf_counter() - began, children_s() - before)
        return Archived(cost, max([peaks.own, *peaks.children.values()]))

    @abstractmethod
    def _environment(self) -> Mapping[str, str]: ...

    @abstractmethod
    def _init(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def _backup(self, source: Path, name: str) -> Sequence[str | Path]: ...

    @abstractmethod
    def _restore(self, name: str, into: Path) -> Sequence[str | Path]: ...


class Restic(Archive):
    """restic."""

    name = "restic"

    def _environment(self) -> Mapping[str, str]:
        return {
            "RESTIC_PASSWORD": _PASSWORD,
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
        }

    def _init(self) -> Sequence[str | Path]:
        return ["restic", "init", "--quiet"]

    def _backup(self, source: Path, name: str) -> Sequence[str | Path]:
        return ["restic", "backup", "--quiet", "--tag", name, source]

    def _restore(self, name: str, into: Path) -> Sequence[str | Path]:
        return ["restic", "restore", "latest", "--quiet", "--tag", name, "--target", into]


class Borg(Archive):
    """borg."""

    name = "borg"

    def _environment(self) -> Mapping[str, str]:
        return {
            "BORG_PASSPHRASE": _PASSWORD,
            "BORG_REPO": str(self.repository),
            "BORG_BASE_DIR": str(self.folder),
        }

    def _init(self) -> Sequence[str | Path]:
        return ["borg", "init", "--encryption=repokey"]

    def _backup(self, source: Path, name: str) -> Sequence[str | Path]:
        return ["borg", "create", f"::{name}", source]

    def _restore(self, name: str, into: Path) -> Sequence[str | Path]:
        return ["borg", "extract", f"::{name}"]


def folder_size(folder: Path) -> int:
    """Give the bytes of all files below a folder."""
    return sum(item.stat().st_size for item in folder.rglob("*") if item.is_file())


def archives_here(folder: Path) -> list[Archive]:
    """Give those that are installed."""
    known: list[Archive] = [Restic(folder / "restic"), Borg(folder / "borg")]
    return [item for item in known if shutil.which(item.name) is not None]
