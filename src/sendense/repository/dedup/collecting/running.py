"""A collection of garbage from its beginning to its end.

1. Look (:mod:`.surveying`), and plan (:mod:`.plan`).
2. Remove what earlier runs condemned, and rescue what is referred to again: that gives room.
3. Copy live records out of worn packs; when the copies are durable and indexed, condemn
   those packs, and with them those that nothing refers to.
4. With a grace time of zero: look again, and remove these too.
5. Tidy.

The lease of a collection is held throughout.  It may be broken off anywhere: what it has
condemned, the next run removes; what it has copied and not condemned lies twice, and the next
run finds one of the two without a use.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sendense import clock, steps
from sendense.model.progress import ProgressListener, silent
from sendense.repository.dedup import condemning, damages
from sendense.repository.dedup.collecting import tidying
from sendense.repository.dedup.collecting.copying import Copied, Copier, Worn
from sendense.repository.dedup.collecting.plan import (
    Action,
    CollectOptions,
    CollectPlan,
    Verdict,
    keep_locked,
    make_plan,
)
from sendense.repository.dedup.collecting.removing import Remover, name_of_pack
from sendense.repository.dedup.collecting.surveying import Surveyor
from sendense.repository.dedup.lease import Lease
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.repository import DedupRepository

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectResult:
    """What a collection did."""

    plan: CollectPlan
    """From before anything was done."""
    points: int
    """How many were looked at."""
    removed_packs: int
    freed_bytes: int
    rescued_packs: int
    copied_bytes: int
    new_packs: int
    waiting_packs: int
    """Packs that are condemned and not gone yet."""
    waiting_bytes: int
    next_in: timedelta | None
    """When the first of these may go, from now; none: nothing waits."""
    blockers: tuple[str, ...]
    """Who keeps packs that have waited long enough."""
    unreadable: Mapping[str, str]
    """Packs that could not be copied, with the reason."""
    index_objects: int
    """How many were replaced."""
    leftovers: int
    seconds: float


def plan_collection(
    repository: DedupRepository,
    options: CollectOptions | None = None,
    progress: ProgressListener = silent,
) -> CollectPlan:
    """Say what a collection would do; nothing is changed."""
    options = options or CollectOptions()
    parts = repository.parts
    with parts.leases.acquire(Wish(LeaseKind.READ, "a look for garbage")) as lease:
        try:
            surveyor = Surveyor(parts, lease, ignore=options.ignore, progress=progress)
            return _planned(parts, surveyor, options)
        finally:
            parts.index.end_marking()


def collect(
    repository: DedupRepository,
    options: CollectOptions | None = None,
    progress: ProgressListener = silent,
) -> CollectResult:
    """Collect garbage; :class:`~sendense.errors.Busy` where somebody else does."""
    options = options or CollectOptions()
    parts = repository.parts
    with parts.leases.acquire(Wish(LeaseKind.GC, "a collection of garbage")) as lease:
        try:
            return _Run(parts, lease, options, progress).result()
        finally:
            parts.index.end_marking()


def _planned(parts: Parts, surveyor: Surveyor, options: CollectOptions) -> CollectPlan:
    plan = make_plan(surveyor.look(), options)
    locks = parts.store.locks
    if locks is None:
        return plan
    dates = {item.pack: locks.until(name_of_pack(item.pack)) for item in plan.of(Action.REWRITE)}
    return keep_locked(
        plan,
        {
            pack: until
            for pack, until in dates.items()
            if until is not None and until > surveyor.now
        },
    )


class _Run:
    """One collection, step by step."""

    def __init__(
        self, parts: Parts, lease: Lease, options: CollectOptions, progress: ProgressListener
    ) -> None:
        self._parts = parts
        self._lease = lease
        self._options = options
        self._progress = progress
        self._surveyor = Surveyor(parts, lease, ignore=options.ignore, progress=progress)
        self._remover = Remover(parts, lease.check)
        self._copied = Copied()
        self._removed: list[Verdict] = []
        self._rescued: list[Verdict] = []
        self._index_objects = 0

    def result(self) -> CollectResult:
        """Do all of it."""
        started = clock.monotonic()
        plan = _planned(self._parts, self._surveyor, self._options)
        self._remove(plan)
        condemned = self._condemn(plan)
        waiting, blockers = [*plan.waiting, *condemned], plan.blockers
        if condemned and not self._options.grace:
            again = make_plan(self._surveyor.look_again(self._copied.packs), self._options)
            self._remove(again)
            waiting, blockers = [*again.waiting], again.blockers
        leftovers = self._tidy()
        return CollectResult(
            plan=plan,
            points=self._surveyor.marker.points,
            removed_packs=len(self._removed),
            freed_bytes=sum(item.size for item in self._removed),
            rescued_packs=len(self._rescued),
            copied_bytes=self._copied.copied_bytes,
            new_packs=len(self._copied.new_packs),
            waiting_packs=len(waiting),
            waiting_bytes=sum(item.size for item in waiting),
            next_in=min((item.wait for item in waiting if item.wait is not None), default=None),
            blockers=blockers,
            unreadable=self._copied.unreadable,
            index_objects=self._index_objects,
            leftovers=leftovers,
            seconds=clock.monotonic() - started,
        )

    # --- packs that were condemned before ---

    def _remove(self, plan: CollectPlan) -> None:
        removed, rescued = plan.of(Action.REMOVE), plan.of(Action.RESCUE)
        for item in (*removed, *rescued):
            log.debug("pack %s: %s, %s", item.pack, item.action.value, item.reason)
        done = self._remover.remove(
            frozenset(item.pack for item in removed),
            frozenset(item.pack for item in rescued),
            self._surveyor.condemned,
        )
        self._removed += [item for item in removed if item.pack in done.packs]
        self._rescued += rescued
        self._index_objects += done.index_objects

    # --- packs that are condemned now ---

    def _condemn(self, plan: CollectPlan) -> list[Verdict]:
        """Copy what is live out of worn packs, and condemn them with the useless ones."""
        worn = self._copy(plan.of(Action.REWRITE))
        useless = plan.of(Action.CONDEMN)
        for chosen in (worn, useless):
            if chosen:
                self._lease.check()
                condemning.condemn(self._parts, [item.pack for item in chosen])
                steps.reached("gc:condemned")
        for item in (*worn, *useless):
            log.debug("pack %s is condemned: %s", item.pack, item.reason)
        return [*worn, *useless]

    def _copy(self, chosen: Sequence[Verdict]) -> list[Verdict]:
        """Give the packs of which all is copied."""
        if not chosen:
            return []
        wanted = {item.pack: item.live for item in chosen}
        packs = [
            Worn(summary.head, wanted[summary.head.id])
            for summary in self._parts.index.packs()
            if summary.head.id in wanted
        ]
        # The oldest first: what was written together stays together.
        packs.sort(key=lambda pack: (pack.head.kind, self._surveyor.since(pack.id)))
        copier = Copier(self._parts, self._lease.check, self._progress)
        self._copied = copier.copy(packs)
        self._surveyor.take_note_of(pack.id for pack in self._copied.new_packs)
        if self._copied.bad:
            bad = frozenset(self._copied.bad)
            damages.remember(self._parts, points=frozenset(), records=bad, packs=frozenset())
        done = self._copied.packs.keys() - self._copied.unreadable.keys()
        return [item for item in chosen if item.pack in done]

    # --- the rest ---

    def _tidy(self) -> int:
        names = tidying.leftovers(
            self._parts,
            self._surveyor.marker.names,
            frozenset(self._parts.index.strays()),
            self._surveyor.began - self._options.grace,
        )
        return tidying.tidy(self._parts, [*names, *self._surveyor.broken], self._lease.check)
