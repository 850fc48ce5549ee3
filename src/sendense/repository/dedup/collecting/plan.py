"""What to do with each pack, and why: a decision without I/O.

A pack leaves in two steps, in two runs.  First it is *condemned*: from then on no writer that
begins refers to it.  Then it is *removed*, when three things hold: its condemnation is older
than the grace time; everybody who is at work has seen it; and no point refers to anything
that only this pack holds.  The second takes care of writers, the third of points that were
made between the two steps; the grace time covers stores whose listings lag, and readers that hold
an old index.  A condemned pack that is referred to after all is *rescued*.

A pack of which little is live is *rewritten*: its live records are copied into new packs,
and it is condemned.  Small packs are rewritten together, for each is a request to every reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache

from sendense.errors import Rejected
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting.facts import (
    CollectFacts,
    CondemnationFacts,
    LeaseFacts,
    PackFacts,
)
from sendense.repository.dedup.format import PackKind
from sendense.units import GIB, format_seconds, format_size, format_span

SMALL: int = fmt.PACK_BYTES // 4
"""Bytes below which packs are joined."""
JOINED_AT_LEAST = 4
UNDER_WAY = timedelta(days=1)
"""While a backup is under way, what is younger and nothing refers to may be its own."""
_SHARE_OF_FREE = 2
"""Copying takes no more than this part of what is free: half."""


@dataclass(frozen=True)
class CollectOptions:
    """How much to collect."""

    live_ratio: float = 0.7
    """Packs with a smaller share of live bytes are rewritten."""
    grace: timedelta = timedelta(hours=24)
    """Between a condemnation and the removal.  With zero both come in one run."""
    most_rewrite: int = 64 * GIB
    """Bytes to copy in one run."""
    ignore: frozenset[str] = frozenset()
    """Points that may be unreadable: what cannot be read of them is given up."""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 <= self.live_ratio <= 1:
            raise Rejected(
                f"{self.live_ratio:g} is no share", hint="give a number from 0 to 1, such as 0.7"
            )
        if self.grace < timedelta(0):
            raise Rejected("the grace time is less than nothing")
        if self.most_rewrite < 0:
            raise Rejected("the most to copy is less than nothing")


class Action(str, Enum):
    """What becomes of a pack."""

    KEEP = "keep"
    REWRITE = "rewrite"
    """Its live records are copied into new packs, and it is condemned."""
    CONDEMN = "condemn"
    REMOVE = "remove"
    RESCUE = "rescue"
    """It is taken out of its condemnation."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one pack, and why."""

    pack: str
    kind: PackKind | None
    action: Action
    reason: str
    size: int
    live: int
    """Bytes in it that points refer to."""
    wait: timedelta | None = None
    """For a pack on its way out: until the grace time is over."""


@dataclass(frozen=True)
class CollectPlan:
    """All that a collection would do."""

    options: CollectOptions
    verdicts: tuple[Verdict, ...]
    """One for each pack."""
    blockers: tuple[str, ...]
    """Who keeps packs from being removed that have waited long enough."""

    def of(self, *actions: Action) -> tuple[Verdict, ...]:
        """Give the verdicts with these actions."""
        return tuple(item for item in self.verdicts if item.action in actions)

    def bytes_of(self, *actions: Action) -> int:
        """Give the size of the packs with these actions."""
        return sum(item.size for item in self.verdicts if item.action in actions)

    @property
    def waiting(self) -> tuple[Verdict, ...]:
        """Give the packs that were condemned earlier, and may not go yet."""
        return tuple(
            item for item in self.verdicts if item.action is Action.KEEP and item.wait is not None
        )

    @property
    def freed_now(self) -> int:
        """Give the bytes that this run removes, without what it condemns itself."""
        return self.bytes_of(Action.REMOVE)

    @property
    def freed_later(self) -> int:
        """Give the bytes that go when they have waited: condemned earlier, or by this run."""
        return self.bytes_of(Action.CONDEMN, Action.REWRITE) + sum(
            item.size for item in self.waiting
        )

    @property
    def to_copy(self) -> int:
        """Give the live bytes of the packs that are rewritten."""
        return sum(item.live for item in self.verdicts if item.action is Action.REWRITE)

    @property
    def next_in(self) -> timedelta | None:
        """Give the time until more can be removed, if nobody stands in the way; none: never."""
        waits = [item.wait for item in self.verdicts if item.wait is not None]
        return min(waits, default=None)


