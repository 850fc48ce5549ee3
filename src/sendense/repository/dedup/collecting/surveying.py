"""Looking at a repository, in the order that makes what was seen safe to act upon.

1. The packs are listed.  What is uploaded later is not looked at: it is somebody's at work.
2. The leases.  Whoever takes one later sees all condemnations that are there now.
3. The points, until no new ones come, and with them the index (:mod:`.marking`).  A lease that
   was not seen any more has ended before, so its point is among them, or will never be.

So a pack in which nothing is marked, and whose condemnation all these leases have seen,
is referred to by no point, and by nobody who is at work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sendense import steps
from sendense.errors import Busy, Damaged, NotAllowed, NotFound, SendenseError, Unsupported
from sendense.model.progress import ProgressListener
from sendense.repository.dedup import condemning, damages, indexing
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting.facts import (
    CollectFacts,
    CondemnationFacts,
    LeaseFacts,
    PackFacts,
)
from sendense.repository.dedup.collecting.marking import Marker
from sendense.repository.dedup.condemning import Condemnation
from sendense.repository.dedup.entries import PackHead
from sendense.repository.dedup.lease import Lease
from sendense.repository.dedup.lease_claim import LeaseKind, LeaseRecord
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.shelf import PackSummary
from sendense.repository.dedup.unnamed_packs import pack_id, read_pack
from sendense.storage.store import ObjectInfo

log = logging.getLogger(__name__)

_NO_CONCERN = (LeaseKind.DELETE, LeaseKind.GC, LeaseKind.KEYS)
"""Who refers to no pack."""


@dataclass(frozen=True)
class _Doubts:
    """What is noted as bad."""

    records: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    """By pack."""
    packs: frozenset[str] = frozenset()


class Surveyor:
    """Finds the facts; may be asked again for those that changed."""

    def __init__(
        self,
        parts: Parts,
        lease: Lease,
        *,
        ignore: frozenset[str],
        progress: ProgressListener,
    ) -> None:
        """Look at the repository of ``parts`` while ``lease`` is held."""
        self._parts = parts
        self._lease = lease
        self._listed: dict[str, tuple[int, datetime]] = {}
        self._missing: frozenset[str] = frozenset()
        self._doubts = _Doubts()
        self.condemned: tuple[Condemnation, ...] = ()
        self.broken: set[str] = set()
        """Condemnations that cannot be read, by the names of their objects."""
        self.began: datetime
        """By the store's clock: when the first look began."""
        self.now: datetime
        """And when the last did."""
        self.marker = Marker(
            parts, ignore=ignore, refresh=self._refresh, check=lease.check, progress=progress
        )

    # --- the first look, at all packs ---

    def look(self) -> CollectFacts:
        """Find what a plan is made from.  The packs are given one by one."""
        self.began = self.now = self._parts.leases.store_now()
        self._list_packs()
        leases = self._leases()
        self._parts.index.forget_own()
        self._parts.index.begin_marking()
        self.marker.settle()
        live = {pack: (size, count) for pack, size, count in self._parts.index.live_by_pack()}
        return CollectFacts(
            packs=self._packs(live),
            condemned=self._condemned(),
            leases=leases,
            free_bytes=self._parts.store.free_bytes(),
        )

    # --- the second look, at those that were condemned since ---

    def look_again(self, live_before: Mapping[str, int]) -> CollectFacts:
        """Find what has changed for condemned packs, to remove them in the same run.

        ``live_before`` says how many records of rewritten packs were live, and are elsewhere
        by now.  Others in them were referred to since.
        """
        self.now = self._parts.leases.store_now()
        leases = self._leases()
        self.marker.settle()
        condemned = self._condemned()
        packs = frozenset(pack for item in condemned for pack in item.packs)
        return CollectFacts(
            packs=[self._condemned_pack(pack, live_before.get(pack, 0)) for pack in sorted(packs)],
            condemned=condemned,
            leases=leases,
            free_bytes=None,
        )

    def _condemned_pack(self, pack: str, live_before: int) -> PackFacts:
        live = self._parts.index.live_entries(pack)
        if not live and not self._parts.index.entries_of(pack):
            return self._unindexed(pack)
        size, age = self._listed_as(pack)
        return PackFacts(
            id=pack,
            kind=None,
            size=size,
            age=age,
            live=sum(entry.stored for entry in live),
            live_records=max(0, len(live) - live_before),
        )

    def take_note_of(self, packs: Iterable[str]) -> None:
        """Take packs that were uploaded since the first look for listed."""
        self._listed.update((pack, (0, self.now)) for pack in packs)

    def since(self, pack: str) -> datetime:
        """Tell since when a pack is there."""
        return self._listed[pack][1] if pack in self._listed else self.began

    # --- parts of it ---

    def _list_packs(self) -> None:
        for item in self._parts.store.list(fmt.PACKS):
            pack = pack_id(item.name)
            if pack is not None:
                self._listed[pack] = item.size, item.modified
            else:
                log.warning("%s is in the place of a pack, and is none", item.name)

    def _leases(self) -> list[LeaseFacts]:
        others = [item for item in self._parts.leases.active() if item.id != self._lease.id]
        steps.reached("gc:leases-seen")
        return [
            LeaseFacts(item.described(), item.seen, _may_write(item))
            for item in others
            if item.claim is None or item.claim.wish.kind not in _NO_CONCERN
        ]

    def _refresh(self) -> frozenset[bytes]:
        """Bring the index up to date; gives the records that are known to be damaged.

        A record is live in a pack that is missing only where no other pack has it.
        """
        doubts: list[SendenseError] = []
        seen = indexing.refresh(self._parts, doubts).condemnations
        for doubt in doubts:
            self._pass_over(doubt)
        if not self._lease.claim.seen >= seen:
            self._lease.note_seen(seen)
        self._missing = frozenset(
            item.head.id for item in self._parts.index.packs() if self._is_missing(item.head)
        )
        self._doubts = self._read_doubts()
        self._parts.index.set_bad_packs(self._doubts.packs | self._missing)
        return frozenset(record for ids in self._doubts.records.values() for record in ids)

    def _pass_over(self, doubt: SendenseError) -> None:
        """Go on without a condemnation that is damaged: all its packs are judged anew."""
        name = str(doubt.data.get("file", ""))
        if not isinstance(doubt, Damaged) or not name.startswith(fmt.CONDEMNED):
            raise doubt
        log.warning("a condemnation is given up: %s", doubt)
        self.broken.add(name)

    def _is_missing(self, head: PackHead) -> bool:
        if head.id in self._listed:
            return False
        try:
            self._parts.store.info(head.name)
        except NotFound:
            return True
        return False  # it came since they were listed

    def _read_doubts(self) -> _Doubts:
        records: dict[str, set[bytes]] = {}
        packs: set[str] = set()
        for note in damages.read_all(self._parts):
            packs |= note.packs
            for record, pack in note.records:
                records.setdefault(pack, set()).add(record)
        return _Doubts({pack: frozenset(ids) for pack, ids in records.items()}, frozenset(packs))

    def _condemned(self) -> list[CondemnationFacts]:
        self.condemned = condemning.read_all(self._parts, [])
        return [
            CondemnationFacts(item.id, item.packs, self._age(item.since)) for item in self.condemned
        ]

    def _age(self, since: datetime) -> timedelta:
        return max(self.now - since, timedelta(0))

    def _listed_as(self, pack: str) -> tuple[int, timedelta | None]:
        if pack not in self._listed:
            return 0, None
        size, modified = self._listed[pack]
        return size, self._age(modified)

    def _packs(self, live: Mapping[str, tuple[int, int]]) -> Iterator[PackFacts]:
        """Give the facts of all packs that are listed, indexed or condemned."""
        unnamed = set(self._listed).union(*(item.packs for item in self.condemned))
        for summary in self._parts.index.packs():
            pack = summary.head.id
            unnamed.discard(pack)
            if pack in self._listed or pack in self._missing:
                yield self._indexed(summary, *live.get(pack, (0, 0)))
        for pack in sorted(unnamed):
            if pack in live:
                raise Busy(
                    f"pack {pack} left the local index while garbage was looked for",
                    hint="another process brought it up to date; run it again",
                )
            yield self._unindexed(pack)

    def _unindexed(self, pack: str) -> PackFacts:
        """Give the facts of a pack that no index object names.

        Where points refer to records that are in no pack of the index (only what is noted as
        damaged, or was given up), its own directory says whether they are in this one.
        """
        size, age = self._listed_as(pack)
        strays = frozenset(self._parts.index.strays())
        needed = unreadable = 0
        if strays and age is not None:
            info = ObjectInfo(f"{fmt.PACKS}{pack[:2]}/{pack}", size, self._listed[pack][1])
            try:
                record = read_pack(self._parts, info)
                needed = sum(entry.id in strays for entry in record.entries)
            except NotFound:
                age = None
            except (Damaged, NotAllowed, Unsupported) as error:
                log.warning("%s", error)
                unreadable = 1
        return PackFacts(pack, None, size, age, live_records=needed, lost_records=unreadable)

    def _indexed(self, summary: PackSummary, live: int, live_records: int) -> PackFacts:
        pack = summary.head.id
        size, age = self._listed_as(pack)
        lost = live_records if pack in self._doubts.packs else 0
        if not lost and live_records and pack in self._doubts.records:
            doubted = self._doubts.records[pack]
            lost = sum(item.id in doubted for item in self._parts.index.live_entries(pack))
        return PackFacts(
            id=pack,
            kind=summary.head.kind,
            size=size,
            age=age,
            records=summary.stored,
            live=live,
            live_records=live_records,
            lost_records=lost,
        )


def _may_write(item: LeaseRecord) -> bool:
    return item.claim is None or item.claim.wish.kind is LeaseKind.WRITE
