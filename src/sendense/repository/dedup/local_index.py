"""The local index: where every chunk and node lies, without asking the store.

It is a cache of all index objects, in an SQLite file that may be shared by processes and deleted at
any time, or in a temporary file.  Memory is bounded, however many records there are.

A record may lie in several packs: while garbage is collected, or when it was
damaged and stored again.  *Reading* takes any, and the best first.  *Deduplication*
counts only what will stay and is whole: a record in a condemned or bad pack, or one that
a note of damage names, counts as not stored.  So does what other processes enter after we have
looked into the store (:meth:`LocalIndex.count_only`): they may have looked before something was
removed, or into a copy of the repository.  A mark for garbage collection goes to the best
place only, so that the others become garbage.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from sendense import steps
from sendense.errors import Busy
from sendense.repository.dedup import index_file
from sendense.repository.dedup.entries import Entry, Location, PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.index_rows import GROUP_BITS, PackRows, rows_of
from sendense.repository.dedup.shelf import PackSummary, Shelf

_BATCH = 100_000
"""Entries of one transaction, save for an index object that has more."""


_UNREADABLE = (struct.error, IndexError, KeyError, TypeError, ValueError)
"""What rows give that are not as they were written."""
_BAD, _CONDEMNED, _GOOD = range(3)


class _Rank(NamedTuple):
    """How good a place is: of two the greater one."""

    quality: int
    own: bool
    address: int


@dataclass(frozen=True, slots=True)
class KindTotals:
    """All packs of one kind."""

    packs: int = 0
    entries: int = 0
    stored_bytes: int = 0
    """Of the packs as they are."""
    plain_bytes: int = 0
    """Of what is in them, before it was compressed and encrypted."""


@dataclass(frozen=True, slots=True)
class Totals:
    """All packs."""

    data: KindTotals
    meta: KindTotals

    @property
    def stored_bytes(self) -> int:
        """Give the bytes of all packs as they are."""
        return self.data.stored_bytes + self.meta.stored_bytes


class LocalIndex:
    """What lies where.  Used by many threads; the file by many processes."""

    def __init__(self, path: Path | None = None, *, repository: str = "") -> None:
        """Open the file at ``path``, or a temporary one.

        ``repository`` is the id of the repository: a file of another one is made anew.
        """
        self._path = path
        self._lock = threading.RLock()
        self._condemned: frozenset[str] = frozenset()
        self._bad: frozenset[str] = frozenset()
        self._damaged: frozenset[tuple[bytes, str]] = frozenset()
        self._counted: int | None = None
        """Packs of the file from this number on do not count as stored, unless they are ours."""
        self._ours: set[int] = set()
        self._removed: int | None = None
        """While marks are set: how many packs were ever removed, as far as we saw to it."""
        self._repository = repository
        self._shared, self._inode = self._open()
        self._own = Shelf(index_file.open_private())
        self._own_packs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._own.close()
            self._shared.close()

    def _open(self) -> tuple[Shelf, int]:
        if self._path is None:
            return Shelf(index_file.open_private()), 0
        connection, inode = index_file.open_shared(self._path, self._repository)
        return Shelf(connection), inode

    # --- what it is made of ---

    def clear(self) -> None:
        """Forget all index objects; the file is made anew."""
        with self._lock:
            self._shared.close()
            if self._path is not None:
                index_file.discard(self._path, self._inode)
            self._shared, self._inode = self._open()
            self._counted = self._removed = None
            self._ours.clear()

    def names(self) -> frozenset[str]:
        """Give the index objects that are in it."""
        with self._using() as shelf:
            return shelf.names()

    def apply(self, added: Iterable[tuple[str, Sequence[PackRecord]]], gone: Iterable[str]) -> None:
        """Add index objects, and then forget those that are gone.

        A pack is known as long as one index object names it.  ``added`` may fetch what it
        gives: no lock is held meanwhile.
        """
        batch: list[tuple[str, list[PackRows]]] = []
        waiting = 0
        for name, records in added:
            batch.append((name, [rows_of(record) for record in records]))
            waiting += sum(len(record.entries) for record in records)
            if waiting >= _BATCH:
                self._add(batch)
                batch, waiting = [], 0
        self._add(batch)
        for name in gone:
            self._forget(name)

    def _add(self, batch: list[tuple[str, list[PackRows]]]) -> None:
        if not batch:
            return
        with self._using() as shelf:
            with shelf.transaction():
                new = {name: packs for name, packs in batch if not shelf.has_object(name)}
                numbers = shelf.add(pack for packs in new.values() for pack in packs)
                for name, packs in new.items():
                    shelf.hold(name, [numbers[pack.head.id] for pack in packs])
                steps.reached("dedup:cache-written")
            for _, packs in batch:
                for pack in packs:
                    self._supersede(pack.head.id)

    def _supersede(self, pack: str) -> None:
        """Drop a pack of our own that is in the file by now; its marks go there."""
        number = self._own.number(pack) if self._own_packs else None
        shared = self._shared.number(pack)
        if number is None or shared is None:
            return
        if self._removed is not None:
            first = shared << GROUP_BITS
            self._shared.mark([first + place for place, _ in self._own.marked(number)])
        self._ours.add(shared)
        with self._own.transaction():
            self._own.remove(number)
        self._own_packs -= 1

    def _forget(self, name: str) -> None:
        with self._using() as shelf:
            lost: list[bytes] = []
            with shelf.transaction():
                packs = shelf.release(name)
                for pack in packs:
                    if self._removed is not None:
                        lost += [entry.id for entry in self._live_of(shelf, pack)]
                    shelf.remove(pack)
            if self._removed is not None:
                self._removed += len(packs)
                self.mark(lost)  # where else they are

    def add_own(self, record: PackRecord) -> None:
        """Add a pack that this process has uploaded, and no index object names yet.

        Only this object sees it, until :meth:`apply` brings it for all.
        """
        rows = rows_of(record)
        with self._using():
            if self._shared.number(record.head.id) is not None:
                return
            with self._own.transaction():
                self._own.add([rows])
            self._own_packs += 1

    def forget_own(self, packs: Iterable[str] | None = None) -> None:
        """Forget packs of our own that no index object will name, or all of our own.

        What refers to them would be found by nobody else, and they are garbage.
        """
        with self._using():
            chosen = (self._own.number(pack) for pack in packs or ())
            numbers = [number for number in chosen if number is not None]
            while packs is None and (page := self._own.packs(max(numbers, default=-1))):
                numbers += [number for number, _ in page]
            with self._own.transaction():
                for number in numbers:
                    self._own.remove(number)
            self._own_packs -= len(numbers)

    # --- what counts as stored; of this object only ---

    def count_only(self, stored: frozenset[str]) -> frozenset[str]:
        """Count what these index objects name, and nothing that others enter from now on.

        ``stored`` is what the store was seen to hold.  Gives the index objects in the file that
        are not among them.  While there are any, only what counted before counts.
        """
        with self._using() as shelf:
            first = shelf.next  # before the names: what comes in between does not count
            strange = shelf.names() - stored
            if not strange:
                self._counted = first
            elif self._counted is None:
                self._counted = 0
            return strange

    def _counts(self, number: int) -> bool:
        """Tell whether a pack of the file may be newly referred to."""
        return self._counted is None or number < self._counted or number in self._ours

    def set_condemned(self, packs: frozenset[str]) -> None:
        """Say which packs are on their way out."""
        with self._lock:
            self._condemned = packs

    def set_bad_packs(self, packs: frozenset[str]) -> None:
        """Say which packs are missing or broken."""
        with self._lock:
            self._bad = packs

    def set_damaged(self, records: frozenset[tuple[bytes, str]]) -> None:
        """Say which chunks and nodes are damaged, each with the pack in which it is."""
        with self._lock:
            self._damaged = records

    def _quality(self, record: bytes, pack: str) -> int:
        if pack in self._bad or (record, pack) in self._damaged:
            return _BAD
        return _CONDEMNED if pack in self._condemned else _GOOD

    # --- looking up ---

    def stored(self, ids: Sequence[bytes]) -> set[bytes]:
        """Give those that need not be stored: they lie whole in a pack that stays."""
        with self._using() as shared:
            doubted = self._bad or self._condemned or self._damaged
            found: set[bytes] = set()
            for own, shelf in self._shelves(shared):
                if doubted:
                    found.update(
                        place.id
                        for place in shelf.places(ids)
                        if (own or self._counts(place.number))
                        and self._quality(place.id, place.pack) == _GOOD
                    )
                else:
                    found.update(
                        record for record, number in shelf.known(ids) if own or self._counts(number)
                    )
            return found

    def find(self, ids: Sequence[bytes]) -> dict[bytes, Location]:
        """Give the best place of each record that is known."""
        best: dict[bytes, tuple[_Rank, Location]] = {}
        for rank, location in self._hits(list(dict.fromkeys(ids))):
            held = best.get(location.entry.id)
            if held is None or rank > held[0]:
                best[location.entry.id] = rank, location
        return {record: location for record, (_, location) in best.items()}

    def locations(self, record: bytes) -> list[Location]:
        """Give all places of a record, the best first."""
        hits = sorted(self._hits([record]), key=lambda hit: hit[0], reverse=True)
        return [location for _, location in hits]

    def _hits(self, ids: Sequence[bytes]) -> list[tuple[_Rank, Location]]:
        with self._using() as shared:
            return [
                (self._rank(hit.location.entry.id, hit.location.pack.id, own, hit.address), hit[0])
                for own, shelf in self._shelves(shared)
                for hit in shelf.find(ids)
            ]

    def _shelves(self, shared: Shelf) -> tuple[tuple[bool, Shelf], ...]:
        return ((False, shared), (True, self._own)) if self._own_packs else ((False, shared),)

    def _rank(self, record: bytes, pack: str, own: bool, address: int) -> _Rank:
        """Rate a place.  Of good ones the last is best: garbage collection gathers there."""
        return _Rank(self._quality(record, pack), own, address)

    def similar_leaf(self, hooks: Sequence[int]) -> bytes | None:
        """Give the id of the leaf that shares most hooks, of these the newest."""
        wanted = set(hooks)
        best, leaf = 0, None
        with self._using() as shared:
            for shelf in (self._own, shared):
                for most, hit in shelf.similar(hooks):
                    if most <= best:
                        break
                    entry = hit.location.entry
                    shares = len(wanted.intersection(entry.hooks))
                    good = self._quality(entry.id, hit.location.pack.id) == _GOOD
                    if shares > best and good:
                        best, leaf = shares, entry.id
        return leaf

    # --- packs ---

    def packs(self) -> Iterator[PackSummary]:
        """Give all packs; those that come or go meanwhile may be given or not."""
        for _, _, summary in self._packs():
            yield summary

    def _packs(self) -> Iterator[tuple[Shelf, int, PackSummary]]:
        # Our own first: one that becomes everybody's meanwhile is met again, and not missed.
        for shelf in (self._own, self._shared):
            last = -1
            while True:
                with self._using():
                    page = shelf.packs(last)
                if not page:
                    break
                for number, summary in page:
                    yield shelf, number, summary
                last = page[-1][0]

    def entries_of(self, pack: str) -> list[Entry]:
        """Give the directory of a pack; nothing for one that is not known."""
        with self._using() as shelf:
            found = shelf.entries(pack)
            return found if found is not None else self._own.entries(pack) or []

    def holders(self) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Give the index objects, each with the packs that it names and their entries."""
        last = -1
        while True:
            with self._using() as shelf:
                page = shelf.holders(last)
            if not page:
                return
            for _, name, packs in page:
                yield name, packs
            last = page[-1][0]

    def totals(self) -> Totals:
        """Give the sums over all packs of each kind."""
        sums = {kind: [0, 0, 0, 0] for kind in PackKind}
        with self._using() as shelf:
            for kind, *counts in shelf.totals() + self._own.totals():
                sums[kind] = [held + more for held, more in zip(sums[kind], counts, strict=True)]
        return Totals(KindTotals(*sums[PackKind.DATA]), KindTotals(*sums[PackKind.META]))

    # --- marking, for the garbage collection ---

    def begin_marking(self) -> None:
        """Begin to mark what is live; marks are of this object only."""
        with self._using() as shelf:
            for place in (shelf, self._own):
                place.begin_marking()
            self._removed = shelf.removed

    def mark(self, ids: Iterable[bytes]) -> list[bytes]:
        """Mark records; give those that were not marked, each once, in their order.

        An id that no pack holds is marked too: :meth:`strays` gives it.  A place that others have
        entered since we looked into the store is the last choice.
        """
        wanted = list(dict.fromkeys(ids))
        with self._using() as shared:
            best: dict[bytes, _Rank] = {}
            for own, shelf in self._shelves(shared):
                for place in shelf.places(wanted):
                    rank = self._rank(place.id, place.pack, own, place.address)
                    if not own and not self._counts(place.number):
                        rank = rank._replace(quality=_BAD)
                    if place.id not in best or rank > best[place.id]:
                        best[place.id] = rank
            new = {
                own: shelf.mark([rank.address for rank in best.values() if rank.own == own])
                for own, shelf in self._shelves(shared)
            }
            return [
                record
                for record in wanted
                if (
                    best[record].address in new[best[record].own]
                    if record in best
                    else shared.mark_stray(record)
                )
            ]

    def strays(self) -> Iterator[bytes]:
        """Give the marked ids that no pack held when they were marked."""
        last = b""
        while True:
            with self._using() as shelf:
                page = shelf.strays(last)
            if not page:
                return
            yield from page
            last = page[-1]

    def live_by_pack(self) -> Iterator[tuple[str, int, int]]:
        """Give the packs that hold marked records: id, bytes and number of these.

        A record in several packs is live only in the best of them.
        """
        for shelf, number, summary in self._packs():
            with self._using():
                self._check_marks()
                lengths = [stored for _, stored in shelf.marked(number)]
            if lengths:
                yield summary.head.id, sum(lengths), len(lengths)
        with self._using():
            self._check_marks()

    def live_entries(self, pack: str) -> list[Entry]:
        """Give the marked records of a pack."""
        with self._using() as shared:
            self._check_marks()
            for shelf in (shared, self._own):
                number = shelf.number(pack)
                if number is not None:
                    return self._live_of(shelf, number)
            return []

    def end_marking(self) -> None:
        """Forget all marks."""
        with self._using() as shelf:
            for place in (shelf, self._own):
                place.end_marking()
            self._removed = None

    def _live_of(self, shelf: Shelf, number: int) -> list[Entry]:
        places = shelf.marked(number)
        entries = shelf.entries_at(number) if places else []
        return [entries[place] for place, _ in places]

    def _check_marks(self) -> None:
        """Refuse marks of records that another process took away; of others it may take packs."""
        if self._removed is None:
            raise RuntimeError("nothing is being marked")
        removed = self._shared.removed
        if removed == self._removed:
            return
        if self._shared.has_lost_marks():
            raise Busy(
                "packs left the local index while garbage was looked for",
                hint="another process brought it up to date; run it again",
            )
        self._removed = removed

    # --- inside ---

    @contextmanager
    def _using(self) -> Iterator[Shelf]:
        """Have the connections for oneself; a file that proves broken is removed."""
        with self._lock:
            try:
                yield self._shared
            except sqlite3.ProgrammingError:
                raise
            except (sqlite3.Error, *_UNREADABLE) as error:
                if self._path is not None and index_file.is_broken(error):
                    index_file.discard(self._path, self._inode)
                raise index_file.failure(error, self._path) from error
