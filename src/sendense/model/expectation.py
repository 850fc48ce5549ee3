"""The disks that a plan was made for, to be held against those that are there when it begins.

A capture may wait for hours in the queue of its host, and a decision names its disk by the target
alone.  A disk that was swapped meanwhile would be stored as the one that was planned, and one that
was added would be missing without a word.  So the capture begins only with the disks of the plan;
else the control plane looks and decides again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Optional

from sendense.model.machine import Disk
from sendense.model.survey import DiskSurvey


@dataclass(frozen=True)
class ExpectedDisk:
    """One disk as a plan was made for it."""

    target: str
    identity: str
    path: str
    format: str
    size: int = 0
    """Bytes; 0 where only the machine was looked at."""
    chain: str = ""
    """Digest of the paths of the image and its backing files: a ticket is a header, and a chain
    may be long.  Empty where only the machine was looked at."""


def expected_disk(seen: DiskSurvey) -> ExpectedDisk:
    """Give what a survey tells of a disk."""
    chain = sha256("\0".join(seen.chain).encode("utf-8", "surrogatepass")).hexdigest()
    disk = seen.disk
    return ExpectedDisk(disk.target, disk.identity, disk.path, disk.format, seen.size, chain)


def named_disk(disk: Disk) -> ExpectedDisk:
    """Give what the definition of its machine tells of a disk."""
    return ExpectedDisk(disk.target, disk.identity, disk.path, disk.format)


def first_change(expected: Iterable[ExpectedDisk], seen: Iterable[ExpectedDisk]) -> Optional[str]:
    """Say in words what is another disk than expected; none where all are the same."""
    before = {item.target: item for item in expected}
    after = {item.target: item for item in seen}
    for target in sorted({*before, *after}):
        if target not in before:
            return f"disk {target} was added"
        if target not in after:
            return f"disk {target} is not there any more"
        change = _change(before[target], after[target])
        if change is not None:
            return f"disk {target} {change}"
    return None


def _change(before: ExpectedDisk, after: ExpectedDisk) -> Optional[str]:
    checks = (
        (before.identity, after.identity, "is another one: {1}, and not {0}"),
        (before.path, after.path, "lies at {1}, and not at {0}"),
        (before.format, after.format, "is of the format {1}, and not {0}"),
        (before.size, after.size, "has {1} bytes, and not {0}"),
        (before.chain, after.chain, "has other backing files"),
    )
    return next((words.format(old, new) for old, new, words in checks if old != new), None)
