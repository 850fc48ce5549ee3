"""What went wrong while a point was served: for the log, and for the summary at the end.

A client that meets damage may ask for the same range a thousand times.  Each place is told once.
The summary is also kept in the folder of the mount, for whoever ends a server that was left
running.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sendense.errors import Damaged, SendenseError, Unavailable

_LOG = logging.getLogger(__name__)

FILE = "trouble.json"
_MOST = 200
"""Places that are told one by one."""


@dataclass(frozen=True)
class BadRange:
    """A range of a disk that cannot be read."""

    disk: str
    offset: int
    length: int
    message: str


@dataclass(frozen=True)
class Trouble:
    """All that went wrong."""

    damaged: tuple[BadRange, ...] = ()
    more: int = 0
    """Further places that are damaged."""
    failed: int = 0
    """Requests that failed for another reason."""
    last: str = ""
    """The last such reason."""

    def __bool__(self) -> bool:
        return bool(self.damaged or self.failed)

    def error(self, point: str) -> SendenseError | None:
        """Give it as the error that a command ends with; none where all went well."""
        if self.damaged:
            places = [f"{item.disk} at {item.offset}+{item.length}" for item in self.damaged[:5]]
            count = len(self.damaged) + self.more
            rest = f" and {count - len(places)} more" if count > len(places) else ""
            return Damaged(
                f"point {point} is damaged; reads of these ranges failed: "
                f"{', '.join(places)}{rest}",
                hint=f"'sendense verify {point}' finds all of it; other points may be whole",
                point=point,
                ranges=count,
            )
        if self.failed:
            return Unavailable(
                f"{self.failed} requests to the disks of point {point} failed, the last because: "
                f"{self.last}",
                hint="look after the repository's storage; a client got errors, never wrong data",
                point=point,
            )
        return None


def read_trouble(folder: Path) -> Trouble:
    """Read the summary of a mount; none where there is nothing to read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        damaged = tuple(BadRange(**item) for item in content.pop("damaged"))
        return Trouble(damaged=damaged, **content)
    except (OSError, ValueError, TypeError, KeyError):
        return Trouble()


class Troubles:
    """Takes note, from many threads."""

    def __init__(self, folder: Path, point: str) -> None:
        """Keep the summary in ``folder``."""
        self._folder = folder
        self._point = point
        self._lock = threading.Lock()
        self._seen: set[tuple[str, int]] = set()
        self._damaged: list[BadRange] = []
        self._failed = 0
        self._last = ""

    def note(self, disk: str, offset: int, length: int, error: BaseException) -> None:
        """Take note of a request that failed."""
        if isinstance(error, Damaged):
            start = int(error.data.get("offset", offset))
            self._note_damage(
                BadRange(disk, start, int(error.data.get("length", length)), error.message)
            )
        else:
            self._note_failure(disk, offset, length, error)

    def _note_damage(self, bad: BadRange) -> None:
        with self._lock:
            if (bad.disk, bad.offset) in self._seen:
                return
            self._seen.add((bad.disk, bad.offset))
            told = len(self._damaged) < _MOST
            if told:
                self._damaged.append(bad)
                self._write()
        if told:
            _LOG.error(
                "point %s, disk %s, offset %d, %d bytes: %s",
                self._point, bad.disk, bad.offset, bad.length, bad.message,
            )  # fmt: skip

    def _note_failure(self, disk: str, offset: int, length: int, error: BaseException) -> None:
        foreseen = isinstance(error, (SendenseError, OSError))
        said = str(error) if foreseen else repr(error)
        with self._lock:
            self._failed += 1
            new = said != self._last
            self._last = said
            if new:
                self._write()
        if new:
            _LOG.error(
                "point %s, disk %s, offset %d, %d bytes: %s",
                self._point, disk, offset, length, said,
                exc_info=None if foreseen else error,
            )  # fmt: skip

    def flush(self) -> None:
        """Write the summary as it is now."""
        with self._lock:
            if self._seen or self._failed:
                self._write()

    def _write(self) -> None:
        more = len(self._seen) - len(self._damaged)
        found = Trouble(tuple(self._damaged), more, self._failed, self._last)
        try:
            _replace(self._folder / FILE, asdict(found))
        except OSError as error:
            _LOG.warning("the summary of what went wrong is not kept: %s", error)


def _replace(path: Path, content: dict[str, Any] | Sequence[Any]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.replace(path)
