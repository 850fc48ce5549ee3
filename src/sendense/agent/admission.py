"""Which work may begin now, and what keeps the rest waiting: one pure decision.

Work begins in the order it came, within the host's limits.  One that the backup window
holds, or whose machine is busy, lets others pass; one that waits for room does not, or else a
machine of many disks would wait for ever behind small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from sendense.agent.window import Window
from sendense.errors import Rejected


@dataclass(frozen=True)
class Claim:
    """What one piece of work takes of the host."""

    id: str
    exports: int
    """Disks that it reads or writes."""
    machine: Optional[str]
    """UUID of the machine that it needs for itself."""
    windowed: bool = True
    """Whether it has to wait for the backup window: captures do, restores do not."""


@dataclass(frozen=True)
class HostLimits:
    """What the host gives."""

    vms: int
    exports: int
    window: Optional[Window] = None


@dataclass(frozen=True)
class Admission:
    """What may begin, and why the rest may not."""

    begin: tuple[str, ...]
    waiting: dict[str, str]
    """Reasons by id."""


def ensure_possible(claim: Claim, limits: HostLimits) -> None:
    """Refuse at once what could never begin."""
    if claim.exports > limits.exports:
        raise Rejected(
            f"it has {claim.exports} disks, and this host allows {limits.exports} exports at once",
            hint="raise nbd_export.max_concurrent_exports of the agent",
        )


def admit(
    queue: Sequence[Claim], running: Sequence[Claim], limits: HostLimits, local: datetime
) -> Admission:
    """Decide; ``queue`` is in the order of arrival, ``local`` the host's local time."""
    vms, exports = len(running), sum(item.exports for item in running)
    machines: set[Optional[str]] = {item.machine for item in running if item.machine}
    begin: list[str] = []
    waiting: dict[str, str] = {}
    full = ""
    for item in queue:
        closed = _held_by_window(item, limits, local)
        if closed:
            # A restore of the same machine need not wait for the night as well.
            waiting[item.id] = closed
            continue
        if item.machine in machines:
            waiting[item.id] = "other work on the same machine"
            continue
        full = full or _no_room(item, vms, exports, limits)
        if full:
            waiting[item.id] = full
            if item.machine:
                # What came later for the same machine does not pass it.
                machines.add(item.machine)
            continue
        begin.append(item.id)
        vms, exports = vms + 1, exports + item.exports
        if item.machine:
            machines.add(item.machine)
    return Admission(tuple(begin), waiting)


def _held_by_window(item: Claim, limits: HostLimits, local: datetime) -> str:
    if not item.windowed or limits.window is None or limits.window.is_open(local):
        return ""
    opens = limits.window.opens_at(local)
    return (
        f"the backup window of this host, {limits.window}: it opens at "
        f"{opens:%Y-%m-%d %H:%M} local time"
    )


def _no_room(item: Claim, vms: int, exports: int, limits: HostLimits) -> str:
    if vms >= limits.vms:
        return f"the host's limit of {limits.vms} machines at once (performance.max_concurrent_vms)"
    # Alone it begins even above a limit that was lowered after it came.
    if vms and exports + item.exports > limits.exports:
        return (
            f"the host's limit of {limits.exports} exports at once, of which "
            f"{max(limits.exports - exports, 0)} are free (nbd_export.max_concurrent_exports)"
        )
    return ""
