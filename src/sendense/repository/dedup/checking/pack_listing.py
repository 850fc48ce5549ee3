"""Packs as the store lists them, held against what the index says of them.

The index was read before the packs are listed: a pack that is named was there by then, as writers
name it last, and nothing is removed while a check is at work.  A listing alone
does not make a pack missing: it is looked up once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sendense.errors import NotFound
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.blame import Blame, Cause
from sendense.repository.dedup.checking.findings import CheckFinding, Weight, What
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.shelf import PackSummary
from sendense.repository.dedup.unnamed_packs import pack_id
from sendense.storage.store import ObjectInfo

GRACE = timedelta(hours=24)
"""How old a pack is that no index object names, before it is told of: a writer may be at work."""


@dataclass
class PackListing:
    """What was listed."""

    gone: set[str] = field(default_factory=set)
    """Named by the index, and not there."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Of those that are there with another size than the index says: what they are."""
    unnamed: dict[str, ObjectInfo] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    total: int = 0
    """How many the index names."""


def list_packs(parts: Parts, index: LocalIndex) -> PackListing:
    """List all packs, and hold them against ``index``."""
    named = {summary.head.id: summary.size for summary in index.packs()}
    found = PackListing(total=len(named))
    for item in parts.store.list(fmt.PACKS):
        pack = pack_id(item.name)
        if pack is None:
            found.foreign.append(item.name)
            continue
        size = named.pop(pack, None)
        if size is None:
            found.unnamed[pack] = item
        elif size != item.size:
            found.sizes[pack] = item.size
    for pack, size in named.items():
        _look_up(parts, found, pack, size)
    return found


def _look_up(parts: Parts, found: PackListing, pack: str, size: int) -> None:
    """Look for a pack that was not listed."""
    try:
        item = parts.store.info(f"{fmt.PACKS}{pack[:2]}/{pack}")
    except NotFound:
        found.gone.add(pack)
        return
    if item.size != size:
        found.sizes[pack] = item.size


def enter(found: PackListing, index: LocalIndex, blame: Blame) -> None:
    """Say of what is missing, cut or too long what that means for its records."""
    for summary in index.packs():
        head = summary.head
        if head.id in found.gone:
            blame.pack(head.id, Cause(What.PACK_MISSING, head.name, f"{head.name} is missing"))
        elif head.id in found.sizes:
            _enter_size(summary, found.sizes[head.id], index, blame)


def _enter_size(summary: PackSummary, size: int, index: LocalIndex, blame: Blame) -> None:
    head = summary.head
    told = f"{head.name} has {size} bytes, and not {summary.size}"
    if size > summary.size:
        blame.pack(head.id, Cause(What.PACK_LONGER, head.name, told, readable=True))
        return
    blame.pack(head.id, Cause(What.PACK_CUT, head.name, told, readable=True))
    entries = index.entries_of(head.id)
    lost = [entry.id for entry in entries if entry.offset + entry.stored > size]
    if lost:
        blame.bad(head.id, head.name, lost, told, what=What.PACK_CUT)


def strays(found: PackListing, now: datetime, needed: frozenset[str]) -> list[CheckFinding]:
    """Tell of packs that no index object names and no point needs, once they are old."""
    old = [
        item
        for pack, item in sorted(found.unnamed.items())
        if pack not in needed and now - item.modified > GRACE
    ]
    findings = [
        CheckFinding(
            What.PACK_STRAY,
            item.name,
            f"{item.name} ({item.size} bytes) is named by no index object",
            Weight.INFORMATION,
        )
        for item in old
    ]
    return findings + [
        CheckFinding(
            What.FOREIGN, name, f"{name} is in the place of a pack, and is none", Weight.INFORMATION
        )
        for name in found.foreign
    ]
