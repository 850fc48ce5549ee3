"""Whether everything that one point needs is in the store: for a writer that was taken for dead."""

from __future__ import annotations

from sendense.errors import NotFound
from sendense.repository.dedup import condemning, indexing
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.blame import Blame, Cause
from sendense.repository.dedup.checking.findings import What
from sendense.repository.dedup.checking.tree_walk import TreeWalk
from sendense.repository.dedup.checking.walk_ledger import Causes
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.points import StoredPoint
from sendense.repository.dedup.unnamed_packs import pack_id, pack_name

_LIST_FROM = 200
"""Packs: a listing brings a thousand with one request."""


def lacking(parts: Parts, stored: StoredPoint) -> list[str]:
    """Say what a point needs and the store does not have; nothing where it is whole.

    Its trees are walked, and every pack that they lead to is looked up.  A record
    that is in several packs is there as long as one of them is.

    A condemned pack counts as gone: a collection that looked before the point was there may be
    about to remove it.  Condemnations are read before packs are looked up, because they go after
    them; and whoever condemns later looks for points once more before it removes anything.
    """
    condemned = {pack for item in condemning.read_all(parts) for pack in item.packs}
    indexing.refresh(parts, [])
    blame = Blame(parts.index)
    looked_up: set[str] = set()
    while True:
        causes, packs = _walk(parts, blame, stored)
        fresh = packs - looked_up
        gone = _gone(parts, fresh - condemned) | (fresh & condemned)
        looked_up |= packs
        for pack in gone:
            name = pack_name(pack)
            why = "is condemned" if pack in condemned else "is missing"
            blame.pack(pack, Cause(What.PACK_MISSING, name, f"{name} {why}"))
        if not gone:
            return sorted(cause.message for cause in causes)


def _walk(parts: Parts, blame: Blame, stored: StoredPoint) -> tuple[Causes, set[str]]:
    with TreeWalk(parts, blame) as walking:
        causes = walking.trees((root, size) for _, root, size in stored.trees())
        return causes, walking.packs


def _gone(parts: Parts, packs: set[str]) -> set[str]:
    """Give those packs that are not there; many are looked for in the listing first."""
    listed: set[str] = set()
    if len(packs) > _LIST_FROM:
        listed = packs.intersection(
            filter(None, (pack_id(item.name) for item in parts.store.list(fmt.PACKS)))
        )
    return {pack for pack in packs - listed if not _is_there(parts, pack)}


def _is_there(parts: Parts, pack: str) -> bool:
    try:
        parts.store.info(pack_name(pack))
    except NotFound:
        return False
    return True
