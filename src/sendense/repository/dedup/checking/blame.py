"""What is wrong in packs, so that a walk over the trees can say which points it touches.

A *cause* becomes a finding in the end.  Most causes are about a pack, or about some records of
one; the walk asks of each record that a tree names whether a cause stands between it
and whoever reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sendense.repository.dedup.checking.findings import CheckFinding, Weight, What
from sendense.repository.dedup.entries import Entry, Location
from sendense.repository.dedup.local_index import LocalIndex

_EXAMPLES = 5
_MOST_NAMED = 1000
"""Records that are in no pack: of more than these only the number is kept."""


@dataclass(eq=False)
class Cause:
    """Something that is wrong."""

    what: What
    object: str
    message: str
    readable: bool = False
    """What it is about can be read all the same."""
    records: set[bytes] = field(default_factory=set)
    """What of the pack is bad; of records that are in no pack, some."""
    more: int = 0
    """How many records it is about beside those in ``records``."""
    points: set[str] = field(default_factory=set)

    def finding(self, *, noted: bool) -> CheckFinding:
        """Give the finding; ``noted`` says that a note of damage has it already."""
        if self.points:
            weight = Weight.RISK if self.readable else Weight.DAMAGE
        else:
            weight = Weight.INFORMATION if noted else Weight.RISK
        return CheckFinding(
            self.what, self.object, self._told(), weight, tuple(sorted(self.points))
        )

    def _told(self) -> str:
        text = self.message
        if self.records:
            some = ", ".join(record.hex()[:16] for record in sorted(self.records)[:_EXAMPLES])
            count = len(self.records) + self.more
            text += f" ({count} record{'s' * (count > 1)}: {some}{', ...' * (count > _EXAMPLES)})"
        return text if self.points else f"{text}; no point needs it"


@dataclass(frozen=True)
class Judged:
    """A record that a tree names."""

    entry: Entry | None
    """Where it is read from; none: nowhere."""
    cause: Cause | None
    """Why it is not to be had, or not safely."""
    pack: str | None = None


class Blame:
    """All causes about packs and records; used by many threads."""

    def __init__(self, index: LocalIndex) -> None:
        """Judge what lies where ``index`` says."""
        self._index = index
        self._lock = threading.Lock()
        self._packs: dict[str, Cause] = {}
        self._records: dict[tuple[bytes, str], Cause] = {}
        self._bad: dict[str, Cause] = {}
        """By pack: the cause of its bad records."""
        self.missing = Cause(What.RECORD_MISSING, "", "records are in no pack")

    @property
    def packs(self) -> dict[str, Cause]:
        """Give the packs that are bad as a whole."""
        with self._lock:
            return dict(self._packs)

    @property
    def bad_packs(self) -> dict[str, Cause]:
        """Give the packs of which some records are bad."""
        with self._lock:
            return dict(self._bad)

    @property
    def records(self) -> frozenset[tuple[bytes, str]]:
        """Give the bad records, each with its pack."""
        with self._lock:
            return frozenset(self._records)

    def causes(self) -> list[Cause]:
        """Give all causes that have something to say."""
        with self._lock:
            held = [*self._packs.values(), *self._bad.values()]
        return [*held, self.missing] if self.missing.records else held

    # --- entering ---

    def pack(self, pack: str, cause: Cause) -> Cause:
        """Enter that a pack is bad as a whole; gives the cause under which that is told."""
        with self._lock:
            held = self._packs.setdefault(pack, cause)
            if held is not cause and cause.message not in held.message:
                held.message += f"; {cause.message}"
                held.readable = held.readable and cause.readable
            return held

    def bad(
        self,
        pack: str,
        name: str,
        records: Iterable[bytes],
        why: str,
        *,
        what: What = What.PACK_RECORDS,
    ) -> Cause:
        """Enter that records of a pack are bad; the first reason is the one that is told."""
        with self._lock:
            cause = self._bad.get(pack)
            if cause is None:
                told = why if pack in why else f"{name}: {why}"
                cause = self._bad[pack] = Cause(what, name, told)
            for record in records:
                cause.records.add(record)
                self._records[record, pack] = cause
            return cause

    def lost(self, record: bytes) -> Cause:
        """Enter that a record is in no pack."""
        with self._lock:
            if len(self.missing.records) < _MOST_NAMED:
                self.missing.records.add(record)
            elif record not in self.missing.records:
                self.missing.more += 1
        return self.missing

    def forget_walk(self) -> None:
        """Forget what a walk has found, so that another one can begin."""
        self.missing = Cause(self.missing.what, self.missing.object, self.missing.message)
        for cause in self.causes():
            cause.points.clear()

    def settle(self) -> None:
        """Have the index prefer what is good; before the walk."""
        self._index.set_bad_packs(frozenset(self.packs))
        self._index.set_damaged(self.records)

    # --- asking ---

    def judge(self, ids: Sequence[bytes]) -> dict[bytes, Judged]:
        """Say of each record where it is read from, and what is wrong with that."""
        found = self._index.find(ids)
        judged = {}
        for record in ids:
            location = found.get(record)
            if location is None:
                judged[record] = Judged(None, self.lost(record))
                continue
            cause = self.of(location)
            if cause is not None:
                location, cause = self._lightest(record, location, cause)
            judged[record] = Judged(location.entry, cause, location.pack.id)
        return judged

    def of(self, location: Location) -> Cause | None:
        """Give what is wrong with a record at a place."""
        with self._lock:
            if not self._packs and not self._records:
                return None
            cause = self._records.get((location.entry.id, location.pack.id))
            return cause or self._packs.get(location.pack.id)

    def whole(self, pack: str) -> Cause | None:
        """Give what is wrong with a pack as a whole."""
        with self._lock:
            return self._packs.get(pack)

    def _lightest(
        self, record: bytes, location: Location, cause: Cause
    ) -> tuple[Location, Cause | None]:
        """Of the bad places of a record, give one that can be read."""
        best, why = location, cause
        for other in self._index.locations(record):
            found = self.of(other)
            if found is None:
                return other, None
            if found.readable and not why.readable:
                best, why = other, found
        return best, why
