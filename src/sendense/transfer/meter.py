"""Counts bytes and tells a listener, a few times a second."""

from __future__ import annotations

from sendense import clock
from sendense.model.progress import Progress, ProgressListener

_INTERVAL_S = 0.2


class Meter:
    """The progress of one disk; the first and the last report always come through."""

    def __init__(self, listener: ProgressListener, *, phase: str, subject: str, total: int) -> None:
        """Begin to count."""
        self._listener = listener
        self._phase = phase
        self._subject = subject
        self._total = total
        self._done = 0
        self._begun = clock.monotonic()
        self._reported = self._begun
        self._report()

    @property
    def seconds(self) -> float:
        """Give the seconds since the beginning."""
        return clock.monotonic() - self._begun

    def add(self, count: int) -> None:
        """Count bytes."""
        self._done += count
        now = clock.monotonic()
        if now - self._reported >= _INTERVAL_S:
            self._reported = now
            self._report()

    def finish(self) -> None:
        """Report the end: what was done is all there was to do."""
        self._total = self._done
        self._report()

    def _report(self) -> None:
        self._listener(
            Progress(
                self._phase,
                self._subject,
                done=self._done,
                total=max(self._total, self._done),
                elapsed_s=self.seconds,
            )
        )
