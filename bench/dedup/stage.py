"""Where it takes place: folders for the sources, the repositories and what is restored."""

from __future__ import annotations

import mmap
import shutil
from pathlib import Path

from bench.dedup.jobs import Run, run_worker
from bench.dedup.plan import DedupPlan
from bench.dedup.servers import Export
from sendense.model.decision import Method
from sendense.units import GIB

_SPARE = GIB
"""Beyond what is written: the process itself, its buffers, the index.  With a quarter of it some
runs met memory that the host had taken back, at 2.5 s a GiB instead of 0.33 s."""


class DedupStage:
    """One folder in memory, and how much is measured there."""

    def __init__(self, folder: Path, plan: DedupPlan) -> None:
        """Use ``folder``, which is empty."""
        self.folder = folder
        self.plan = plan

    def place(self, name: str) -> Path:
        """Give the path of something in the folder."""
        return self.folder / name

    def clear(self, *paths: Path) -> None:
        """Remove what a run made."""
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class Ours:
    """A repository of ours, and what is done with it; each in a process of its own."""

    def __init__(self, root: Path, size: int, stage: DedupStage) -> None:
        """Keep the repository and its cache in ``root``; points are of a disk of ``size`` bytes."""
        self.root = root
        self.url = f"dedup:{root}/repository"
        self.cache = root / "cache"
        self._size = size
        self._stage = stage

    def begin(self) -> None:
        """Make a new repository in the place of what is there."""
        self._stage.clear(self.root)
        self.root.mkdir()
        run_worker("init", url=self.url, cache=self.cache)

    def backup(self, export: Export, point: str, *, method: Method = Method.EVERYTHING) -> Run:
        """Make a point of what is served."""
        return run_worker(
            "backup", url=self.url, cache=self.cache, socket=export.socket, export=export.name,
            size=self._size, point=point, method=method.value, bitmap="bench",
        )  # fmt: skip

    def restore(self, point: str, into: Path, *, record: Path | None = None) -> Run:
        """Restore a point to a raw file in a folder."""
        return run_worker(
            "restore", url=self.url, cache=self.cache, point=point, into=into, record=record
        )


def touch_memory(size: int) -> None:
    """Make the kernel have so much memory at hand for whoever comes next, and a little more.

    On a virtual machine memory that was not used for a while comes from the host, page by page, at
    up to four times the cost of writing it.  Whose run would have to pay for that is chance.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, size + _SPARE, flags=flags).close()
