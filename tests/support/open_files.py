"""Whether the run of the tests keeps files and sockets open that nobody needs any more.

All tests run in one process, thousands of them.  What one leaves open stays open, and one that
has nothing to do with it fails in the end: at the limit of the process, or earlier, where
something takes no descriptor above 1023.  So it is counted after each test, and a run that ends
with many more than it began with has failed.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

_OWN = Path("/proc/self/fd")
_LEFT_MOST = 200
"""So many more than at the beginning may be open at the end: caches, threads that take a moment."""
_LOOK_CLOSER = 400
"""Above so many it is not left to chance when Python frees what is used no more."""


class OpenFilesWatch:
    """Counts what is open, and knows after which tests there was more."""

    def __init__(self) -> None:
        """Begin to count."""
        self._before = self._last = self.highest = _count()
        self.highest_after = ""
        self._look_closer = _LOOK_CLOSER
        self._grown: Counter[str] = Counter()

    def look(self, test: str) -> None:
        """Count after a test."""
        now = _count()
        if now > self._look_closer:
            gc.collect()
            now = _count()
            self._look_closer = max(_LOOK_CLOSER, now + _LOOK_CLOSER // 4)
        if now > self.highest:
            self.highest, self.highest_after = now, test
        self._grown[test.partition("::")[0]] += now - self._last
        self._last = now

    def complaint(self) -> str:
        """Say at the end what is too much; nothing where all is well."""
        gc.collect()
        left = _count() - self._before
        if left <= _LEFT_MOST:
            return ""
        kinds = ", ".join(f"{number} {kind}" for kind, number in _kinds().most_common(8))
        modules = "\n".join(f"  {number:+d} {name}" for name, number in self._grown.most_common(10))
        return (
            f"{left} more descriptors are open than at the beginning: {kinds}.\n"
            f"At most {self.highest} were open, after {self.highest_after}.\n"
            f"Modules of tests after which there were more:\n{modules}"
        )


def _count() -> int:
    return len(os.listdir(_OWN))  # noqa: PTH208 - the quick way, after each test


def _kinds() -> Counter[str]:
    found: Counter[str] = Counter()
    for link in _OWN.iterdir():
        try:
            target = os.readlink(link)  # noqa: PTH115 - of a socket it is no path
        except OSError:
            continue
        found[Path(target).name if target.startswith("/") else target.partition(":")[0]] += 1
    return found
