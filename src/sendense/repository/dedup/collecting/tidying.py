"""What a collection tidies beside packs: things that belong to points that are gone.

* Holds of points that are gone: a deletion that was broken off has left them.
* Notes of damage without a point or a pack that is still there.
* Condemnations that cannot be read, which the survey names.
* Files that killed writers left half written, where the store is a directory.

Dead leases went when the leases were looked at.  An object that was written after the look
began is left alone: it may be of a point that came since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from sendense import steps
from sendense.errors import NotAllowed, NotFound
from sendense.repository.dedup import damages
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.parts import Parts
from sendense.storage.local import LocalStore
from sendense.storage.wrapper import innermost

log = logging.getLogger(__name__)

HALF_WRITTEN = timedelta(seconds=fmt.LEASE_EXPIRY_S)
"""Whoever writes a file for longer has lost his lease."""


def leftovers(
    parts: Parts, points: set[str], strays: frozenset[bytes], before: datetime
) -> Iterator[str]:
    """Name the objects that serve nobody, and were there ``before`` a moment of the store.

    ``points`` are the ids of all points that there are; ``strays`` the records that they refer
    to and that are in no pack.
    """
    for item in parts.store.list(fmt.HOLDS):
        point = item.name.removeprefix(fmt.HOLDS).partition("/")[0]
        if point not in points and item.modified < before:
            yield item.name
    packs = {summary.head.id for summary in parts.index.packs()}
    for item in parts.store.list(fmt.DAMAGE):
        if item.modified >= before:
            continue
        try:
            note = damages.read(parts, item.name)
        except NotFound:
            continue  # removed since it was listed
        of_packs = note.packs | {pack for _, pack in note.records}
        lost = {record for record, _ in note.records}
        if not (note.points & points or of_packs & packs or lost & strays):
            yield item.name


def tidy(parts: Parts, names: Sequence[str], check: Callable[[], None]) -> int:
    """Remove leftovers; gives how many."""
    removed = 0
    for name in names:
        check()
        try:
            parts.store.delete([name])
        except NotAllowed as error:
            log.warning("%s is left over, and cannot be removed: %s", name, error)
            continue
        log.debug("%s was left over", name)
        removed += 1
        steps.reached("gc:leftover-removed")
    return removed + _sweep(parts)


def _sweep(parts: Parts) -> int:
    """Remove files that were never given their name."""
    store = innermost(parts.store)
    return store.sweep_temporary(HALF_WRITTEN) if isinstance(store, LocalStore) else 0
