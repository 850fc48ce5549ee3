"""Deleting points in any order: plan, tombstone, merge, remove.

A point whose layers others need cannot simply go: its child absorbs it first
(:mod:`~sendense.repository.chain.merging`), disk by disk, since chains are per disk.

The order of the work:

1. look whether each merge that will be needed can be done; else nothing is changed;
2. ``manifest.json`` becomes ``manifest.deleted`` for every chosen point: from this
   rename on the point is not listed, and its deletion will be finished by whoever
   comes next;
3. points that nobody needs go first, newest first: that costs nothing and frees
   room for the merges;
4. the others are merged upwards, oldest first, and removed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sendense import steps
from sendense.errors import Damaged
from sendense.model.point import RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.repository.chain import damage, layout, merging
from sendense.repository.chain.layers import load_point
from sendense.repository.chain.listing import list_machine
from sendense.repository.chain.locks import Lock
from sendense.storage import durable

logger = logging.getLogger(__name__)


def sweep(machine: Path) -> None:
    """Remove what nobody can see: points never committed, and points deleted already."""
    for path in machine.iterdir():
        if path.name.startswith((layout.PARTIAL, layout.TRASH)):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(f"{layout.CATALOG}.") or path.name.endswith(".new"):
            path.unlink(missing_ok=True)


def delete(
    machine: Path, point_ids: Sequence[str], *, lock: Lock, progress: ProgressListener
) -> tuple[str, ...]:
    """Delete points of one machine, of which the caller holds both locks."""
    merging.read_journal(machine)  # damage there shows before anything is changed
    listing = list_machine(machine, trust_cache=False)
    state = _Points(machine, (*listing.points, *listing.deleting))
    readable = [name for name in point_ids if name not in listing.unreadable]
    unreadable = set(point_ids) - set(readable)
    going = {*point_ids, *(point.id for point in listing.deleting)}
    _check_unreadable(state, unreadable, going)
    _check_merges(state, going - unreadable)
    for point_id in readable:
        folder = machine / point_id
        durable.move(folder / layout.MANIFEST, folder / layout.TOMBSTONE)
        steps.reached("delete:tombstoned")
    for point_id in unreadable:
        state.remove(point_id)
    finish(machine, lock=lock, progress=progress)
    return tuple(point_ids)


def finish(machine: Path, *, lock: Lock, progress: ProgressListener = silent) -> None:
    """Finish every deletion that was begun; a failure leaves what it concerns for later."""
    listing = list_machine(machine)
    if not listing.deleting and not (machine / layout.JOURNAL).exists():
        return
    state = _Points(machine, (*listing.points, *listing.deleting))
    pending = [point.id for point in sorted(listing.deleting, key=lambda item: item.sequence)]
    journal = _needed_journal(state, set(pending))
    for point_id in reversed(pending):
        kept = journal is not None and journal.parent == point_id
        if not kept and not state.dependents(point_id):
            state.remove(point_id)
    if journal is not None:
        with _marking(machine, journal.child, journal.disk):
            merging.finish(machine, journal, lock=lock, progress=progress)
        state.reload(journal.child)
    for point_id in pending:
        for child, identity in state.dependents(point_id):
            with _marking(machine, child.id, identity):
                merging.merge(machine, child, identity, lock=lock, progress=progress)
            state.reload(child.id)
        state.remove(point_id)


class _Points:
    """The points of a machine, visible or not, and who needs whom."""

    def __init__(self, machine: Path, points: Iterable[RecoveryPoint]) -> None:
        self.machine = machine
        self._points = {point.id: point for point in points}

    def dependents(self, point_id: str) -> list[tuple[RecoveryPoint, str]]:
        """Give the points and disks that are laid over a point."""
        return [
            (point, image.disk.identity)
            for point in self._points.values()
            for image in point.disks
            if image.parent == point_id
        ]

    def needed_by_others(self, point_id: str, going: set[str]) -> bool:
        """Tell whether a point that stays is laid over this one, directly or not."""
        return any(
            child.id not in going or self.needed_by_others(child.id, going)
            for child, _ in self.dependents(point_id)
        )

    def reload(self, point_id: str) -> None:
        """Read a manifest again that was changed."""
        self._points[point_id] = load_point(self.machine, point_id)

    def remove(self, point_id: str) -> None:
        """Remove a point's directory: out of sight with one rename, then file by file."""
        folder = self.machine / point_id
        if folder.exists():
            trash = self.machine / f"{layout.TRASH}{point_id}"
            durable.move(folder, trash)
            steps.reached("delete:out-of-sight")
            shutil.rmtree(trash)
            steps.reached("delete:removed")
            logger.info("point %s is deleted", point_id)
        self._points.pop(point_id, None)


def _check_unreadable(state: _Points, names: set[str], going: set[str]) -> None:
    """Let a point without a readable manifest go only if nobody who stays needs it."""
    for name in names:
        if state.needed_by_others(name, going):
            raise Damaged(
                f"the manifest of point {name} is damaged, and others need its data",
                hint="delete the points that are laid over it together with it",
                point=name,
            )


def _check_merges(state: _Points, going: set[str]) -> None:
    """Look whether all merges that will be needed can be done, before anything is changed."""
    for name in going:
        for child, identity in state.dependents(name):
            if child.id not in going or state.needed_by_others(child.id, going):
                try:
                    merging.check(state.machine, child, identity)
                except Damaged as error:
                    raise Damaged(
                        f"point {name} cannot be merged into {child.id}: {error.message}",
                        hint="delete the points that are laid over it together with it",
                        point=name,
                    ) from error


def _needed_journal(state: _Points, going: set[str]) -> merging.Journal | None:
    """Give the merge under way; drop it if nobody who stays needs it."""
    journal = merging.read_journal(state.machine)
    if journal is None:
        return None
    gone = not (state.machine / journal.child).exists()
    if gone or (journal.child in going and not state.needed_by_others(journal.child, going)):
        merging.drop_journal(state.machine)
        return None
    return journal


@contextmanager
def _marking(machine: Path, child: str, identity: str) -> Iterator[None]:
    """Remember on the child that a merge into it failed for damage."""
    try:
        yield
    except Damaged as error:
        with suppress(OSError):
            damage.mark_disk(machine / child, child, identity, error.message)
        raise
