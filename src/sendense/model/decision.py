"""How each disk of a capture is read, and why.

The decision is made per disk and is a value, so that a dry run, the log, the
point's manifest and the tests all show the same one.  The rule is: an
incremental is accepted only from the bitmap named after the *last committed
point* of that very disk, present, recording, persistent and consistent, on an
image that is still the same file in the same chain and has not shrunk.  All
else is a full of that disk, inside the same point, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from sendense.model.survey import DiskSurvey


class Mode(str, Enum):
    """Whether a disk, or a point, holds everything or what changed."""

    FULL = "full"
    INCREMENTAL = "incremental"


class RequestedMode(str, Enum):
    """What the operator asked for."""

    AUTO = "auto"
    """Choose per disk, and say why."""
    FULL = "full"
    """Read everything."""
    INCREMENTAL = "incremental"
    """As ``auto``, without the fulls that are merely due: a disk is read in full only
    where an incremental of it could not be right."""


class Method(str, Enum):
    """How the bytes of a disk are found."""

    EVERYTHING = "everything"
    """Read all allocated data."""
    BITMAP = "bitmap"
    """Read what the dirty bitmap marks."""
    COMPARE = "compare"
    """Read all allocated data, store what differs from the parent's hashes."""


class Reason(str, Enum):
    """Why a disk is read the way it is."""

    USABLE = "usable"
    REQUESTED = "requested"
    FULL_DUE = "full-due"
    NO_BASE = "no-base"
    NEW_DISK = "new-disk"
    BASE_DAMAGED = "base-damaged"
    BITMAP_MISSING = "bitmap-missing"
    BITMAP_INCONSISTENT = "bitmap-inconsistent"
    BITMAP_DISABLED = "bitmap-disabled"
    BITMAP_NOT_PERSISTENT = "bitmap-not-persistent"
    DISK_REPLACED = "disk-replaced"
    DISK_SHRUNK = "disk-shrunk"
    CHAIN_CHANGED = "chain-changed"
    MEMORY_SNAPSHOT_PRESENT = "memory-snapshot-present"
    VERIFICATION_FAILED = "verification-failed"
    NO_BITMAP_SUPPORT = "no-bitmap-support"
    BITMAPS_UNWANTED = "bitmaps-unwanted"
    HOST_CANNOT = "host-cannot"


EXPLANATIONS: dict[Reason, str] = {
    Reason.USABLE: "the bitmap of the last point is sound",
    Reason.REQUESTED: "a full was asked for",
    Reason.FULL_DUE: "the chain reached the length set by full_every",
    Reason.NO_BASE: "the repository holds no point of this machine",
    Reason.NEW_DISK: "the repository holds no point of this disk",
    Reason.BASE_DAMAGED: "the last point of this disk is damaged",
    Reason.BITMAP_MISSING: "the bitmap of the last point is gone from the image",
    Reason.BITMAP_INCONSISTENT: "QEMU did not end cleanly, so the bitmap cannot be trusted",
    Reason.BITMAP_DISABLED: "somebody stopped the bitmap from recording",
    Reason.BITMAP_NOT_PERSISTENT: "the bitmap would not survive a stop of the guest",
    Reason.DISK_REPLACED: "the disk is another file than at the last point",
    Reason.DISK_SHRUNK: "the disk is smaller than at the last point",
    Reason.CHAIN_CHANGED: "the backing chain is not the one of the last point",
    Reason.MEMORY_SNAPSHOT_PRESENT: "bitmaps would break the revert of its internal snapshot",
    Reason.VERIFICATION_FAILED: "a range the bitmap called clean had changed",
    Reason.NO_BITMAP_SUPPORT: "this kind of image holds no dirty bitmap; changes found by hash",
    Reason.BITMAPS_UNWANTED: "the policy wants no bitmap to be kept; changes found by hash",
    Reason.HOST_CANNOT: "this host's libvirt has no incremental backup",
}


@dataclass(frozen=True)
class Base:
    """The last committed image of a disk, as far as a decision needs it."""

    point: str
    checkpoint: Optional[str]
    size: int
    path: str
    chain: tuple[str, ...]
    damaged: bool
    length: int
    """How many points the disk's chain holds, the full included."""


