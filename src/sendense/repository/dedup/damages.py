"""Notes of damage: what a check, a verification or a restore found bad.

A note names records (chunks and nodes) with the pack in which they are bad, packs that are
missing or broken as a whole, and the points that it was found in.  Writers treat what a
note names as not stored there, so that it is stored again, elsewhere, when its content comes
by.  A verification that finds a point whole takes it out of the notes.

That a point is whole again says nothing of the bad copy of its record, which lies where it lay.
So a note keeps its records and packs without any point, until a check reads them and finds them
whole, or finds the pack gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from sendense.errors import Damaged, NotAllowed, NotFound, SendenseError, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal_json, unseal_json


@dataclass(frozen=True)
class DamageNote:
    """One note."""

    name: str
    """Of its object."""
    points: frozenset[str]
    records: frozenset[tuple[bytes, str]]
    """Ids of chunks and nodes, each with the id of the pack in which it is bad."""
    packs: frozenset[str]


def put(
    parts: Parts,
    *,
    points: frozenset[str],
    records: frozenset[tuple[bytes, str]],
    packs: frozenset[str],
) -> DamageNote:
    """Write a note."""
    name = f"{fmt.DAMAGE}{secrets.token_hex(16)}"
    value = {
        "points": sorted(points),
        "records": sorted([record.hex(), pack] for record, pack in records),
        "packs": sorted(packs),
    }
    parts.store.put(name, seal_json(parts.ring, name, SealedKind.DAMAGE, value), create=True)
    return DamageNote(name, points, records, packs)


def remember(
    parts: Parts,
    *,
    points: frozenset[str],
    records: frozenset[tuple[bytes, str]],
    packs: frozenset[str],
) -> None:
    """Write a note of what the notes do not say yet: the same is found night after night."""
    known = together(read_all(parts, []))
    new = DamageNote("", points - known.points, records - known.records, packs - known.packs)
    if new.points or new.records or new.packs:
        put(parts, points=points, records=records, packs=packs)


def together(notes: Iterable[DamageNote]) -> DamageNote:
    """Give all that some notes say, as one without a name."""
    held = list(notes)
    return DamageNote(
        "",
        frozenset(point for note in held for point in note.points),
        frozenset(record for note in held for record in note.records),
        frozenset(pack for note in held for pack in note.packs),
    )


def read_all(parts: Parts, doubts: list[SendenseError] | None = None) -> tuple[DamageNote, ...]:
    """Read all notes.

    One that cannot be read is an error; where ``doubts`` is given, it is added to that and
    passed over.  Then nobody may be sure that what no note names is whole.
    """
    notes = []
    for item in parts.store.list(fmt.DAMAGE):
        try:
            notes.append(read(parts, item.name))
        except NotFound:
            continue  # removed since it was listed
        except (Damaged, NotAllowed, Unsupported) as error:
            if doubts is None:
                raise
            doubts.append(error)
    return tuple(notes)


def read(parts: Parts, name: str) -> DamageNote:
    """Read one note."""
    value = unseal_json(parts.ring, name, SealedKind.DAMAGE, parts.store.get(name))
    try:
        return DamageNote(
            name,
            frozenset(map(str, value["points"])),
            frozenset((bytes.fromhex(record), str(pack)) for record, pack in value["records"]),
            frozenset(map(str, value["packs"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{name} is no note of damage", file=name) from error


def absolve(parts: Parts, point_id: str) -> None:
    """Take a point that was found whole out of all notes."""
    for note in read_all(parts, []):
        if point_id in note.points:
            rest = note.points - {point_id}
            if rest or note.records or note.packs:
                put(parts, points=rest, records=note.records, packs=note.packs)
            parts.store.delete([note.name])
