"""The plan of a capture: all that will happen, as a value, before anything does.

A dry run prints it, the capture carries it out, the tests compare it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sendense.model.decision import DiskDecision, Method, Mode
from sendense.model.point import Consistency
from sendense.model.survey import OWN_PREFIX, DiskSurvey, Survey


@dataclass(frozen=True)
class DiskPlan:
    """One disk of a capture: what was seen of it, and how it will be read."""

    survey: DiskSurvey
    decision: DiskDecision

    @property
    def target(self) -> str:
        """Give the disk's target."""
        return self.survey.disk.target

    @property
    def estimated_bytes(self) -> int:
        """Guess what will be read: the bitmap's count, or what is allocated."""
        if self.decision.method is Method.BITMAP and self.decision.bitmap is not None:
            bitmap = self.survey.bitmap(self.decision.bitmap)
            return bitmap.dirty_bytes if bitmap is not None else 0
        return min(self.survey.allocated_bytes, self.survey.size)


@dataclass(frozen=True)
class CapturePlan:
    """One capture of one machine."""

    point_id: str
    survey: Survey
    """What was seen, with all disks of the machine, also those this run leaves out."""
    disks: tuple[DiskPlan, ...]
    consistency: Consistency
    strict: bool
    """A freeze that fails ends the run, instead of falling back to ``crash`` with a warning."""
    granularity: int
    """Wanted bytes per bit of new bitmaps."""
    mountpoints: tuple[str, ...] = ()
    """Guest mount points to freeze; all where it is empty."""

    @property
    def checkpoint(self) -> str:
        """Give the name of the checkpoint and bitmaps that this capture makes."""
        return f"{OWN_PREFIX}{self.point_id}"

    @property
    def tracked(self) -> tuple[DiskPlan, ...]:
        """Give the disks that get a new bitmap."""
        return tuple(item for item in self.disks if item.decision.tracked)

    @property
    def mode(self) -> Mode:
        """Give the mode of the whole point."""
        modes = {item.decision.mode for item in self.disks}
        return Mode.INCREMENTAL if Mode.INCREMENTAL in modes else Mode.FULL

    @property
    def estimated_bytes(self) -> int:
        """Guess what will be read in all."""
        return sum(item.estimated_bytes for item in self.disks)