@dataclass(frozen=True)
class DiskDecision:
    """How one disk is read in one capture."""

    target: str
    mode: Mode
    method: Method
    reason: Reason
    base: Optional[str] = None
    """The point that an incremental is laid over."""
    bitmap: Optional[str] = None
    """The dirty bitmap that is read; only with method ``bitmap``."""
    tracked: bool = True
    """Whether this capture leaves a new bitmap in the image."""

    @property
    def explanation(self) -> str:
        """Give the reason as a sentence for people."""
        return EXPLANATIONS[self.reason]


@dataclass(frozen=True)
class CapturePolicy:
    """What the operator set about fulls and incrementals."""

    mode: RequestedMode = RequestedMode.AUTO
    full_every: int = 0
    """A full at the latest after this many points of a chain; 0: never by count."""
    keep_bitmaps: bool = True
    """Whether bitmaps stay in the images between captures; without them all is read and compared.
    """


def decide(
    survey: DiskSurvey,
    base: Optional[Base],
    policy: CapturePolicy,
    *,
    machine_known: bool,
    host_incremental: bool,
) -> DiskDecision:
    """Decide how one disk is read.

    ``base`` is the disk's last committed image, ``machine_known`` whether the
    repository holds any point of the machine, ``host_incremental`` whether the
    host can make checkpoints at all.
    """
    target = survey.disk.target
    # libvirt makes no checkpoint of a read-only disk.
    holds_bitmaps = survey.disk.holds_bitmaps and not survey.disk.read_only
    may_track = holds_bitmaps and policy.keep_bitmaps
    tracked = may_track and host_incremental and not survey.memory_snapshot
    reason = _reason_against_base(survey, base, policy, machine_known=machine_known)
    if reason is not None or base is None:
        return DiskDecision(
            target,
            Mode.FULL,
            Method.EVERYTHING,
            reason or Reason.NO_BASE,
            tracked=tracked,
        )
    if not may_track:
        return DiskDecision(
            target,
            Mode.INCREMENTAL,
            Method.COMPARE,
            Reason.BITMAPS_UNWANTED if holds_bitmaps else Reason.NO_BITMAP_SUPPORT,
            base=base.point,
            tracked=False,
        )
    reason = _reason_against_bitmap(survey, base, host_incremental=host_incremental)
    if reason is not None:
        return DiskDecision(target, Mode.FULL, Method.EVERYTHING, reason, tracked=tracked)
    return DiskDecision(
        target,
        Mode.INCREMENTAL,
        Method.BITMAP,
        Reason.USABLE,
        base=base.point,
        bitmap=base.checkpoint,
        tracked=tracked,
    )


def _reason_against_base(
    survey: DiskSurvey, base: Optional[Base], policy: CapturePolicy, *, machine_known: bool
) -> Optional[Reason]:
    """Say why the last point cannot be the base, whatever the bitmap says."""
    if policy.mode is RequestedMode.FULL:
        return Reason.REQUESTED
    if base is None:
        return Reason.NEW_DISK if machine_known else Reason.NO_BASE
    checks = (
        (base.damaged, Reason.BASE_DAMAGED),
        (base.path != survey.disk.path, Reason.DISK_REPLACED),
        (survey.size < base.size, Reason.DISK_SHRUNK),
        (_full_is_due(policy, base), Reason.FULL_DUE),
    )
    return next((reason for failed, reason in checks if failed), None)


def _full_is_due(policy: CapturePolicy, base: Base) -> bool:
    return policy.mode is RequestedMode.AUTO and 0 < policy.full_every <= base.length


def _reason_against_bitmap(
    survey: DiskSurvey, base: Base, *, host_incremental: bool
) -> Optional[Reason]:
    """Say why the base's bitmap cannot be believed, if so."""
    if not host_incremental:
        return Reason.HOST_CANNOT
    if survey.memory_snapshot:
        return Reason.MEMORY_SNAPSHOT_PRESENT
    if base.chain != survey.chain:
        return Reason.CHAIN_CHANGED
    bitmap = survey.bitmap(base.checkpoint) if base.checkpoint else None
    if bitmap is None:
        return Reason.BITMAP_MISSING
    if bitmap.inconsistent:
        return Reason.BITMAP_INCONSISTENT
    if not bitmap.recording:
        return Reason.BITMAP_DISABLED
    return None if bitmap.persistent else Reason.BITMAP_NOT_PERSISTENT
