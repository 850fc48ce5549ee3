"""A capture under way: exports of one moment, which end in a commit or are taken back.

The order that never loses data (docs/architecture.md)::

    begin (guest frozen) -> thaw -> read and store -> point committed -> commit()
    anything fails       -> rollback: the NEW checkpoint goes, the old one stays

so that after a failure the next run is incremental from the old checkpoint and
complete.  Both kinds, of a running and of a stopped machine, look like this to
the workflow that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Optional, Protocol

from sendense.model.export import DiskExport
from sendense.model.point import Consistency


@dataclass(frozen=True)
class HostSettings:
    """Where and how a capture may work on this host."""

    uri: str = "qemu:///system"
    socket_dir: str = "/var/lib/libvirt/qemu/sendense"
    """NBD sockets; QEMU's user must be able to create files in it. Short: 107 bytes a path."""
    scratch_dir: str = "/var/lib/libvirt/qemu/sendense"
    """What the guest overwrites while a capture reads; local disk only."""
    state_dir: str = "/var/lib/sendense"
    """The journal of what is under way."""
    scratch_reserve_bytes: int = 1 << 30
    """Free space in ``scratch_dir`` under which a capture does not start, or is aborted."""
    agent_timeout_s: int = 10
    """How long the guest agent may take to answer."""
    max_bitmaps_per_vm: int = 3
    """Own bitmaps a disk may hold between runs; the oldest go first."""
    lock_wait_s: float = 5.0
    """How long to wait for a machine that another job holds, before saying busy."""


@dataclass(frozen=True)
class Moment:
    """What was reached when the capture began."""

    taken_at: datetime
    consistency: Consistency
    frozen_s: Optional[float]
    warnings: tuple[str, ...]


class CaptureSession(Protocol):
    """One running capture; leaving its ``with`` block without a commit rolls it back."""

    moment: Moment
    exports: tuple[DiskExport, ...]
    """One per disk of the plan, in its order."""
    domain_xml: str
    nvram: Optional[bytes]

    def __enter__(self) -> CaptureSession: ...

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None: ...

    def check(self) -> None:
        """Raise what the watchdog found (scratch full, guest gone); else do nothing.

        Called between chunks, and so cheap: of a capture on another host what it found may be
        a second old.
        """

    def confirm(self) -> None:
        """Raise unless all that was read until now is of the capture's moment.

        Called once, after the last byte and right before the point is committed: it looks anew,
        and raises as well where nobody can say.
        """

    def commit(self, *, drop: Sequence[str]) -> tuple[str, ...]:
        """End the capture with its point committed; drop own bitmaps that nobody needs.

        ``drop`` names the checkpoints that this run superseded; they go from all
        disks.  Other own ones (another repository's chain) stay, up to
        ``max_bitmaps_per_vm`` with the new one, oldest first out.  Gives
        warnings: a bitmap that could not be removed, say.
        """


class HostCapture(CaptureSession, Protocol):
    """A capture on the host where it is taken: it can be left to be settled later."""

    def park(self) -> tuple[str, ...]:
        """End the capture without saying whether its point was stored.

        The machine is free and nothing is served any more, while both checkpoints stay until
        :mod:`~sendense.capture.parking` settles it; the journal remembers.  Leaving the
        ``with`` block then takes nothing back.  Gives warnings.
        """
