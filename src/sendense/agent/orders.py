"""Orders of the control plane, held against this host before anything is done.

A ticket is signed, and still not believed further than needed: names become file names,
paths are opened by root.  And the control plane decided from a survey that may be minutes
old: each decision is checked against a new one, and where it no longer holds the capture
fails as *source changed*, so that the control plane looks and decides again.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from sendense.errors import Rejected, SourceChanged
from sendense.model.decision import DiskDecision, Method
from sendense.model.expectation import expected_disk, first_change
from sendense.model.plan import CapturePlan, DiskPlan
from sendense.model.survey import DiskSurvey, Survey, is_own
from sendense.model.ticket import CaptureOrder
from sendense.units import MIB

_POINT = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")
_AGAIN = "survey the machine and decide again"


def ensure_capture_order(order: CaptureOrder) -> None:
    """Refuse an order that makes no sense whatever this host looks like."""
    ensure_uuid(order.machine)
    if not _POINT.fullmatch(order.point_id):
        raise Rejected(f"{order.point_id[:80]!r} is no id of a point")
    targets = [decision.target for decision in order.disks]
    if not targets or len(set(targets)) != len(targets):
        raise Rejected("the ticket names no disk, or one twice")
    size = order.granularity
    if size and (not 512 <= size <= MIB or size & (size - 1)):
        raise Rejected(f"{size} is no granularity: a power of 2 from 512 to {MIB}")
    for decision in order.disks:
        if (decision.method is Method.BITMAP) != (decision.bitmap is not None):
            raise Rejected(f"disk {decision.target}: a bitmap and the method bitmap go together")
        if decision.bitmap is not None and not is_own(decision.bitmap):
            raise Rejected(f"disk {decision.target}: the bitmap {decision.bitmap!r} is not ours")


def ensure_uuid(machine: str) -> None:
    """Refuse what is no UUID as libvirt writes it: it names files."""
    try:
        plain = str(uuid.UUID(machine))
    except ValueError:
        plain = ""
    if plain != machine:
        raise Rejected(f"{machine[:80]!r} is no UUID of a machine")


def plan_of(order: CaptureOrder, survey: Survey, *, granularity: int) -> CapturePlan:
    """Give the plan of a capture, if each decision of the order still holds.

    ``granularity`` is the host's own, for an order that says none.
    """
    _ensure_expected(order, survey)
    seen = {item.disk.target: item for item in survey.disks}
    disks = []
    for decision in order.disks:
        disk = seen.get(decision.target)
        if disk is None:
            raise _changed(f"the machine has no disk {decision.target} any more", decision)
        _ensure_holds(decision, disk, survey)
        disks.append(DiskPlan(disk, decision))
    return CapturePlan(
        point_id=order.point_id,
        survey=survey,
        disks=tuple(disks),
        consistency=order.consistency,
        strict=order.strict,
        granularity=order.granularity or granularity,
        mountpoints=order.mountpoints,
    )


def _ensure_expected(order: CaptureOrder, survey: Survey) -> None:
    """Refuse other disks than the order was made for, whatever their targets are."""
    if not order.expected:
        return  # of a control plane that does not say yet; it looks at the status by itself
    change = first_change(order.expected, (expected_disk(item) for item in survey.disks))
    if change is not None:
        raise SourceChanged(f"since the capture was planned, {change}", hint=_AGAIN)


def _ensure_holds(decision: DiskDecision, seen: DiskSurvey, survey: Survey) -> None:
    target = decision.target
    if decision.tracked:
        if not seen.disk.holds_bitmaps or seen.disk.read_only:
            raise _changed(f"disk {target} cannot hold a bitmap", decision)
        if not survey.incremental:
            raise _changed("this host's libvirt and QEMU make no checkpoints", decision)
        if seen.memory_snapshot:
            raise _changed(f"disk {target} holds a memory snapshot now", decision)
    if decision.method is not Method.BITMAP or decision.bitmap is None:
        return
    bitmap = seen.bitmap(decision.bitmap)
    if bitmap is None:
        raise _changed(f"disk {target} has no bitmap {decision.bitmap}", decision)
    checks = (
        (bitmap.inconsistent, "inconsistent"),
        (not bitmap.recording, "not recording"),
        (not bitmap.persistent, "not persistent"),
    )
    broken = [word for failed, word in checks if failed]
    if broken or seen.memory_snapshot or not survey.incremental:
        why = " and ".join(broken) or "of no use on this machine now"
        raise _changed(f"the bitmap {decision.bitmap} of disk {target} is {why}", decision)


def _changed(message: str, decision: DiskDecision) -> SourceChanged:
    return SourceChanged(
        f"{message}: the decision for disk {decision.target} ({decision.mode.value}, "
        f"{decision.reason.value}) does not hold",
        hint=_AGAIN,
        target=decision.target,
    )


def named(targets: Sequence[str]) -> str:
    """List disks for people."""
    return ", ".join(targets)
