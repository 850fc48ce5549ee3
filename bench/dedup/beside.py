"""Beside restic and borg: the same disk, first, unchanged, with 1 % changed, and back again.

All read the same raw file.  Ours gets it from ``qemu-nbd``, whose processor time is counted as
ours.  Before the second backup the file's time is changed, as the disk of a machine that runs
changes all the time: who trusts the time of a file has to read it.  What changes, changes through
an image with a bitmap over the same file, so that ours can be measured with the bitmap too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.dedup.archives import Archive, Archived, archives_here, folder_size
from bench.dedup.figuring import less
from bench.dedup.images import change_behind_bitmap, choose_granules, mixed_disk
from bench.dedup.jobs import Run
from bench.dedup.points import GRANULE
from bench.dedup.servers import Export, bitmap_over, bitmap_server, raw_server
from bench.dedup.stage import DedupStage, Ours, touch_memory
from bench.figures import Figure
from bench.timing import Cost
from bench.truth import require_equal
from sendense.model.decision import Method
from sendense.units import MIB

_SHARE = 0.01
_OURS, _BITMAP = "ours", "ours, bitmap"
_FIRST, _UNCHANGED, _CHANGED, _RESTORE = (
    "first backup",
    "unchanged, read again",
    "1 % changed, read again",
    "restore",
)
_FIELDS = (
    ("whole command", "s", "seconds", 1),
    ("processor time", "s", "processor_s", 1),
    ("memory", "MiB", "peak", MIB),
    ("stored", "MiB", "grown", MIB),
)
_STEPS = (_FIRST, _UNCHANGED, _CHANGED, _RESTORE)


@dataclass(frozen=True)
class _Sample:
    """One step of one contestant."""

    seconds: float
    processor_s: float
    peak: int
    grown: int = 0


class _Book:
    """All samples, by step and contestant."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], list[_Sample]] = {}

    def note(self, step: str, who: str, sample: _Sample) -> None:
        """Take note of one."""
        self._samples.setdefault((step, who), []).append(sample)

    def values(self, step: str, who: str, field: str) -> tuple[float, ...]:
        """Give one field of all samples."""
        return tuple(float(getattr(item, field)) for item in self._samples.get((step, who), ()))


def measure_beside(stage: DedupStage) -> Iterator[Figure]:
    """Measure all steps in each round, everybody in turn."""
    source = stage.place("machine.raw")
    archives = archives_here(stage.folder)
    book = _Book()
    for number in range(stage.plan.rounds):
        _Round(stage, source, archives, book, number).run()
    stage.clear(source, *(item.folder for item in archives))
    if not archives:  # ours alone, on a machine that has none of them
        yield from _figures(book, None)
    for archive in archives:
        yield from _figures(book, archive.name)


class _Round:
    """One round."""

    def __init__(
        self, stage: DedupStage, source: Path, archives: list[Archive], book: _Book, number: int
    ) -> None:
        self._stage = stage
        self._source = source
        self._image = stage.place("machine.qcow2")
        self._archives = archives
        self._book = book
        self._number = number
        self._size = stage.plan.mixed
        self._ours = Ours(stage.place("ours"), self._size, stage)
        self._theirs = Ours(stage.place("ours-bitmap"), self._size, stage)
        self._into = stage.place("restored")

    def run(self) -> None:
        """Run all steps."""
        stage = self._stage
        stage.clear(self._image)
        bitmap_over(self._source, self._image, self._size)
        mixed_disk(self._source, self._size)
        for archive in self._archives:
            archive.begin()
        self._ours.begin()
        self._step(_FIRST, "first")
        os.utime(self._source)
        self._step(_UNCHANGED, "second")
        count = round(self._size // GRANULE * _SHARE)
        granules = choose_granules(self._size, max(1, count), seed=self._number)
        change_behind_bitmap(self._image, granules)
        self._copied_for_bitmap()
        self._step(_CHANGED, "third")
        self._bitmap()
        self._restore()
        stage.clear(self._ours.root, self._theirs.root, self._image)

    def _step(self, step: str, name: str) -> None:
        for archive in self._archives:
            before = archive.stored()
            self._touch()
            done = archive.backup(self._source, name)
            self._note(step, archive.name, done, archive.stored() - before)
        before = folder_size(self._ours.root / "repository")
        self._touch()
        with raw_server(self._source) as export:
            run = self._ours.backup(export, name)
            sample = _sample(run, export, folder_size(self._ours.root / "repository") - before)
        self._book.note(step, _OURS, sample)

    def _copied_for_bitmap(self) -> None:
        """Keep the repository as it is before the change, for the backup by bitmap."""
        _copy_tree(self._ours.root, self._theirs.root)

    def _bitmap(self) -> None:
        before = folder_size(self._theirs.root / "repository")
        with bitmap_server(self._image) as export:
            run = self._theirs.backup(export, "third", method=Method.BITMAP)
            sample = _sample(run, export, folder_size(self._theirs.root / "repository") - before)
        self._book.note(_CHANGED, _BITMAP, sample)
        restored = Path(self._theirs.restore("third", self._into).facts["path"])
        require_equal(restored, self._source, result_format="raw")
        self._stage.clear(self._into)

    def _restore(self) -> None:
        for archive in self._archives:
            self._touch()
            done, path = archive.restore(self._source, "third", self._into)
            require_equal(path, self._source, result_format="raw")
            self._note(_RESTORE, archive.name, done, 0)
            self._stage.clear(self._into)
        self._touch()
        run = self._ours.restore("third", self._into)
        require_equal(Path(run.facts["path"]), self._source, result_format="raw")
        self._stage.clear(self._into)
        sample = _Sample(run.command.seconds, run.command.processor_s, run.peak)
        self._book.note(_RESTORE, _OURS, sample)

    def _note(self, step: str, who: str, done: Archived, grown: int) -> None:
        cost: Cost = done.cost
        self._book.note(step, who, _Sample(cost.seconds, cost.processor_s, done.peak, grown))

    def _touch(self) -> None:
        touch_memory(self._size)


def _sample(run: Run, export: Export, grown: int) -> _Sample:
    used = run.command.processor_s + export.processor_s()
    return _Sample(run.command.seconds, used, run.peak, grown)


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a repository; its objects are never changed, so names are enough."""
    for folder, _, names in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True)
        for name in names:
            old = Path(folder) / name
            if "repository" in place.parts[-4:] and name != "index.sqlite":
                os.link(old, place / name)
            else:
                (place / name).write_bytes(old.read_bytes())


def _figures(book: _Book, peer: str | None) -> Iterator[Figure]:
    for step in _STEPS:
        yield from _of_step(book, step, _OURS, peer, step)
    yield from _of_step(book, _CHANGED, _BITMAP, peer, "1 % changed, by bitmap")


def _of_step(book: _Book, step: str, ours: str, peer: str | None, told: str) -> Iterator[Figure]:
    name = f"dedup, {told}"
    for what, unit, field, scale in _FIELDS:
        if field == "grown" and step == _RESTORE:
            continue
        own, theirs = (
            [value / scale for value in book.values(step, who, field)] if who else []
            for who in (ours, peer)
        )
        yield less(f"{name}, {what}", unit, own, theirs, peer)
