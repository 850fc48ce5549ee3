"""Recovery points: what a capture left in a repository.

Every point restores by itself.  A point names, for each disk, how it was read
(the decision with its reason), what was stored, and under which strong hash,
so that a list of points can be explained without the host they came from.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Optional

from sendense.model.decision import DiskDecision, Mode
from sendense.model.machine import Disk, Machine

SAFETY = "safety.json"
"""The attachment by which a safety point is known: it says which restore the point undoes."""


class Consistency(str, Enum):
    """What state the guest's file systems are in, in a point."""

    CRASH = "crash"
    """As after a power cut: all disks at one moment, nothing flushed by the guest."""
    FILESYSTEM = "filesystem"
    """The guest froze its file systems through its agent."""
    APPLICATION = "application"
    """As filesystem, with the guest's own freeze hooks (or VSS) run by the agent."""


class PointState(str, Enum):
    """Whether a point can be trusted."""

    COMPLETE = "complete"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class DiskImage:
    """One disk inside a point."""

    disk: Disk
    size: int
    """Virtual size in bytes at the point's moment; a restore gives exactly this size."""
    chain: tuple[str, ...]
    """The image and its backing files on the host at that moment."""
    decision: DiskDecision
    parent: Optional[str]
    """The point whose image of this disk this one is laid over; none for a full."""
    block_size: int
    """Bytes that one hash covers."""
    read_bytes: int
    """Bytes read from the guest's disk."""
    data_bytes: int
    """Bytes of data this point stores for the disk, before compression."""
    zero_bytes: int
    """Bytes this point states to be zero."""
    stored_bytes: int
    """Bytes this disk takes in the repository, metadata included."""
    digest: str
    """BLAKE3 (hex) over the disk's table of block hashes."""
    sampled_blocks: int = 0
    """Blocks that the bitmap called clean, re-read and found equal to the parent."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Attachment:
    """A small file that goes with a point: domain XML, NVRAM."""

    name: str
    size: int
    digest: str
    """BLAKE3 (hex) of the content."""


@dataclass(frozen=True)
class RecoveryPoint:
    """One moment of one machine in a repository."""

    id: str
    sequence: int
    """Order among the points of a machine, from 1; clocks and file times are never used."""
    machine: Machine
    taken_at: datetime
    """When the guest was frozen at this moment (UTC)."""
    mode: Mode
    """``incremental`` if at least one disk was read by what changed."""
    consistency: Consistency
    """What was reached, which may be less than what was asked for; then a warning says why."""
    checkpoint: Optional[str]
    """The checkpoint on the host that the next incremental starts from."""
    frozen_s: Optional[float]
    """Seconds the guest's file systems were frozen."""
    seconds: float
    disks: tuple[DiskImage, ...]
    attachments: tuple[Attachment, ...]
    warnings: tuple[str, ...]
    host: str
    versions: str
    """libvirt, QEMU and our version at the time, for support."""
    state: PointState = PointState.COMPLETE

    @property
    def stored_bytes(self) -> int:
        """Give what this point takes in the repository."""
        return sum(image.stored_bytes for image in self.disks)

    @property
    def size(self) -> int:
        """Give the virtual size of all disks."""
        return sum(image.size for image in self.disks)

    @property
    def is_safety(self) -> bool:
        """Tell whether it was made of what a restore was about to overwrite, to undo that."""
        return any(item.name == SAFETY for item in self.attachments)

    def image_of(self, identity: str) -> Optional[DiskImage]:
        """Give the image of the disk with that identity, if this point holds it."""
        return next((image for image in self.disks if image.disk.identity == identity), None)


def new_point_id(moment: datetime) -> str:
    """Make an id for a point begun at ``moment``: its milliseconds, then 32 random bits, in hex.

    Ids sort by age, which is how the oldest of our bitmaps on a host is told
    where there is nothing else to go by.  The order of points is never taken
    from them.
    """
    return f"{int(moment.timestamp() * 1000):012x}{secrets.token_hex(4)}"


def latest_image(
    points: tuple[RecoveryPoint, ...], identity: str
) -> Optional[tuple[RecoveryPoint, DiskImage]]:
    """Find the newest point that holds a disk: the only base an incremental may use."""
    for point in sorted(points, key=lambda item: item.sequence, reverse=True):
        image = point.image_of(identity)
        if image is not None:
            return point, image
    return None
