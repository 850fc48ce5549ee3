"""What a repair will do, as a value: found out first, shown, and then carried out.

A repair mends what guards the data, from the data: the index from the packs' own
directories, a pack that is bad in parts from the records that are whole.  What is lost it cannot
bring back; it notes whom that touches, and takes out of the index what nobody can read, so that
backups store it again.  It removes index objects after their successors are there, and small
objects that nobody can read; never a pack, and never a point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from sendense.model.progress import ProgressListener
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking import conclusions, notes
from sendense.repository.dedup.checking.findings import What
from sendense.repository.dedup.checking.notes import Settlement
from sendense.repository.dedup.checking.pack_proof import PackProof, PackTask
from sendense.repository.dedup.checking.pack_reading import PackReading
from sendense.repository.dedup.checking.survey import (
    Check,
    Survey,
    adopt,
    enter_notes,
    survey,
    walk,
)
from sendense.repository.dedup.entries import PackHead
from sendense.repository.dedup.parts import Parts
from sendense.units import format_size

_MENDED = (
    What.PACK_CUT,
    What.PACK_LONGER,
    What.PACK_HEADER,
    What.PACK_DIRECTORY,
    What.PACK_CONTRADICTED,
)
"""What is wrong with packs whose whole records are worth a new pack."""
_REACH = 1000
"""How far above all known numbers the number of a deleted point is believed."""


@dataclass(frozen=True)
class PackCopy:
    """A damaged pack, and the records of it that are copied to a new one."""

    task: PackTask
    """With the entries that are right."""
    records: frozenset[bytes]
    bytes: int
    lost: int
    """How many of its records are bad."""


@dataclass(frozen=True)
class RepairPlan:
    """What a repair will do, in this order."""

    notes: Settlement
    """Damage to note."""
    copies: tuple[PackCopy, ...]
    """Damaged packs whose whole records go to new packs."""
    named: tuple[PackHead, ...]
    """Packs that points need and no index object names: one will."""
    replaced: tuple[str, ...]
    """Index objects whose successors leave out ``dropped``."""
    dropped: frozenset[str]
    """Packs that no index object will name any more: gone, or copied."""
    remade: tuple[str, ...]
    """Numbers of deleted points that are written again."""
    removed: tuple[str, ...]
    """Objects that cannot be read and say nothing that is not said elsewhere by then."""

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to do."""
        told = (self.notes.note, self.notes.obsolete, self.copies, self.named, self.replaced)
        return not any((*told, self.remade, self.removed))

    def steps(self) -> Iterator[str]:
        """Say what will be done, for people."""
        if self.notes.note is not None:
            count = len(self.notes.note.points)
            yield f"note what is damaged ({count} point{'s' * (count != 1)} touched)"
        elif self.notes.obsolete:
            yield "remove notes of damage that is no more"
        for copy in self.copies:
            yield (
                f"copy {len(copy.records)} records ({format_size(copy.bytes)}) out of "
                f"{copy.task.head.name}, of which {copy.lost} are bad"
            )
        if self.named:
            yield f"name {len(self.named)} packs in the index, by their own directories"
        for name in self.replaced:
            yield f"replace {name}, which names packs that are gone or damaged"
        for name in self.remade:
            yield f"write {name} again"
        for name in self.removed:
            yield f"remove {name}, which cannot be read"


@dataclass
class Prepared:
    """A plan, with what it was made from: for carrying it out at once."""

    plan: RepairPlan
    found: Survey
    read: frozenset[str]
    """Packs that were read through."""

    def close(self) -> None:
        """Give files back."""
        self.found.close()


def prepare(parts: Parts, check: Check, progress: ProgressListener) -> Prepared:
    """Look at a repository, and plan its repair.

    Packs that notes or their sizes make suspect are read through.
    """
    found = survey(parts, check)
    try:
        if found.packs.unnamed:
            adopt(found)
        proofs = _read_suspects(found, check, progress)
        read = frozenset(pack for pack, proof in proofs.items() if proof.failure is None)
        enter_notes(found, read)
        walk(found, check, progress)
        settlement = notes.settle(found.notes, conclusions.proven(found, read))
        return Prepared(_plan(found, proofs, settlement), found, read)
    except BaseException:
        found.close()
        raise


