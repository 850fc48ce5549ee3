"""What a check finds: the object, what is wrong, what that means, and which points it touches.

``docs/check-and-repair.md`` has every kind of finding, under the name that :class:`What` gives it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class CheckLevel(str, Enum):
    """How much a check reads."""

    STRUCTURE = "structure"
    """All that is not data: every small object, every index object, every tree."""
    SAMPLE = "sample"
    """Also some of the packs, those first that were not read for longest."""
    DATA = "data"
    """Also every byte of every pack."""


class Weight(str, Enum):
    """How much a finding matters."""

    DAMAGE = "damage"
    """Something that was stored cannot be had."""
    RISK = "risk"
    """Everything can be had, but something that guards it is broken."""
    INFORMATION = "information"
    """Nothing has to be done."""


class What(str, Enum):
    """The kinds of findings."""

    HEADER = "header"
    SLOT = "key-slot"
    NO_SLOT = "no-key-slot"
    INDEX = "index-unreadable"
    PACK_UNNAMED = "pack-unnamed"
    PACK_MISSING = "pack-missing"
    PACK_CUT = "pack-cut"
    PACK_LONGER = "pack-longer"
    PACK_HEADER = "pack-header"
    PACK_DIRECTORY = "pack-directory"
    PACK_CONTRADICTED = "pack-contradicted"
    PACK_RECORDS = "pack-records"
    PACK_NOTED = "pack-noted"
    PACK_UNREADABLE = "pack-unreadable"
    PACK_STRAY = "pack-stray"
    RECORD_MISSING = "record-missing"
    POINT = "point-unreadable"
    ATTACHMENT = "attachment"
    POINT_NOTED = "point-noted"
    POINT_VANISHED = "point-vanished"
    POINT_GONE = "point-gone"
    SEQUENCE = "sequence-unreadable"
    SEQUENCE_TWICE = "sequence-twice"
    LEASE = "lease-unreadable"
    CONDEMNATION = "condemnation-unreadable"
    NOTE = "damage-note-unreadable"
    HOLD = "hold-unreadable"
    CHECKED = "checked-unreadable"
    FOREIGN = "foreign-object"


@dataclass(frozen=True)
class Explained:
    """What a kind of finding means, and what to do."""

    meaning: str
    remedy: str


_REPAIR = "'sendense repo check --repair' mends it"
_FULL = (
    "the next full backups store again what still exists on the disks ('sendense backup --mode "
    "full'); then check again"
)
_NOTHING = "nothing has to be done"

EXPLAINED: dict[What, Explained] = {
    What.HEADER: Explained(
        "the repository cannot be opened the next time",
        "put the object back from a copy of the repository",
    ),
    What.SLOT: Explained(
        "its passphrase or recovery key does not open the repository any more",
        "remove the slot ('sendense repo key remove') and add its owner's key again",
    ),
    What.NO_SLOT: Explained(
        "nothing opens the repository once this process ends",
        "add a passphrase or a recovery key now, with a program that has it open",
    ),
    What.INDEX: Explained("it is not said any more where some records lie", _REPAIR),
    What.PACK_UNNAMED: Explained(
        "points need records of it, and they are found only by looking through all such packs",
        _REPAIR,
    ),
    What.PACK_MISSING: Explained("all that was in it is lost, as far as it is nowhere else", _FULL),
    What.PACK_CUT: Explained("what was in its end is lost, as far as it is nowhere else", _FULL),
    What.PACK_LONGER: Explained("what stands behind its end was not written by us", _REPAIR),
    What.PACK_HEADER: Explained(
        "its records are whole, but without the index nobody could find them", _REPAIR
    ),
    What.PACK_DIRECTORY: Explained(
        "its records are whole, but without the index nobody could find them", _REPAIR
    ),
    What.PACK_CONTRADICTED: Explained("the index and the pack disagree on what is in it", _REPAIR),
    What.PACK_RECORDS: Explained("these records are lost, as far as they are nowhere else", _FULL),
    What.PACK_NOTED: Explained(
        "its records count as not stored until it is read again",
        "'sendense repo check --level sample' reads it",
    ),
    What.PACK_UNREADABLE: Explained(
        "nothing can be said of it",
        "look at the disk or the service below; when that is well, check again",
    ),
    What.PACK_STRAY: Explained(
        "a run that died has left it", "the next 'sendense repo gc' removes it"
    ),
    What.RECORD_MISSING: Explained("no pack holds what these points need", _FULL),
    What.POINT: Explained(
        "the point cannot be restored; other points do not need it",
        "put the object back from a copy of the repository, or delete the point",
    ),
    What.ATTACHMENT: Explained(
        "a small file of the point is not what was stored; its disks are not touched",
        "restore without it",
    ),
    What.POINT_NOTED: Explained(
        "it is listed as damaged, and nothing was found now that tells why",
        "'sendense verify' reads the point; 'sendense repo check --level data' reads all",
    ),
    What.POINT_VANISHED: Explained(
        "it was the newest of its machine, and no deletion of ours took it away",
        "find out who can delete in the store; put the object back from a copy or a bucket's "
        "versions",
    ),
    What.POINT_GONE: Explained(
        "another machine deleted it, or somebody took its object away", "make sure that you know"
    ),
    What.SEQUENCE: Explained("a number of a deleted point may be given out again", _REPAIR),
    What.SEQUENCE_TWICE: Explained(
        "two writers were at work for one machine; both points are whole", _NOTHING
    ),
    What.LEASE: Explained("it keeps others from their work until it expires", _NOTHING),
    What.CONDEMNATION: Explained("garbage is not collected while it is there", _REPAIR),
    What.NOTE: Explained(
        "what was known to be bad is not known any more", "'sendense repo check --level data'"
    ),
    What.HOLD: Explained(
        "it counts as a pin, whatever it was",
        "'sendense points unpin' takes it off; then pin or lock the point again",
    ),
    What.CHECKED: Explained("some packs count as never read", _NOTHING),
    What.FOREIGN: Explained("it was not written by us, or by a newer version", _NOTHING),
}


@dataclass(frozen=True)
class CheckFinding:
    """One thing that a check found."""

    what: What
    object: str
    """The name of the object; empty where it is none in particular."""
    message: str
    weight: Weight
    points: tuple[str, ...] = ()
    """The points that it touches, by id."""

    @property
    def meaning(self) -> str:
        """Say what it means."""
        return EXPLAINED[self.what].meaning

    @property
    def remedy(self) -> str:
        """Say what to do."""
        return EXPLAINED[self.what].remedy


@dataclass(frozen=True)
class CheckResult:
    """What a check looked at, and found."""

    level: CheckLevel
    findings: tuple[CheckFinding, ...]
    """The heaviest first."""
    points: int
    """How many there are."""
    touched: tuple[str, ...]
    """Points that are damaged or lost, by id."""
    packs: int
    """How many were read through."""
    packs_total: int
    """How many the index names."""
    checked_bytes: int
    """Of packs that were read through."""
    healed: tuple[str, ...] = ()
    """Points that were noted as damaged, and are proven whole."""
    seconds: float = field(default=0.0, compare=False)

    @property
    def sound(self) -> bool:
        """Tell whether nothing was found that has to be looked at."""
        return all(finding.weight is Weight.INFORMATION for finding in self.findings)
