"""Making one point: packs, then index objects, then the point object.

The lease is held from before the index was read until after the point is there
(``docs/format.md``, "Order of writing").
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

from blake3 import blake3

from sendense import steps
from sendense.errors import Busy, Damaged, Rejected, SendenseError, Unavailable
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.machine import Disk, Machine, SourceKind
from sendense.model.point import (
    Attachment,
    DiskImage,
    RecoveryPoint,
    latest_image,
)
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import points, sequences
from sendense.repository.dedup.checking.point_structure import lacking
from sendense.repository.dedup.disk_writing import DedupDiskWriter, Works
from sendense.repository.dedup.leaf_making import LeafMaker
from sendense.repository.dedup.lease import Lease
from sendense.repository.dedup.pack_writing import PackWriter
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.points import StoredPoint, Tail
from sendense.repository.dedup.record_reading import Records
from sendense.repository.dedup.trees import Tree
from sendense.repository.foundation import base_of
from sendense.repository.names import check_name
from sendense.repository.protocol import DiskSpec, DiskWriter, PointDraft
from sendense.units import KIB

log = logging.getLogger(__name__)

_INLINE = 16 * KIB
"""Attachments up to this size lie in the point object itself."""
_THREADS = 8
_TOLD = 5
"""Missing things that an error names."""


def writing_threads() -> int:
    """Tell how many leaves to make at once."""
    return min(_THREADS, max(2, os.cpu_count() or 1))


@dataclass(frozen=True)
class Earlier:
    """What a machine has already."""

    stored: Sequence[StoredPoint]
    listed: tuple[RecoveryPoint, ...]
    """The same points, with their states."""
    newest: int
    """The highest sequence ever given out."""


class DedupPointWriter:
    """One point under way; the repository's PointWriter."""

    def __init__(
        self,
        parts: Parts,
        point_id: str,
        machine: Machine,
        lease: Lease,
        earlier: Earlier,
    ) -> None:
        """Begin a point of ``machine``, of which ``lease`` is held."""
        self._parts = parts
        self._id = point_id
        self._machine = machine
        self._lease = lease
        self._stored = {item.point.id: item for item in earlier.stored}
        self._earlier = earlier.listed
        self._sequence = earlier.newest + 1
        self._records = Records(parts)
        self._packs = PackWriter(parts, lease.check)
        maker = LeafMaker(parts, self._packs, self._records)
        self._works = Works(maker, self._records, threads=writing_threads(), check=self._packs.look)
        self._disks: list[DedupDiskWriter] = []
        self._attachments: dict[str, bytes] = {}
        self._committed = False
        steps.reached("dedup:begun")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not self._committed:
                self.give_up()
            self._works.close()
            self._packs.close()
        finally:
            self._lease.release()

    def disk(self, spec: DiskSpec) -> DiskWriter:
        """Begin one disk, over the last image of it if the decision says so."""
        check_name(spec.disk.target, "a disk")
        self._disks = [item for item in self._disks if not item.discarded]
        for other in self._disks:
            if spec.disk.target == other.spec.disk.target or (
                spec.disk.identity == other.spec.disk.identity
            ):
                raise Rejected(f"disk {spec.disk.target} is already in this point")
        base_of(spec, self._earlier)
        writer = DedupDiskWriter(spec, self._works, self._reference(spec))
        self._disks.append(writer)
        self._works.serve(sum(1 for item in self._disks if item.image is None))
        return writer

    def attach(self, name: str, content: bytes) -> None:
        """Add a small file."""
        check_name(name, "an attachment")
        if name in self._attachments:
            raise Rejected(f"{name} is already in this point")
        self._attachments[name] = bytes(content)

    def give_up(self) -> None:
        """Have all that waits end soon, from any thread: there will be no point."""
        self._packs.give_up()

    def commit(self, draft: PointDraft) -> RecoveryPoint:
        """Make the point visible."""
        if self._committed:
            raise Rejected("this point is committed already")
        if draft.machine.uuid != self._machine.uuid:
            raise Rejected("the point is of another machine than it was begun for")
        images = self._finished_images()
        small = {name: data for name, data in self._attachments.items() if len(data) <= _INLINE}
        tails = {
            name: self._store_tail(name, data)
            for name, data in self._attachments.items()
            if name not in small
        }
        self._packs.finish()
        steps.reached("dedup:packs-durable")
        roots = {item.spec.disk.identity: item.root for item in self._disks if not item.discarded}
        stored = StoredPoint(self._describe(draft, images), roots, small, tails)
        self._lease.check()
        self._put(stored)
        steps.reached("dedup:point-stored")
        self._committed = True
        self._confirm(stored)
        return stored.point

    def _put(self, stored: StoredPoint) -> None:
        """Write the point object; what is there is written, whatever the store answered."""
        try:
            points.put(self._parts, stored)
        except Unavailable as error:
            if not self._was_put(stored):
                raise
            log.warning("point %s is stored, although the store said: %s", self._id, error)

    def _was_put(self, stored: StoredPoint) -> bool:
        name = points.name_of(self._parts, stored.point)
        try:
            return points.read(self._parts, name) == stored
        except SendenseError as error:
            log.warning("whether %s was stored after all is not known: %s", name, error)
            return False

    def _confirm(self, stored: StoredPoint) -> None:
        """Make sure that no garbage collection took us for dead while the point was put.

        The point is there.  That this cannot be made sure of is no failure of the backup.
        """
        try:
            if self._lease.still_there():
                return
            lost = lacking(self._parts, stored)
        except SendenseError as error:
            log.warning(
                "point %s is stored; whether all of its data still is cannot be looked up: %s; "
                "'sendense verify --level structure' tells",
                self._id,
                error,
            )
            return
        if lost:
            self._withdraw(stored, lost)

    def _withdraw(self, stored: StoredPoint, lost: Sequence[str]) -> NoReturn:
        told = "the lease of this backup ended while it was committed, and its data was collected"
        parts, point = self._parts, stored.point
        try:
            tag = parts.ring.machine_tag(point.machine.uuid)
            sequences.remember(parts, tag, point.sequence)
            name = points.name_of(parts, point)
            parts.store.delete([name])
            parts.seen.forget([name])
        except SendenseError as error:
            told += f"; point {point.id} is damaged, and could not be withdrawn: {error}"
        raise Busy(
            told,
            hint="run the backup again; check the clock and the load of this machine",
            lost="; ".join(lost[:_TOLD]),
        )

    def _finished_images(self) -> tuple[DiskImage, ...]:
        images = []
        for writer in self._disks:
            if writer.discarded:
                continue
            if writer.image is None:
                raise Rejected(f"disk {writer.spec.disk.target} is not finished")
            images.append(writer.image)
        order = {disk.target: number for number, disk in enumerate(self._machine.disks)}
        images.sort(key=lambda image: order.get(image.disk.target, len(order)))
        return tuple(images)

    def _describe(self, draft: PointDraft, images: tuple[DiskImage, ...]) -> RecoveryPoint:
        return RecoveryPoint(
            id=self._id,
            sequence=self._sequence,
            machine=draft.machine,
            taken_at=draft.taken_at,
            mode=draft.mode,
            consistency=draft.consistency,
            checkpoint=draft.checkpoint,
            frozen_s=draft.frozen_s,
            seconds=draft.seconds,
            disks=images,
            attachments=tuple(
                Attachment(name, len(data), blake3(data).hexdigest())
                for name, data in self._attachments.items()
            ),
            warnings=draft.warnings,
            host=draft.host,
            versions=draft.versions,
        )

    def _store_tail(self, name: str, data: bytes) -> Tail:
        """Store a long attachment as a disk is stored; equal ones share everything."""
        writer = DedupDiskWriter(_tail_spec(name, len(data)), self._works, None)
        writer.write(0, data)
        writer.finish(read_bytes=0, sampled_blocks=0, seconds=0)
        return Tail(writer.root, len(data))

    def _reference(self, spec: DiskSpec) -> Tree | None:
        """Give the tree of the latest image, which the new one refers to."""
        latest = latest_image(self._earlier, spec.disk.identity)
        if latest is None:
            return None
        root = self._stored[latest[0].id].roots[spec.disk.identity]
        if root is None or not self._readable(root):
            return None if spec.decision.base is None else Tree(self._records, root, latest[1].size)
        return Tree(self._records, root, latest[1].size)

    def _readable(self, root: bytes) -> bool:
        try:
            self._records.node(root)
        except Damaged:
            return False
        return True


def _tail_spec(name: str, size: int) -> DiskSpec:
    disk = Disk(target=name, path=name, format="raw", kind=SourceKind.FILE, serial=name)
    decision = DiskDecision(
        name, Mode.FULL, Method.EVERYTHING, Reason.REQUESTED, base=None, bitmap=None
    )
    return DiskSpec(disk, size, (name,), decision, fmt.BLOCK)
