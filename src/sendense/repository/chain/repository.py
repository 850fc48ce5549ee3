"""A repository of plain QCOW2 files: each point a directory, each disk a layer.

Every point opens with ``qemu-img`` and ``qemu-nbd`` as it lies there.  This class
is the front of the folder: it knows who may do what at the same time (the locks)
and hands the work to ``writing``, ``reading``, ``deleting`` and ``verifying``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

from sendense import clock
from sendense.errors import Busy, Damaged, NotAllowed, NotFound, OutOfSpace, Rejected
from sendense.model.hold import Hold, HoldKind, refuse_held
from sendense.model.machine import Machine
from sendense.model.point import RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.repository.chain import (
    deleting,
    holding,
    layout,
    locks,
    manifest,
    merging,
    sequence,
    verifying,
)
from sendense.repository.chain.listing import list_machine
from sendense.repository.chain.point_reading import ChainPointReader
from sendense.repository.chain.writing import ChainPointWriter
from sendense.repository.names import check_name, is_name
from sendense.repository.protocol import (
    LostPoint,
    PointReader,
    PointWriter,
    RepositoryInfo,
    Verification,
    VerifyLevel,
)
from sendense.storage import durable

logger = logging.getLogger(__name__)


class ChainRepository:
    """The repository in one directory; made by :mod:`sendense.repository.opening`."""

    def __init__(
        self,
        root: Path,
        *,
        repository_id: str,
        created_at: datetime,
        compression_level: int | None,
    ) -> None:
        """Work in ``root``, as its ``sendense-repository.json`` says."""
        self.location = str(root)
        self._root = root
        self._id = repository_id
        self._created_at = created_at
        self._compression_level = compression_level

    # --- looking ---

    def info(self) -> RepositoryInfo:
        """Describe the repository as a whole."""
        points = self.points()
        room = os.statvfs(self._root)
        return RepositoryInfo(
            location=self.location,
            kind="qcow2-chain",
            id=self._id,
            created_at=self._created_at,
            machines=len({point.machine.uuid for point in points}),
            points=len(points),
            stored_bytes=sum(point.stored_bytes for point in points),
            free_bytes=room.f_bavail * room.f_frsize,
        )

    def points(self, machine: str | None = None) -> tuple[RecoveryPoint, ...]:
        """List points, by machine UUID and sequence."""
        folders = self._machines() if machine is None else [self._folder(machine)]
        return tuple(point for folder in folders for point in list_machine(folder).points)

    def lost(self, machine: str | None = None) -> tuple[LostPoint, ...]:
        """List the points whose manifest cannot be read."""
        folders = self._machines() if machine is None else [self._folder(machine)]
        found = []
        for folder in folders:
            unreadable = list_machine(folder).unreadable
            # Zero: the highest number is lost as well.
            newest = (sequence.next_sequence(folder, ()) - 1) if unreadable else 0
            found += [
                LostPoint(folder.name, name, message, newest or sys.maxsize)
                for name, message in unreadable.items()
            ]
        return tuple(found)

    def point(self, point_id: str) -> RecoveryPoint:
        """Give one point, its manifest read and checked now."""
        folder = self._find(point_id)
        listed = self._listed(folder, point_id)
        manifest.read(folder / point_id)
        return listed

    def rebuild(self) -> int:
        """Make the list of points again from what is stored."""
        for folder in self._machines():
            with durable.explaining(folder):
                (folder / layout.CATALOG).unlink(missing_ok=True)
        return sum(
            len(list_machine(folder, trust_cache=False).points) for folder in self._machines()
        )

    def close(self) -> None:
        """Do nothing: files are held open only by points that are read or written."""

    # --- working ---

    def begin(self, machine: Machine, point_id: str) -> PointWriter:
        """Start a point."""
        check_name(point_id, "a point")
        folder = self._folder(machine.uuid)
        with durable.explaining(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            durable.sync_directory(folder.parent)
        lock = locks.exclusive(folder / layout.LOCK, "a backup")
        try:
            self._clear_up(folder, lock)
            _refuse_known(folder, point_id)
            return ChainPointWriter(
                folder,
                point_id,
                machine=machine,
                lock=lock,
                compression_level=self._compression_level,
            )
        except BaseException:
            lock.release()
            raise

    def open(self, point_id: str) -> PointReader:
        """Open a point for reading."""
        folder = self._find(point_id)
        self._settle(folder, point_id)
        lock = locks.shared(folder / layout.READERS, f"a reader of point {point_id}")
        try:
            return ChainPointReader(folder, self._listed(folder, point_id), lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def delete(
        self, point_ids: Sequence[str], *, progress: ProgressListener = silent
    ) -> tuple[str, ...]:
        """Delete points; a child that needs a deleted parent absorbs it first."""
        chosen: dict[Path, list[str]] = {}
        for point_id in dict.fromkeys(point_ids):
            chosen.setdefault(self._find(point_id), []).append(point_id)
        for folder, names in chosen.items():
            _refuse_held(folder, names)
        deleted: list[str] = []
        for folder, names in chosen.items():
            with (
                durable.explaining(folder),
                locks.exclusive(folder / layout.LOCK, "a deletion") as lock,
                locks.exclusive(folder / layout.READERS, "a deletion"),
            ):
                _refuse_held(folder, names)
                deleting.sweep(folder)
                deleted += deleting.delete(folder, names, lock=lock, progress=progress)
                _refresh(folder)
        return tuple(deleted)

    def holds(self, machine: str | None = None) -> tuple[Hold, ...]:
        """List pins and locks, by point and kind."""
        folders = self._machines() if machine is None else [self._folder(machine)]
        found = [hold for folder in folders for hold in holding.list_holds(folder)]
        return tuple(sorted(found, key=lambda hold: (hold.point_id, hold.kind.value)))

    def hold(self, hold: Hold) -> None:
        """Pin or lock a point, durably."""
        with self._held_still(hold.point_id) as folder:
            holding.add(folder, hold, clock.now())

    def release_hold(self, point_id: str, kind: HoldKind) -> None:
        """Take a pin off, or a lock whose date has passed."""
        with self._held_still(point_id) as folder:
            holding.take_off(folder, kind, clock.now())

    def verify(
        self,
        point_id: str,
        level: VerifyLevel,
        *,
        only_new: bool = False,
        progress: ProgressListener = silent,
    ) -> Verification:
        """Check one point, always all of it, and remember what is found."""
        folder = self._find(point_id)
        self._settle(folder, point_id)
        lock = locks.shared(folder / layout.READERS, f"a verification of point {point_id}")
        try:
            return verifying.verify(folder, point_id, level, progress=progress)
        finally:
            if lock is not None:
                lock.release()
            _refresh(folder)

    # --- inside ---

    def _machines(self) -> Iterator[Path]:
        try:
            found = sorted((self._root / layout.MACHINES).iterdir())
        except FileNotFoundError as error:
            raise Damaged(f"{self._root} has lost its directory of machines") from error
        return (path for path in found if is_name(path.name) and path.is_dir())

    def _folder(self, machine: str) -> Path:
        return layout.machine_folder(self._root, machine)

    def _find(self, point_id: str) -> Path:
        """Give the directory of the machine that has a point."""
        check_name(point_id, "a point")
        for folder in self._machines():
            if (folder / point_id / layout.MANIFEST).exists():
                return folder
        for lost in self.lost():
            if lost.id == point_id:
                return self._folder(lost.machine)
        raise NotFound(f"there is no point {point_id} in {self.location}")

    @contextmanager
    def _held_still(self, point_id: str) -> Iterator[Path]:
        """Give a point's directory, and keep it from deletion and from other holds meanwhile."""
        machine = self._find(point_id)
        with (
            durable.explaining(machine),
            locks.exclusive(machine / layout.HOLDING, "a pin or a lock"),
            # None where nobody can write: then the lock above was refused.
            locks.shared(machine / layout.READERS, "a pin or a lock") or nullcontext(),
        ):
            folder = machine / point_id
            if (folder / layout.TOMBSTONE).exists() or not folder.exists():
                raise NotFound(f"there is no point {point_id} in {self.location}")
            yield folder

    def _listed(self, folder: Path, point_id: str) -> RecoveryPoint:
        """Give a point with its state, read from its own manifest."""
        manifest.read(folder / point_id)
        for point in list_machine(folder).points:
            if point.id == point_id:
                return point
        raise NotFound(f"there is no point {point_id} in {self.location}")

    def _clear_up(self, folder: Path, lock: locks.Lock) -> None:
        """Remove what a dead writer left, and finish what a dead deletion began.

        What cannot be finished now does not stop a backup, save a merge that stopped
        in its middle for another reason than damage.
        """
        deleting.sweep(folder)
        try:
            with locks.exclusive(folder / layout.READERS, "the end of a deletion"):
                deleting.finish(folder, lock=lock)
        except (Busy, Damaged, OutOfSpace) as error:
            if (folder / layout.JOURNAL).exists() and not isinstance(error, Damaged):
                raise
            logger.warning("an interrupted deletion is not finished yet: %s", error)

    def _settle(self, folder: Path, point_id: str) -> None:
        """Finish an interrupted merge before anybody reads the layers concerned."""
        if not (folder / layout.JOURNAL).exists():
            return
        try:
            self._finish_merge(folder)
        except (Busy, Damaged, NotAllowed, OutOfSpace):
            if merging.concerns(folder, point_id):
                raise

    def _finish_merge(self, folder: Path) -> None:
        try:
            with (
                durable.explaining(folder),
                locks.exclusive(folder / layout.LOCK, "the end of a deletion") as lock,
                locks.exclusive(folder / layout.READERS, "the end of a deletion"),
            ):
                deleting.finish(folder, lock=lock)
        except NotAllowed as error:
            raise NotAllowed(
                "a deletion was interrupted here and has to be finished before reading",
                hint="open the repository once where it can be written",
            ) from error


def _refuse_held(folder: Path, names: Sequence[str]) -> None:
    holds = [hold for name in names for hold in holding.read(folder / name)]
    refuse_held(holds, names, clock.now())


def _refuse_known(folder: Path, point_id: str) -> None:
    if (folder / point_id).exists():
        raise Rejected(f"there is a point {point_id} already")


def _refresh(folder: Path) -> None:
    """List a machine, which renews its cache."""
    list_machine(folder)
