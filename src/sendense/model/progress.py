"""Progress of long work, as the numbers that a bar, a log line and the API show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol


@dataclass(frozen=True)
class Progress:
    """How far one disk (or one step) of a run has come."""

    phase: str
    """``backup``, ``restore``, ``verify``, ``merge``."""
    subject: str
    """The disk's target, or what else is worked on."""
    done: int
    """Bytes handled."""
    total: int
    """Bytes to handle, as far as known now; it may grow."""
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Give bytes per second so far."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> Optional[float]:
        """Give the seconds left at this rate, if they can be told."""
        if self.rate <= 0 or self.total < self.done:
            return None
        return (self.total - self.done) / self.rate


class ProgressListener(Protocol):
    """Takes progress; called from several threads, must return quickly and never raise."""

    def __call__(self, progress: Progress, /) -> None:
        """Take one report."""


def silent(progress: Progress, /) -> None:
    """Listen to nothing."""
