"""Carrying out a repair, in an order that may be broken off anywhere.

First the damage is noted.  Then whole records are copied and packs named, which only adds.
Then index objects get their successors, and only when these are durable the older ones go.  A
repair that died has left copies that are garbage, or two index objects that say the same; the
next one goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sendense import clock, steps
from sendense.errors import NotAllowed
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.dedup import damages, indexing
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking import conclusions, notes
from sendense.repository.dedup.checking.pack_proof import PackTask, Room, prove
from sendense.repository.dedup.checking.repair_plan import PackCopy, Prepared, RepairPlan
from sendense.repository.dedup.entries import Entry, PackRecord
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.lease import Lease
from sendense.repository.dedup.pack_writing import PackWriter
from sendense.repository.dedup.packs import PackCipher
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal_json

log = logging.getLogger(__name__)

_ENTRIES = 200_000
"""Of one index object that is written: about 10 MB."""


@dataclass(frozen=True)
class RepairResult:
    """What a repair did."""

    plan: RepairPlan
    copied_records: int
    copied_bytes: int
    kept: tuple[str, ...]
    """Objects that should have been removed, and that the store keeps: they are locked."""
    seconds: float


class Repairing:
    """A repair under way."""

    def __init__(self, prepared: Prepared, lease: Lease, progress: ProgressListener) -> None:
        """Carry out a plan while ``lease`` is held."""
        self._prepared = prepared
        self._plan = prepared.plan
        self._parts = prepared.found.parts
        self._lease = lease
        self._progress = progress
        self._kept: list[str] = []

    def run(self) -> RepairResult:
        """Do all of it."""
        began = clock.monotonic()
        self._lease.check()
        notes.carry_out(self._parts, self._plan.notes)
        steps.reached("repair:noted")
        records, size = self._copy()
        steps.reached("repair:copied")
        self._name()
        steps.reached("repair:named")
        self._replace()
        self._remake()
        self._remove(self._plan.removed)
        self._note_again()
        steps.reached("repair:done")
        seconds = clock.monotonic() - began
        return RepairResult(self._plan, records, size, tuple(self._kept), seconds)

    def _note_again(self) -> None:
        """Say of records that are in no pack of the index now that they are in none."""
        found, read = self._prepared.found, self._prepared.read
        proven = conclusions.proven(found, read, dropped=self._plan.dropped)
        held = damages.read_all(self._parts, [])
        notes.carry_out(self._parts, notes.settle(held, proven))

    # --- copying ---

    def _copy(self) -> tuple[int, int]:
        """Copy whole records to new packs, which are in the index when this returns."""
        if not self._plan.copies:
            return 0, 0
        writer = PackWriter(self._parts, self._lease.check)
        copying = _Copying(self._parts, writer)
        try:
            total = sum(copy.bytes for copy in self._plan.copies)
            began = clock.monotonic()
            for copy in self._plan.copies:
                self._lease.check()
                copying.pack(copy)
                elapsed = clock.monotonic() - began
                self._progress(Progress("repair", "records", copying.bytes, total, elapsed))
            writer.finish()
        finally:
            writer.close()
        return copying.records, copying.bytes

    # --- the index ---

    def _name(self) -> None:
        """Name packs that points need, by their own directories."""
        index = self._parts.index
        sizes = {item.head.id: item.size for item in index.packs()} if self._plan.named else {}
        records = (
            PackRecord(head, sizes[head.id], tuple(index.entries_of(head.id)))
            for head in self._plan.named
        )
        for part in _parts_of(records):
            self._lease.check()
            indexing.put_index(self._parts, part)

    def _replace(self) -> None:
        """Write successors of index objects, and then remove these."""
        rest = self._rest()
        for part in _parts_of(rest):
            self._lease.check()
            indexing.put_index(self._parts, part)
        steps.reached("repair:successors-durable")
        self._lease.check()
        self._remove(self._plan.replaced)

    def _rest(self) -> Iterator[PackRecord]:
        """Give what the index objects say of packs that stay."""
        for name in self._plan.replaced:
            for record in indexing.read_index(self._parts, name):
                if record.head.id not in self._plan.dropped:
                    yield record

    # --- small objects ---

    def _remake(self) -> None:
        for name in self._plan.remade:
            data = seal_json(self._parts.ring, name, SealedKind.SEQUENCE, {})
            self._parts.store.put(name, data)

    def _remove(self, names: Sequence[str]) -> None:
        """Remove objects; one that the store keeps locked does no harm but that it is there."""
        for name in names:
            try:
                self._parts.store.delete([name])
            except NotAllowed as error:
                log.warning("%s is not removed: %s", name, error)
                self._kept.append(name)
            steps.reached("repair:removed")


class _Copying:
    """Records on their way from damaged packs to new ones."""

    def __init__(self, parts: Parts, writer: PackWriter) -> None:
        self._parts = parts
        self._writer = writer
        self._room = Room()
        self._frame = bytearray(fmt.WINDOW_BYTES)
        self._copied: set[bytes] = set()
        self.records = 0
        self.bytes = 0

    def pack(self, copy: PackCopy) -> None:
        """Copy out of one pack; each record is proven once more on the way."""
        if not copy.records:
            return
        cipher = PackCipher(self._parts.ring, copy.task.head)
        wanted = [entry for entry in copy.task.entries if entry.id in copy.records]
        task = PackTask(copy.task.head, copy.task.size, wanted)

        def take(entry: Entry, stored: memoryview) -> None:
            if entry.id in self._copied:
                return
            self._copied.add(entry.id)
            frame = memoryview(self._frame)[: entry.stored - fmt.TAG_BYTES]
            cipher.decrypt_into(entry, stored, frame)
            self.records += 1
            self.bytes += self._writer.add(
                copy.task.head.kind,
                entry.id,
                frame,
                length=entry.length,
                compressed=entry.compressed,
                hooks=entry.hooks,
            )

        prove(self._parts, task, self._room, take=take)


def _parts_of(records: Iterator[PackRecord]) -> Iterator[list[PackRecord]]:
    """Give packs in parts that make index objects of a good size."""
    part: list[PackRecord] = []
    count = 0
    for record in records:
        part.append(record)
        count += len(record.entries)
        if count >= _ENTRIES:
            yield part
            part, count = [], 0
    if part:
        yield part
