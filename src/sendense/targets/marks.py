"""Half-restored disks are remembered, whatever ends the run.

A disk that is overwritten in place is neither the old nor the new one until the
restore is done, and nothing in it tells.  So before the first byte is written a
mark is made durable beside the other state of this host, for all disks of the
restore together (one disk of today beside one of last week is no machine
either), and goes when all are complete.  What a dead run leaves is listed by
:func:`half_restored`; only a restore onto the same place that completes removes
it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sendense import clock
from sendense.model.restoring import RestorePlan
from sendense.targets import staging
from sendense.targets.target import failure


@dataclass(frozen=True)
class HalfRestored:
    """One place that a restore which did not complete was to overwrite."""

    path: str
    state: str
    """``waiting`` (untouched), ``writing`` or ``written``."""
    point: str
    machine: str
    since: str
    again: str = ""
    """The command that repeats the restore, where it was known."""


class Marks:
    """The marks of one restore."""

    def __init__(self, state_dir: Path, plan: RestorePlan, *, again: str = "") -> None:
        """Mark nothing yet."""
        self._again = again
        self._folder = _folder(state_dir)
        self._plan = plan
        self._begun = clock.format_utc(clock.now())

    def begin(self) -> None:
        """Mark all destinations of the plan."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise failure("use the state directory", self._folder, error) from error
        for item in self._plan.disks:
            # A mark that a dead run left says more than "waiting": keep it.
            if not _file(self._folder, item.destination.path).exists():
                self.note(item.destination.path, "waiting")

    def note(self, path: str, state: str) -> None:
        """Remember how far one destination is."""
        content = {
            "path": path,
            "state": state,
            "point": self._plan.point.id,
            "machine": self._plan.point.machine.name,
            "since": self._begun,
            "again": self._again,
        }
        staging.write_file(_file(self._folder, path), json.dumps(content).encode(), overwrite=True)

    def clear(self) -> None:
        """Forget the marks of all destinations: every one is complete."""
        for item in self._plan.disks:
            _file(self._folder, item.destination.path).unlink(missing_ok=True)


def half_restored(state_dir: Path) -> tuple[HalfRestored, ...]:
    """List what restores that did not complete have left on this host."""
    return tuple(_read(file) for file in sorted(_folder(state_dir).glob("*.json")))


def _read(file: Path) -> HalfRestored:
    """Read a mark; one that cannot be read still says that some disk is half restored."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return HalfRestored(**{key: str(value) for key, value in content.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return HalfRestored(
            path=f"a place that {file} does not tell any more",
            state="unknown",
            point="unknown",
            machine="a machine",
            since="an unknown time",
        )


def _folder(state_dir: Path) -> Path:
    return state_dir / "restores"


def _file(folder: Path, path: str) -> Path:
    return folder / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
