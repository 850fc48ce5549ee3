"""One task of a worker: what it is given, what of it is measured, and the repository it works on.

The clock runs while the engine works: not while Python starts and loads modules, nor while the
passphrase becomes a key (0.1 s of processor time on purpose).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sendense.model.secret import Secret
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.opening import (
    Access,
    RepositorySettings,
    create_repository,
    open_repository,
)
from sendense.storage.counting import Counters
from sendense.storage.options import StoreOptions

LEVEL = 3
_PASSPHRASE = Secret("correct horse battery")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Task:
    """One verb: what it was given, and what is measured of it."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Begin."""
        self.arguments = arguments
        self.counters = Counters()
        self.facts: dict[str, Any] = {}
        self.seconds = 0.0
        self.processor_s = 0.0
        self._peak_before = 0

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - what JSON brought
        """Give an argument."""
        return self.arguments[name]

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Run the clocks; several times add up."""
        self._forget_peak()
        began, used = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - began
        self.processor_s += time.process_time() - used

    def _forget_peak(self) -> None:
        """Look for a new peak: making the key takes more than most of the work."""
        self._peak_before = max(self._peak_before, peak())
        _CLEAR.write_text("5")

    def create(self) -> DedupRepository:
        """Make the repository."""
        settings = RepositorySettings(compression_level=LEVEL)
        return _dedup(create_repository(self["url"], settings, self.access()))

    def open(self) -> DedupRepository:
        """Open the repository."""
        return _dedup(open_repository(self["url"], self.access()))

    def access(self) -> Access:
        """Give the passphrase, the folder for the index, and what counts requests."""
        keys = self.arguments.get("credentials") or {}
        return Access(
            secret=lambda _: _PASSPHRASE,
            cache=Path(self["cache"]),
            credentials={name: Secret(value) for name, value in keys.items()},
            store=StoreOptions(counters=self.counters),
        )

    def result(self) -> dict[str, Any]:
        """Give all of it."""
        return {
            "seconds": self.seconds,
            "processor_s": self.processor_s,
            "peak": max(self._peak_before, peak()),
            "working": peak(),
            "counts": {
                verb: [count.requests, count.bytes] for verb, count in self.counters.all().items()
            },
            "facts": self.facts,
        }


def peak() -> int:
    """Give the most memory that was resident so far, in bytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _dedup(repository: object) -> DedupRepository:
    if not isinstance(repository, DedupRepository):
        raise TypeError(f"{repository} is no dedup repository")
    return repository
