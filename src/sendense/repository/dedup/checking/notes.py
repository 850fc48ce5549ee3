"""What notes of damage say after a check: decided from what was noted and what was proven.

A note keeps what nobody has proven wrong: that a record is bad in a pack, until the pack was read
and the record is whole, or the pack is gone and no index object names it.  A point that
was noted is whole when the walk finds nothing in its way and everything that was held against it
was read and is whole, there or elsewhere.  Notes that name points and no evidence (what a
verification saw and could not put down to a record) are left to the next verification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sendense.repository.dedup import damages
from sendense.repository.dedup.damages import DamageNote
from sendense.repository.dedup.parts import Parts

BadRecord = tuple[bytes, str]
NOWHERE = ""
"""In the place of a pack: the record is in none."""
SOMETHING = bytes(32)
"""In the place of a record that is nowhere: which it is was not kept."""


@dataclass(frozen=True)
class Proven:
    """What a check has proven."""

    records: frozenset[BadRecord]
    """Bad, each with its pack."""
    packs: frozenset[str]
    """Bad as a whole."""
    touched: frozenset[str]
    """Points that are damaged."""
    untouched: frozenset[str]
    """Points in whose way nothing is."""
    there: frozenset[str]
    """All points that are there, readable or not."""
    read: frozenset[str] = frozenset()
    """Packs that were read through: what is not named as bad in them is whole."""
    forgotten: Callable[[str], bool] = field(default=lambda pack: False, compare=False)
    """Tells whether a pack is not there and nothing names it."""
    places: Callable[[bytes], Iterable[str]] = field(default=lambda record: (), compare=False)
    """Gives the packs that have a record."""
    everything: bool = False
    """Every pack was read."""


@dataclass(frozen=True)
class Settlement:
    """What the notes become."""

    note: DamageNote | None
    """What to put; none: nothing new."""
    obsolete: tuple[str, ...]
    """Notes to remove afterwards, by name."""
    healed: frozenset[str]
    """Points that are noted no more, as they are whole."""
    bare: frozenset[str]
    """Points that are noted without evidence, and stay so."""
    kept: frozenset[str]
    """Points that stay noted although nothing was found now."""


def settle(notes: Sequence[DamageNote], proven: Proven) -> Settlement:
    """Decide what the notes become."""
    based = [note for note in notes if note.records or note.packs]
    bare = damages.together(note for note in notes if note not in based)
    old = damages.together(based)
    healed = frozenset(
        point
        for point in old.points & proven.untouched - bare.points
        if all(_resolved(note, proven) for note in based if point in note.points)
    )
    new = DamageNote(
        "",
        (old.points & proven.there) - healed | (proven.touched - bare.points),
        frozenset(item for item in old.records if _stays(item, proven)) | proven.records,
        frozenset(pack for pack in old.packs if not _known(pack, proven)) | proven.packs,
    )
    kept = new.points & proven.untouched
    if new == old:
        return Settlement(None, (), healed, bare.points & proven.there, kept)
    put = new if new.points or new.records or new.packs else None
    obsolete = tuple(note.name for note in based)
    return Settlement(put, obsolete, healed, bare.points & proven.there, kept)


def _stays(item: BadRecord, proven: Proven) -> bool:
    _, pack = item
    return not proven.everything if pack == NOWHERE else not _known(pack, proven)


def _known(pack: str, proven: Proven) -> bool:
    """Tell whether a check knows better than a note what is in a pack."""
    return pack in proven.read or proven.forgotten(pack)


def _resolved(note: DamageNote, proven: Proven) -> bool:
    """Tell whether everything that a note holds against its points was read and is whole."""
    if proven.everything:
        return True
    packs = all(pack in proven.read and pack not in proven.packs for pack in note.packs)
    return packs and all(_whole(record, proven) for record, _ in note.records)


def _whole(record: bytes, proven: Proven) -> bool:
    return any(
        pack in proven.read and (record, pack) not in proven.records
        for pack in proven.places(record)
    )


def carry_out(parts: Parts, settlement: Settlement) -> None:
    """Write what the notes become; the new one is there before the older ones go."""
    if settlement.note is not None:
        note = settlement.note
        damages.put(parts, points=note.points, records=note.records, packs=note.packs)
    if settlement.obsolete:
        parts.store.delete(settlement.obsolete)


def deciding_packs(
    notes: Sequence[DamageNote], places: Callable[[bytes], Iterable[str]]
) -> set[str]:
    """Give the packs to read to decide about notes: what is noted, and where else it is."""
    held = damages.together(notes)
    packs = set(held.packs) | {pack for _, pack in held.records}
    for record in {record for record, _ in held.records}:
        packs.update(places(record))
    return packs - {NOWHERE}
