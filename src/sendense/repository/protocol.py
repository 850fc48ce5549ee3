"""What a repository promises, whatever it is made of.

Every implementation passes the same conformance suite (``tests/contract``).

* **Visible or not.**  A point is listed only after :meth:`PointWriter.commit`
  returned: data first, made durable, then the manifest, then the point.  A run
  that dies leaves nothing that is listed or used as a parent; what it left is
  swept by the next writer on that machine.
* **Whole.**  Each point restores by itself, and may be deleted in any order.
* **Known.**  Data that is read is checked against a strong hash before the
  caller sees it; a mismatch raises :class:`~sendense.errors.Damaged`.
* **Alone.**  One writer per machine; another gets
  :class:`~sendense.errors.Busy` with the holder's name.  Readers of a point and
  its deletion exclude each other.
* **Held.**  A point that is pinned or locked is not deleted, and neither is any
  other that was to go with it: :class:`~sendense.errors.Held` says what keeps it.
* **In order.**  Points are ordered by ``sequence``, which the repository gives
  out, never by clocks or file times.

Objects are used by one thread at a time, except that the :class:`DiskWriter` of
different disks of one point may be used in parallel, and that :meth:`DiskReader.read_at` and
:meth:`DiskReader.extents` may be called from many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import Protocol, Self

from sendense.model.decision import DiskDecision, Mode
from sendense.model.hold import Hold, HoldKind
from sendense.model.machine import Disk, Machine
from sendense.model.point import Consistency, DiskImage, RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.model.stream import BlockSink, Buffer, Chunk
from sendense.repository.extents import Extent
from sendense.units import KIB

BLOCK = 64 * KIB
"""The coarsest block that is compared and stored."""


@dataclass(frozen=True)
class DiskSpec:
    """What a writer must know of a disk before its first byte."""

    disk: Disk
    size: int
    """Virtual size in bytes."""
    chain: tuple[str, ...]
    decision: DiskDecision
    granularity: int
    """Bytes of one bit of the dirty bitmap: the finest change worth storing on its own."""


@dataclass(frozen=True)
class PointDraft:
    """What the capture knows of a point; the repository adds order and sizes."""

    machine: Machine
    taken_at: datetime
    mode: Mode
    consistency: Consistency
    checkpoint: str | None
    frozen_s: float | None
    seconds: float
    warnings: tuple[str, ...]
    host: str
    versions: str


class DiskWriter(BlockSink, Protocol):
    """Takes the chunks of one disk.

    With method ``everything`` ranges that are never named read as zero.  With
    method ``bitmap`` they are the parent's.  With method ``compare`` the caller
    names the whole disk, and the writer keeps what differs from the parent.
    """

    def finish(self, *, read_bytes: int, sampled_blocks: int, seconds: float) -> DiskImage:
        """Make the disk durable and describe it."""

    def discard(self) -> None:
        """Forget all of it, so that the disk can be begun again in the same point."""


class PointWriter(Protocol):
    """One point under way; leaving its ``with`` block without a commit removes it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def disk(self, spec: DiskSpec) -> DiskWriter:
        """Begin one disk.  Its base, if any, must be the disk's last committed image."""

    def attach(self, name: str, content: bytes) -> None:
        """Add a small file (``domain.xml``, ``nvram.fd``)."""

    def give_up(self) -> None:
        """Have disks that are being written end soon, from any thread: there will be no point.

        A writer may wait for a slow store; whoever ends the run need not wait with it.
        """

    def commit(self, draft: PointDraft) -> RecoveryPoint:
        """Make the point visible: all disks finished, everything durable, manifest last."""


