"""From what was looked at and read to what is told and noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import replace

from sendense.repository.dedup import damages
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.blame import Cause
from sendense.repository.dedup.checking.findings import CheckFinding, Weight, What
from sendense.repository.dedup.checking.notes import NOWHERE, SOMETHING, Proven, Settlement
from sendense.repository.dedup.checking.pack_proof import PackProof
from sendense.repository.dedup.checking.rereading import Refused
from sendense.repository.dedup.checking.survey import Survey

_NOT_NOTED = (What.PACK_UNREADABLE, What.PACK_UNNAMED)
"""What says nothing of a pack's records."""


def proven(
    found: Survey, read: Set[str], *, everything: bool = False, dropped: Set[str] = frozenset()
) -> Proven:
    """Say what was proven, for the notes.

    ``read`` are the packs that were read through, ``dropped`` those that left the index since.
    """
    named = {item.head.id for item in found.fresh.index.packs()} - set(found.packs.unnamed)
    wanted = (named | found.needed) - dropped
    causes = found.blame.packs.items()
    bad = {pack for pack, cause in causes if cause.what not in _NOT_NOTED and pack in wanted}
    lost = set(found.blame.missing.records)
    for pack, cause in found.blame.bad_packs.items():
        if pack not in wanted and cause.points:
            lost |= cause.records  # nobody looks there: it is as if they were nowhere
    if any(cause.points for pack, cause in causes if pack in dropped and not cause.readable):
        lost.add(SOMETHING)
    readable = frozenset(point.id for point in found.points.readable)
    unread = any(cause.what is What.PACK_UNREADABLE for _, cause in causes)
    return Proven(
        records=frozenset(item for item in found.blame.records if item[1] in wanted)
        | {(record, NOWHERE) for record in lost},
        packs=frozenset(bad),
        touched=found.damaged(),
        untouched=readable - found.touched(),
        there=frozenset(named.id for named in found.points.named),
        read=frozenset(read),
        forgotten=lambda pack: pack not in wanted,
        places=places(found),
        everything=everything and not unread,
    )


def enter(found: Survey, proof: PackProof) -> None:
    """Enter what was proven of a pack as causes."""
    head = proof.task.head
    if proof.failure is not None:
        message = f"{head.name} cannot be read: {proof.failure.message}"
        found.blame.pack(head.id, Cause(What.PACK_UNREADABLE, head.name, message))
    for what, why in proof.wrong:
        readable = what is not What.PACK_MISSING
        found.blame.pack(head.id, Cause(what, head.name, why, readable=readable))
    if proof.bad:
        why = next(iter(proof.bad.values()))
        found.blame.bad(head.id, head.name, proof.bad, why)


def index_findings(found: Survey) -> Iterator[CheckFinding]:
    """Tell of index objects that cannot be read; after the walk.

    Which of several had named a pack that none names now cannot be told.
    """
    causes = found.blame.packs.values()
    touched = {
        point for cause in causes if cause.what is What.PACK_UNNAMED for point in cause.points
    }
    for refused in found.fresh.unreadable.values():
        yield replace(refused.finding(What.INDEX), points=tuple(sorted(touched)))


def cause_findings(found: Survey) -> Iterator[CheckFinding]:
    """Give the findings about packs and records; after the walk."""
    noted = damages.together(found.notes)
    for pack, cause in found.blame.packs.items():
        if cause.points or pack not in found.packs.unnamed:
            yield cause.finding(noted=pack in noted.packs)
    for pack, cause in found.blame.bad_packs.items():
        held = all((record, pack) in noted.records for record in cause.records)
        yield cause.finding(noted=held or pack in found.packs.unnamed)
    if found.blame.missing.points:
        yield found.blame.missing.finding(noted=False)


def noted(found: Survey, settlement: Settlement) -> Iterator[CheckFinding]:
    """Tell of points that are listed as damaged, and of which nothing was found now."""
    names = {named.id: named.name for named in found.points.named}
    known = found.touched() | set(found.points.refused)
    for point in sorted((settlement.bare | settlement.kept) - known):
        weight = Weight.DAMAGE if point in settlement.bare else Weight.INFORMATION
        message = f"point {point} was found damaged earlier"
        yield CheckFinding(What.POINT_NOTED, names[point], message, weight, (point,))


def places(found: Survey) -> Callable[[bytes], Iterable[str]]:
    """Give the function that tells which packs have a record."""
    return lambda record: [place.pack.id for place in found.fresh.index.locations(record)]


def lost_notes(found: Survey) -> list[Refused]:
    """Give the notes of damage that cannot be read: a check of all data says the same again."""
    return [item for item in found.others if item.damaged and item.name.startswith(fmt.DAMAGE)]
