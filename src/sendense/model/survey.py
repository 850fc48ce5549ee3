"""What a look at the host tells of a disk right before a capture.

A survey is the input of the decisions in :mod:`sendense.model.decision`: it is
made by ``capture`` in one pass and changes nothing on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from sendense.model.machine import Disk, Machine

OWN_PREFIX = "sendense-"
"""Checkpoints and bitmaps of this name are ours; nothing else on a host is."""


def is_own(name: str) -> bool:
    """Tell whether a checkpoint or bitmap is one that we made."""
    return name.startswith(OWN_PREFIX)


@dataclass(frozen=True)
class Bitmap:
    """One QEMU dirty bitmap on the topmost image of a disk."""

    name: str
    granularity: int
    """Bytes that one bit stands for."""
    dirty_bytes: int
    """Bytes marked dirty, in whole granules; 0 where the image is offline and it is not known."""
    recording: bool
    persistent: bool
    inconsistent: bool


@dataclass(frozen=True)
class DiskSurvey:
    """One disk with what decides how it can be read."""

    disk: Disk
    size: int
    """Virtual size in bytes."""
    allocated_bytes: int
    """Bytes of the top image on the host's storage, an upper guess of what a full reads."""
    chain: tuple[str, ...]
    """Paths of the image and its backing files, top first."""
    bitmaps: tuple[Bitmap, ...]
    memory_snapshot: bool
    """Whether an internal snapshot lives in the image: bitmaps would break its revert."""

    def bitmap(self, name: str) -> Optional[Bitmap]:
        """Give the bitmap of that name, if the image has it."""
        return next((item for item in self.bitmaps if item.name == name), None)


@dataclass(frozen=True)
class Survey:
    """A machine with all its disks, and what the host can do with it."""

    machine: Machine
    disks: tuple[DiskSurvey, ...]
    checkpoints: tuple[str, ...]
    """Names of all checkpoints libvirt knows for the domain, foreign ones too."""
    incremental: bool
    """Whether this host's libvirt offers checkpoints and incremental backup."""
