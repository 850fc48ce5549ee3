"""The whole: a deduplicating, encrypted repository in a store of objects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from sendense import clock, steps
from sendense.errors import Rejected, SendenseError
from sendense.model.hold import Hold, HoldKind, refuse_held
from sendense.model.machine import Machine
from sendense.model.point import PointState, RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.repository.dedup import (
    damages,
    holding,
    indexing,
    locking,
    points,
    sequences,
    verifying,
)
from sendense.repository.dedup.ahead import beside
from sendense.repository.dedup.damages import DamageNote
from sendense.repository.dedup.header import Header
from sendense.repository.dedup.indexing import Fresh
from sendense.repository.dedup.lease import Lease
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.point_reading import DedupPointReader
from sendense.repository.dedup.points import Named, PointList, StoredPoint
from sendense.repository.dedup.writing import DedupPointWriter, Earlier
from sendense.repository.names import check_name
from sendense.repository.protocol import (
    LostPoint,
    PointWriter,
    RepositoryInfo,
    Verification,
    VerifyLevel,
)

log = logging.getLogger(__name__)

KIND = "dedup"


class DedupRepository:
    """Points of machines in a store of objects; the repository's Repository."""

    def __init__(self, parts: Parts, header: Header) -> None:
        """Open with what was unlocked."""
        self.location = parts.store.location
        self.parts = parts
        self.header = header
        self._points = PointList(parts)

    # --- looking ---

    def info(self) -> RepositoryInfo:
        """Describe the repository as a whole."""
        found = self.points()
        self._refresh()
        return RepositoryInfo(
            location=self.location,
            kind=KIND,
            id=self.header.id,
            created_at=self.header.created_at,
            machines=len({point.machine.uuid for point in found}),
            points=len(found),
            stored_bytes=self.parts.index.totals().stored_bytes,
            free_bytes=self.parts.store.free_bytes(),
        )

    def points(self, machine: str | None = None) -> tuple[RecoveryPoint, ...]:
        """List points, by machine UUID and sequence."""
        with beside(self._damage) as damage:
            stored, _ = self._points.all(machine)
            return _with_states(stored, damage())

    def stored_points(self, machine: str | None = None) -> list[StoredPoint]:
        """List points with the roots of their disks."""
        return self._points.all(machine)[0]

    def lost(self, machine: str | None = None) -> tuple[LostPoint, ...]:
        """List the points whose object cannot be read."""
        stored, unreadable = self._points.all(machine)
        uuids = {
            self.parts.ring.machine_tag(item.point.machine.uuid): item.point.machine.uuid
            for item in stored
        }
        if machine is not None:
            uuids[self.parts.ring.machine_tag(machine)] = machine
        return tuple(
            LostPoint(uuids.get(named.tag, named.tag), named.id, message, named.sequence)
            for named, message in unreadable
        )

    def point(self, point_id: str) -> RecoveryPoint:
        """Give one point, its object read and checked now."""
        check_name(point_id, "a point")
        with beside(self._damage) as damage:
            stored = self._read(point_id)
            return _with_states([stored], damage())[0]

    def rebuild(self) -> int:
        """Forget what is known here, and read the index and the points again."""
        self.parts.index.clear()
        self.parts.seen.clear()
        self._points = PointList(self.parts)
        self._refresh()
        return len(self.points())

    # --- working ---

    def begin(self, machine: Machine, point_id: str) -> PointWriter:
        """Start a point."""
        check_name(point_id, "a point")
        lease = self._lease(
            LeaseKind.WRITE, f"a backup of {machine.name or machine.uuid}", machine=machine.uuid
        )
        try:
            with beside(lambda: self._earlier(machine.uuid, point_id)) as found:
                fresh = self._refresh()
                lease.note_seen(fresh.condemnations)
                stored, newest = found()
            earlier = Earlier(stored, _with_states(stored, fresh.damage), newest)
            return DedupPointWriter(self.parts, point_id, machine, lease, earlier)
        except BaseException:
            lease.release()
            raise

    def open(self, point_id: str) -> DedupPointReader:
        """Open a point for reading."""
        check_name(point_id, "a point")
        lease = self._reading(point_id)
        try:
            with beside(lambda: self._read(point_id)) as found:
                fresh = self._refresh()
                stored = found()
            self.parts.leases.note_soon(lease, fresh.condemnations)
            point = _with_states([stored], fresh.damage)[0]
            return DedupPointReader(self.parts, stored, point, lease)
        except BaseException:
            lease.release()
            raise

    def delete(
        self, point_ids: Sequence[str], *, progress: ProgressListener = silent
    ) -> tuple[str, ...]:
        """Delete points; what only they used is garbage from then on."""
        chosen: dict[str, list[Named]] = {}
        for point_id in dict.fromkeys(point_ids):
            named = self._points.find(check_name(point_id, "a point"))
            chosen.setdefault(named.tag, []).append(named)
        self._refuse_held(point_ids)
        with ExitStack() as leases:
            for tag, found in chosen.items():
                ids = tuple(named.id for named in found)
                leases.enter_context(
                    self._lease(LeaseKind.DELETE, "a deletion", tag=tag, points=ids)
                )
            self._refuse_held(point_ids)
            return tuple(self._delete(named) for named in self._in_order(chosen))

    def _in_order(self, chosen: Mapping[str, Sequence[Named]]) -> Iterator[Named]:
        """Give what is deleted, machine by machine, its highest sequence remembered first."""
        for tag, found in chosen.items():
            self._remember_sequence(tag, found)
            yield from found

    def _delete(self, named: Named) -> str:
        self.parts.store.delete([named.name])
        steps.reached("dedup:point-deleted")
        self.parts.seen.forget([named.name])
        holding.forget(self.parts, named.id)
        return named.id

    # --- holds ---

    def holds(self, machine: str | None = None) -> tuple[Hold, ...]:
        """List pins and locks."""
        known = {named.id for named in self._points.names(machine)}
        return tuple(hold for hold in holding.read_all(self.parts) if hold.point_id in known)

    def hold(self, hold: Hold) -> None:
        """Pin or lock a point; where the store has object locks, it enforces the lock."""
        named = self._points.find(check_name(hold.point_id, "a point"))
        with self._reading(hold.point_id):
            holding.add(self.parts, hold)
        if hold.until is not None and self.parts.store.locks is not None:
            indexing.refresh(self.parts)
            locking.lock_objects(self.parts, self._points.read(named), hold.until)

    def release_hold(self, point_id: str, kind: HoldKind) -> None:
        """Take a hold off."""
        self._points.find(check_name(point_id, "a point"))
        with self._reading(point_id):
            holding.remove(self.parts, point_id, kind)

    def _reading(self, point_id: str) -> Lease:
        """Keep a point from being deleted."""
        return self._lease(LeaseKind.READ, f"a reader of point {point_id}", points=(point_id,))

    # --- checking ---

    def verify(
        self,
        point_id: str,
        level: VerifyLevel,
        *,
        only_new: bool = False,
        progress: ProgressListener = silent,
    ) -> Verification:
        """Check one point, and remember what is found."""
        with self.open(point_id) as reader:
            bases = verifying.bases_of(reader.point, self._points) if only_new else {}
            return verifying.verify(self.parts, reader, level, bases=bases, progress=progress)

    def close(self) -> None:
        """Let go of the store."""
        self.parts.index.close()
        self.parts.store.close()

    # --- inside ---

    def _read(self, point_id: str) -> StoredPoint:
        """Find a point and read its object."""
        return points.read(self.parts, self._points.find(point_id).name)

    def _refresh(self) -> Fresh:
        """Bring the index up to date; what cannot be read of it is passed over, and said."""
        doubts: list[SendenseError] = []
        fresh = indexing.refresh(self.parts, doubts)
        for doubt in doubts:
            log.warning("%s; 'sendense repo check --repair' mends it", doubt)
        return fresh

    def _lease(
        self,
        kind: LeaseKind,
        text: str,
        *,
        machine: str | None = None,
        tag: str | None = None,
        points: tuple[str, ...] = (),
    ) -> Lease:
        if machine is not None:
            tag = self.parts.ring.machine_tag(machine)
        return self.parts.leases.acquire(Wish(kind, text, tag, frozenset(points)))

    def _earlier(self, machine: str, point_id: str) -> tuple[list[StoredPoint], int]:
        """Give the points of a machine, and the highest sequence it ever had.

        :class:`~sendense.errors.Rejected` where the id of the new point is taken.
        """
        names = self._points.names()
        if any(named.id == point_id for named in names):
            raise Rejected(f"there is a point {point_id} already")
        tag = self.parts.ring.machine_tag(machine)
        own = [named for named in names if named.tag == tag]
        stored, _ = self._points.read_all(own)
        newest = max((named.sequence for named in own), default=0)
        return stored, max(newest, sequences.highest(self.parts, tag))

    def _remember_sequence(self, tag: str, found: Sequence[Named]) -> None:
        """Keep the highest number where the point that has it goes."""
        left = {named.sequence for named in self._points.names() if named.tag == tag}
        left -= {named.sequence for named in found}
        newest = max(named.sequence for named in found)
        if newest > max(left, default=0):
            sequences.remember(self.parts, tag, newest)

    def _refuse_held(self, point_ids: Sequence[str]) -> None:
        holds = [hold for item in point_ids for hold in holding.read_of(self.parts, item)]
        refuse_held(holds, point_ids, clock.now())

    def _damage(self) -> DamageNote:
        return damages.together(damages.read_all(self.parts, []))


def _with_states(stored: Sequence[StoredPoint], damage: DamageNote) -> tuple[RecoveryPoint, ...]:
    """Give points as they are listed, with what the notes of damage say of them."""
    listed = [
        replace(item.point, state=PointState.DAMAGED)
        if item.point.id in damage.points
        else item.point
        for item in stored
    ]
    return tuple(sorted(listed, key=lambda item: (item.machine.uuid, item.sequence)))