def _read_suspects(found: Survey, check: Check, progress: ProgressListener) -> dict[str, PackProof]:
    """Read the packs that are known or likely to be bad; gives what was proven of them."""
    suspects = notes.deciding_packs(found.notes, conclusions.places(found))
    suspects |= {pack for pack, cause in found.blame.packs.items() if cause.what in _MENDED}
    there = [
        item
        for item in found.fresh.index.packs()
        if item.head.id in suspects and item.head.id not in found.packs.gone
    ]
    tasks = (
        PackTask(item.head, item.size, found.fresh.index.entries_of(item.head.id)) for item in there
    )
    reading = PackReading(
        found.parts, check=check, progress=progress, total=sum(item.size for item in there)
    )
    proofs = {}
    for proof in reading.run(tasks):
        conclusions.enter(found, proof)
        proofs[proof.task.head.id] = proof
    return proofs


# --- deciding ---


def _plan(found: Survey, proofs: dict[str, PackProof], settlement: Settlement) -> RepairPlan:
    leaving = {pack for pack, proof in proofs.items() if _leaves(found, proof)}
    copies = tuple(_copy(found, proofs[pack], leaving) for pack in sorted(leaving))
    dropped = frozenset(leaving | found.packs.gone)
    heads = {item.head.id: item.head for item in found.fresh.index.packs()}
    named = sorted(_to_name(found, heads) - leaving)
    return RepairPlan(
        notes=settlement,
        copies=copies,
        named=tuple(heads[pack] for pack in named),
        replaced=tuple(
            sorted(
                name
                for name, packs in found.fresh.index.holders()
                if any(pack in dropped for pack, _ in packs)
            )
        ),
        dropped=dropped,
        remade=tuple(_believable_sequences(found)),
        removed=tuple(_useless(found)),
    )


def _to_name(found: Survey, known: Iterable[str]) -> set[str]:
    """Give the packs that an index object will name.

    What a point needs that cannot be read itself is not known: then it is all of them.
    """
    if found.points.refused and found.fresh.unreadable:
        return set(found.packs.unnamed).intersection(known)
    return set(found.needed)


def _leaves(found: Survey, proof: PackProof) -> bool:
    """Decide whether a pack that was read goes out of the index."""
    pack = proof.task.head.id
    if proof.failure is not None or pack in found.packs.gone:
        return False
    if pack in found.packs.unnamed and pack not in found.needed:
        return False  # it is in no index already
    return bool(proof.bad or proof.wrong or pack in found.packs.sizes)


def _copy(found: Survey, proof: PackProof, leaving: Set[str]) -> PackCopy:
    """Say what of a pack is copied: what is whole, and in no good pack that stays."""
    whole = [entry for entry in proof.task.entries if entry.id not in proof.bad]
    wanted = [entry for entry in whole if not _is_elsewhere(found, entry.id, leaving)]
    return PackCopy(
        task=proof.task,
        records=frozenset(entry.id for entry in wanted),
        bytes=sum(entry.stored for entry in wanted),
        lost=len(proof.bad),
    )


def _is_elsewhere(found: Survey, record: bytes, leaving: Set[str]) -> bool:
    return any(
        place.pack.id not in leaving and found.blame.of(place) is None
        for place in found.fresh.index.locations(record)
    )


def _believable_sequences(found: Survey) -> Iterator[str]:
    """Give the sequences that cannot be read, and whose numbers are not out of this world."""
    for item in found.others:
        if item.damaged and item.name.startswith(fmt.SEQUENCES) and _believable(found, item.name):
            yield item.name


def _believable(found: Survey, name: str) -> bool:
    _, tag, number = name.split("/")
    newest = max((named.sequence for named in found.points.named if named.tag == tag), default=0)
    return number.isdigit() and newest < int(number) <= newest + _REACH


def _useless(found: Survey) -> Iterator[str]:
    """Give the objects that cannot be read, and that a repair makes superfluous.

    A condemnation that nobody can read keeps garbage from being collected, which then
    condemns anew.
    """
    yield from sorted(name for name, item in found.fresh.unreadable.items() if item.damaged)
    for item in found.others:
        sequence = item.name.startswith(fmt.SEQUENCES)
        if not item.damaged or not (sequence or item.name.startswith(fmt.CONDEMNED)):
            continue
        if not sequence or not _believable(found, item.name):
            yield item.name
