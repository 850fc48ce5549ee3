"""Locks that the store itself enforces: everything that a locked point needs, until its date.

A hold in ``holds/`` keeps our own programs from deleting a point.  Where the store has
object locks, nobody can: the objects that a restore takes are locked one by one.  These are
the header, the key slots, the point object, the packs that its trees lead to, and the
index objects.  Garbage collection moves what a point needs; so it locks again what it made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import points
from sendense.repository.dedup.nodes import decode_leaf
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.points import StoredPoint
from sendense.repository.dedup.record_reading import Records
from sendense.repository.dedup.trees import Tree


def lock_objects(parts: Parts, stored: StoredPoint, until: datetime) -> int:
    """Have the store lock all that a point needs; gives how many objects, 0 where it cannot.

    Objects that are locked for longer stay so.  May be repeated at any time.
    """
    locks = parts.store.locks
    if locks is None:
        return 0
    count = 0
    for name in needed_objects(parts, stored):
        locks.extend(name, until)
        count += 1
    return count


def needed_objects(parts: Parts, stored: StoredPoint) -> Iterator[str]:
    """Name the objects that a restore of a point takes, packs first."""
    yield from sorted(needed_packs(parts, stored))
    for prefix in (fmt.INDEX, fmt.KEYS, f"{fmt.HOLDS}{stored.point.id}/"):
        yield from (item.name for item in parts.store.list(prefix))
    yield fmt.HEADER
    yield points.name_of(parts, stored.point)


def needed_packs(parts: Parts, stored: StoredPoint) -> set[str]:
    """Name the packs that hold the nodes and chunks of a point."""
    records = _Noting(parts)
    packs: set[str] = set()
    for _, root, size in stored.trees():
        for _, leaf in Tree(records, root, size).present():
            slots = decode_leaf(records.node(leaf))
            chunks = dict.fromkeys(slot.chunk for slot in slots if slot is not None)
            packs.update(_packs_of(parts, chunks))
    return packs | records.packs


class _Noting(Records):
    """Reads nodes, and notes the packs that they lie in."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._index_of = parts
        self.packs: set[str] = set()

    def node(self, node_id: bytes) -> bytes:
        self.packs.update(_packs_of(self._index_of, [node_id]))
        return super().node(node_id)


def _packs_of(parts: Parts, ids: Iterable[bytes]) -> Iterator[str]:
    wanted = list(ids)
    found = parts.index.find(wanted)
    for record in wanted:
        if record not in found:
            raise Damaged(
                f"record {record.hex()[:16]} of the point is in no pack",
                hint="run 'sendense repo check'; a damaged point is not worth a lock",
                record=record.hex(),
            )
        yield found[record].pack.name
