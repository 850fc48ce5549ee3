"""Removing packs, in the order that never leaves an index that names what is gone.

New index objects without the packs; the old index objects; the packs; and last their
condemnations.  Until then every writer that begins sees them condemned.  Broken off anywhere,
the next run finds the packs condemned still, and does the rest.

Before each removal the lease is looked at: who was taken for dead meanwhile removes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sendense import steps
from sendense.errors import NotAllowed
from sendense.repository.dedup import condemning
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting.index_plan import MOST_ENTRIES, replaced_objects
from sendense.repository.dedup.condemning import Condemnation
from sendense.repository.dedup.entries import PackRecord
from sendense.repository.dedup.indexing import put_index, read_index
from sendense.repository.dedup.parts import Parts

log = logging.getLogger(__name__)

_BATCH = 500
"""Names of one request to remove."""


@dataclass(frozen=True)
class Removed:
    """What was removed."""

    packs: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    """Packs that the store does not let go: they are locked."""
    index_objects: int = 0
    """How many were replaced."""


class Remover:
    """Removes packs, and takes others out of their condemnation."""

    def __init__(self, parts: Parts, check: Callable[[], None]) -> None:
        """Remove from the store of ``parts``; ``check`` is asked before, and may raise."""
        self._parts = parts
        self._check = check

    def remove(
        self,
        packs: frozenset[str],
        rescued: frozenset[str],
        condemned: Sequence[Condemnation],
    ) -> Removed:
        """Remove condemned packs, rescue others, and tidy the index."""
        replaced = replaced_objects(dict(self._parts.index.holders()), packs)
        if replaced:
            self._replace_index(replaced, packs)
        refused = self._delete_packs(sorted(packs))
        self._close(condemned, (packs | rescued) - refused)
        return Removed(packs - refused, refused, len(replaced))

    # --- index objects ---

    def _replace_index(self, replaced: Sequence[str], gone: frozenset[str]) -> None:
        made = 0
        locked = self._locked_until(replaced)
        for records in self._carried(replaced, gone):
            name = put_index(self._parts, records)
            if locked is not None and self._parts.store.locks is not None:
                self._parts.store.locks.extend(name, locked)
            steps.reached("gc:index-stored")
            self._parts.index.apply([(name, records)], [])
            made += 1
        for names in _batches(replaced):
            self._delete(names)
            steps.reached("gc:old-index-removed")
        self._parts.index.apply([], replaced)
        log.info("%d index objects were replaced by %d", len(replaced), made)

    def _locked_until(self, names: Sequence[str]) -> datetime | None:
        """Give the latest date until which the store keeps one of these; successors get it too."""
        locks = self._parts.store.locks
        if locks is None:
            return None
        dates = [until for name in names if (until := locks.until(name)) is not None]
        return max(dates, default=None)

    def _carried(self, replaced: Sequence[str], gone: frozenset[str]) -> Iterator[list[PackRecord]]:
        """Share out what stays among new index objects.

        It is read again from the store: the local index has it too, but nobody has signed that.
        """
        done: set[str] = set()
        group: list[PackRecord] = []
        entries = 0
        for name in replaced:
            for record in read_index(self._parts, name):
                pack = record.head.id
                if pack in gone or pack in done:
                    continue
                if group and entries + len(record.entries) > MOST_ENTRIES:
                    yield group
                    group, entries = [], 0
                done.add(pack)
                group.append(record)
                entries += len(record.entries)
        if group:
            yield group

    # --- packs ---

    def _delete_packs(self, packs: Sequence[str]) -> frozenset[str]:
        """Remove packs; give those that the store keeps."""
        refused: set[str] = set()
        for batch in _batches(packs):
            try:
                self._delete([name_of_pack(pack) for pack in batch])
            except NotAllowed as error:
                log.warning("the store refuses to remove packs: %s", error)
                refused |= self._delete_singly(batch)
            steps.reached("gc:packs-removed")
        return frozenset(refused)

    def _delete_singly(self, packs: Sequence[str]) -> set[str]:
        refused = set()
        for pack in packs:
            try:
                self._delete([name_of_pack(pack)])
            except NotAllowed:
                refused.add(pack)
        if len(refused) == len(packs):
            log.warning("none of %d packs can be removed", len(packs))
        return refused

    # --- condemnations ---

    def _close(self, condemned: Sequence[Condemnation], done: frozenset[str]) -> None:
        """Take packs out of their condemnations; what is left in one is condemned anew, first."""
        for item in condemned:
            if item.packs and not item.packs & done:
                continue
            rest = item.packs - done
            if rest:
                condemning.condemn(self._parts, rest)
                steps.reached("gc:condemned")
            self._delete([item.name])
            steps.reached("gc:condemnation-removed")

    def _delete(self, names: Sequence[str]) -> None:
        self._check()
        self._parts.store.delete(names)


def name_of_pack(pack: str) -> str:
    """Give the name of a pack's object by its id."""
    return f"{fmt.PACKS}{pack[:2]}/{pack}"


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