def make_plan(facts: CollectFacts, options: CollectOptions) -> CollectPlan:
    """Decide what becomes of each pack."""
    judge = _Judge(facts, options)
    verdicts = {pack.id: judge.verdict(pack) for pack in facts.packs}
    budget = options.most_rewrite
    if facts.free_bytes is not None:
        budget = min(budget, facts.free_bytes // _SHARE_OF_FREE)
    worn = [item for item in verdicts.values() if item.action is Action.REWRITE]
    for item in _beyond(sorted(worn, key=judge.share), budget):
        verdicts[item.pack] = replace(
            item,
            action=Action.KEEP,
            reason=f"{item.reason}, but this run copies no more than {format_size(budget)}",
            wait=None,
        )
    budget -= sum(item.live for item in verdicts.values() if item.action is Action.REWRITE)
    for kind in PackKind:
        small = [verdicts[pack] for pack in judge.small[kind]]
        for item in _joined(small, budget):
            verdicts[item.pack] = replace(item, wait=options.grace)
            budget -= item.live
    return CollectPlan(options, tuple(verdicts.values()), tuple(sorted(judge.blockers)))


def keep_locked(plan: CollectPlan, until: Mapping[str, datetime]) -> CollectPlan:
    """Leave packs alone that the store keeps until a date: copying them would free nothing.

    And what they protect would lie in a new pack that nothing locks.
    """
    return replace(
        plan,
        verdicts=tuple(
            replace(
                item,
                action=Action.KEEP,
                reason=f"{item.reason}, but the store keeps it until {until[item.pack]:%Y-%m-%d}",
                wait=None,
            )
            if item.pack in until and item.action is Action.REWRITE
            else item
            for item in plan.verdicts
        ),
    )


def _beyond(chosen: Iterable[Verdict], budget: int) -> Iterator[Verdict]:
    """Give those that a budget has no room for."""
    for item in chosen:
        if item.live > budget:
            yield item
        else:
            budget -= item.live


def _joined(small: Sequence[Verdict], budget: int) -> list[Verdict]:
    """Choose packs that are joined: the smallest first, and none unless it is worth it."""
    ordered = sorted(small, key=lambda item: item.size)
    beyond = {item.pack for item in _beyond(ordered, budget)}
    chosen = [item for item in ordered if item.pack not in beyond]
    if len(chosen) < JOINED_AT_LEAST:
        return []
    what = f"joined with {len(chosen) - 1} others"
    return [
        replace(item, action=Action.REWRITE, reason=f"{_small(item.size)}, {what}")
        for item in chosen
    ]


class _Judge:
    """Judges packs one by one."""

    def __init__(self, facts: CollectFacts, options: CollectOptions) -> None:
        self._options = options
        self._leases: Sequence[LeaseFacts] = facts.leases
        self._condemned: dict[str, list[CondemnationFacts]] = {}
        for item in facts.condemned:
            for pack in item.packs:
                self._condemned.setdefault(pack, []).append(item)
        writing = any(lease.writes for lease in facts.leases)
        self._under_way = max(options.grace, UNDER_WAY) if writing else timedelta(0)
        self.blockers: set[str] = set()
        """Who keeps packs from going."""
        self.small: dict[PackKind, list[str]] = {kind: [] for kind in PackKind}
        """Packs that are in order, and could be joined."""
        self._shares: dict[str, float] = {}

    def share(self, verdict: Verdict) -> float:
        """Give the live share of a pack that is to be rewritten."""
        return self._shares[verdict.pack]

    def verdict(self, pack: PackFacts) -> Verdict:
        """Judge a pack."""
        condemned = self._condemned.get(pack.id)
        if condemned:
            return self._of_condemned(pack, condemned)
        if pack.age is None:
            return self._of_missing(pack)
        if pack.kind is None:
            return self._of_unindexed(pack, pack.age)
        if pack.lost_records:
            what = _records(pack.lost_records)
            return _keep(pack, f"{what} in it cannot be copied: damaged")
        if pack.live_records and pack.live >= self._options.live_ratio * pack.records:
            return self._of_good(pack, pack.kind)
        if pack.age < self._under_way:
            reason = f"it is {_words(pack.age)} old, and may belong to a backup under way"
            return _keep(pack, reason)
        if not pack.live_records:
            return self._condemn(pack, "nothing refers to it")
        self._shares[pack.id] = pack.live / pack.records
        reason = f"{_share(pack)}, below {self._options.live_ratio:.0%}"
        return _verdict(pack, Action.REWRITE, reason, wait=self._options.grace)

    def _of_good(self, pack: PackFacts, kind: PackKind) -> Verdict:
        if pack.size >= SMALL:
            return _keep(pack, _share(pack))
        self.small[kind].append(pack.id)
        return _keep(pack, f"{_small(pack.size)}, with too few others to join")

    def _of_condemned(self, pack: PackFacts, by: Sequence[CondemnationFacts]) -> Verdict:
        """Judge a pack that is on its way out; the oldest of its condemnations counts."""
        if pack.live_records:
            what = _records(pack.live_records)
            return _verdict(pack, Action.RESCUE, f"points refer to {what} in it again")
        if pack.lost_records:
            return _keep(pack, "condemned, and not removed, as it cannot be read")
        age = max(item.age for item in by)
        since = f"condemned {_words(age)} ago"
        if age < self._options.grace:
            reason = f"{since}, the grace time is {_words(self._options.grace)}"
            return _keep(pack, reason, wait=self._options.grace - age)
        known_as = {item.id for item in by}
        for lease in self._leases:
            if not lease.seen & known_as:
                self.blockers.add(lease.text)
                reason = f"{lease.text} has not seen its condemnation"
                return _keep(pack, reason, wait=timedelta(0))
        return _verdict(pack, Action.REMOVE, f"{since}, and nothing refers to it")

    def _of_missing(self, pack: PackFacts) -> Verdict:
        if pack.live_records:
            what = _records(pack.live_records)
            return _keep(pack, f"missing from the store, and points refer to {what} in it")
        return self._condemn(pack, "missing from the store, and nothing refers to it")

    def _of_unindexed(self, pack: PackFacts, age: timedelta) -> Verdict:
        if pack.lost_records:
            return _keep(pack, "no index names it, and it cannot be read")
        if pack.live_records:
            what = _records(pack.live_records)
            return _keep(pack, f"no index names it, and points miss {what} that it holds")
        if age < max(self._options.grace, self._under_way):
            return _keep(pack, f"no index names it yet: it is {_words(age)} old")
        return self._condemn(pack, f"no index names it, and it is {_words(age)} old")

    def _condemn(self, pack: PackFacts, reason: str) -> Verdict:
        return _verdict(pack, Action.CONDEMN, reason, wait=self._options.grace)


def _verdict(
    pack: PackFacts, action: Action, reason: str, *, wait: timedelta | None = None
) -> Verdict:
    return Verdict(pack.id, pack.kind, action, reason, pack.size, pack.live, wait)


def _keep(pack: PackFacts, reason: str, *, wait: timedelta | None = None) -> Verdict:
    return _verdict(pack, Action.KEEP, reason, wait=wait)


def _share(pack: PackFacts) -> str:
    return _percent(int(100 * pack.live / pack.records))


@lru_cache(maxsize=128)
def _percent(number: int) -> str:
    """Give one text for all packs of which it is true."""
    return f"{number}% live"


def _small(size: int) -> str:
    return f"small: {format_size(size)}"


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def _words(span: timedelta) -> str:
    """Write a span of time: in hours and days, and what is shorter exactly."""
    if span >= timedelta(hours=1):
        return format_span(span - span % timedelta(hours=1))
    return format_seconds(span.total_seconds())