class DiskReader(Protocol):
    """Reads one disk of a point; every byte is verified before it is handed out."""

    image: DiskImage

    def chunks(self) -> Iterator[Chunk]:
        """Give the whole disk in order, zeroes included, at most 1 MiB of data a chunk.

        Raises :class:`~sendense.errors.Damaged` with the offset where a hash fails.
        A chunk's data is valid until the next one is asked for.
        """

    def matches(self, offset: int, data: Buffer) -> bool:
        """Tell whether ``data`` is what the disk holds at ``offset`` (aligned to 64 KiB).

        Behind its end a disk reads as zero: a disk that grew since is compared so.
        """

    def changes(self, base: DiskReader, *, block_size: int = BLOCK) -> Iterator[Chunk] | None:
        """Give what differs from another image of the disk, if that can be told without reading.

        In order and verified, as :meth:`chunks`; what is not named is equal.  Whichever of the
        two is older or longer: behind its end ``base`` reads as zero, and what it holds behind
        the end of this disk is not named.  A range that is zero here may be named although
        it is zero in both.

        Chunks that follow each other begin and end at multiples of ``block_size`` (a power of
        2), or at the disk's end: for a sink that takes whole blocks.

        None where this kind cannot tell, as of a disk in another repository.
        """

    def read_at(self, offset: int, length: int) -> bytes:
        """Give any range inside the disk, checked.

        Made for clients that jump about: many threads may call it at once, and what was read
        lately may be kept.  :class:`~sendense.errors.Damaged` where a part of the range is.
        """

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Tell of a range what reads as zero: in order, without a gap, without reading it.

        What is not said to be zero may be so all the same.  May be called from many threads.
        """


class PointReader(Protocol):
    """One point opened for reading; keeps it from being deleted meanwhile."""

    point: RecoveryPoint

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def disk(self, identity: str) -> DiskReader:
        """Open one disk by :attr:`~sendense.model.machine.Disk.identity`."""

    def attachment(self, name: str) -> bytes:
        """Give a small file, checked against its hash."""


class VerifyLevel(str, Enum):
    """How much a verification reads."""

    STRUCTURE = "structure"
    """Manifests, hash tables and image metadata; no data."""
    DATA = "data"
    """Every byte against its hash."""


@dataclass(frozen=True)
class Finding:
    """One thing that a verification found wrong."""

    point: str
    disk: str | None
    offset: int | None
    message: str


@dataclass(frozen=True)
class Verification:
    """What a verification of one point looked at, and found."""

    point: str
    level: VerifyLevel
    checked_bytes: int
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def sound(self) -> bool:
        """Tell whether nothing was found wrong."""
        return not self.findings


@dataclass(frozen=True)
class LostPoint:
    """A point that is there, and of which nothing can be told."""

    machine: str
    """The machine's UUID."""
    id: str
    message: str
    """Why it cannot be read."""
    newest: int
    """The highest ``sequence`` that it can have."""


@dataclass(frozen=True)
class RepositoryInfo:
    """A repository as a whole."""

    location: str
    kind: str
    """``qcow2-chain``."""
    id: str
    created_at: datetime
    machines: int
    points: int
    stored_bytes: int
    free_bytes: int | None


class Repository(Protocol):
    """All points of all machines in one place."""

    location: str

    def info(self) -> RepositoryInfo:
        """Describe the repository as a whole."""

    def points(self, machine: str | None = None) -> tuple[RecoveryPoint, ...]:
        """List points, by machine UUID and sequence; only one machine's where it is named."""

    def lost(self, machine: str | None = None) -> tuple[LostPoint, ...]:
        """List the points whose manifest cannot be read: they are missing in :meth:`points`."""

    def point(self, point_id: str) -> RecoveryPoint:
        """Give one point; :class:`~sendense.errors.NotFound` where there is none."""

    def begin(self, machine: Machine, point_id: str) -> PointWriter:
        """Start a point; holds the machine's writer lock, and sweeps what a dead writer left."""

    def open(self, point_id: str) -> PointReader:
        """Open a point for reading."""

    def delete(
        self, point_ids: Sequence[str], *, progress: ProgressListener = silent
    ) -> tuple[str, ...]:
        """Delete points; a child that needs a deleted parent absorbs it first.

        If one of them is held, :class:`~sendense.errors.Held` is raised and none is
        deleted.  Interrupted at any step, all other points stay good, and the next writer
        or deletion finishes the work.  Gives the ids deleted.
        """

    def holds(self, machine: str | None = None) -> tuple[Hold, ...]:
        """List pins and locks, by point and kind.

        A lock whose date has passed keeps nothing (:meth:`~sendense.model.hold.Hold.in_force`)
        and may be listed or not.
        """

    def hold(self, hold: Hold) -> None:
        """Pin or lock a point, durably; :class:`~sendense.errors.NotFound` where there is none.

        A point has one pin and one lock at most.  A new pin replaces the older one.  A lock
        that is in force gives way to one of the same or a later date only;
        :class:`~sendense.errors.Held` otherwise.  Works beside readers and writers.
        """

    def release_hold(self, point_id: str, kind: HoldKind) -> None:
        """Take a pin off, or a lock whose date has passed.

        :class:`~sendense.errors.Held` for a lock in force, and
        :class:`~sendense.errors.NotFound` where there is nothing to take off.
        """

    def verify(
        self,
        point_id: str,
        level: VerifyLevel,
        *,
        only_new: bool = False,
        progress: ProgressListener = silent,
    ) -> Verification:
        """Check one point; damage found is remembered in the point's state.

        With ``only_new`` what its disks share with the images that they are laid over may be
        passed over: then a small change is checked at a small cost.
        """

    def rebuild(self) -> int:
        """Make the list of points again from what is stored; gives how many there are."""

    def close(self) -> None:
        """Let go of files and connections; the repository is not used afterwards."""
