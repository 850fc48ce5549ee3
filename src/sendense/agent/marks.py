"""Half-restored disks are remembered, whatever ends the restore.

A disk that is overwritten in place is neither the old nor the new one until the restore is
done, and nothing in it tells.  So a mark is durable before its image is served, and goes when
all disks of the restore are complete.  The marks are the ones of the command line, in the
same folder and form: ``sendense doctor`` on the host lists them too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from sendense import clock
from sendense.capture.journal import write_durably


def mark(state_dir: Path, paths: Iterable[str], *, machine: str, work: str) -> None:
    """Mark places that are about to be overwritten."""
    folder = _folder(state_dir)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    since = clock.format_utc(clock.now())
    for path in paths:
        content = {
            "path": path,
            "state": "writing",
            "point": "unknown",
            "machine": machine,
            "since": since,
            "again": f"repeat the restore from the control plane (it was {work})",
        }
        write_durably(_file(folder, path), content)


def unmark(state_dir: Path, paths: Iterable[str]) -> None:
    """Forget marks: all of these places are complete."""
    for path in paths:
        _file(_folder(state_dir), path).unlink(missing_ok=True)


def half_restored(state_dir: Path) -> tuple[str, ...]:
    """List the places that restores which did not complete have left."""
    found = []
    for file in sorted(_folder(state_dir).glob("*.json")):
        try:
            found.append(str(json.loads(file.read_text(encoding="utf-8"))["path"]))
        except (OSError, ValueError, KeyError, TypeError):
            found.append(f"a place that {file} does not tell any more")
    return tuple(found)


def _folder(state_dir: Path) -> Path:
    return state_dir / "restores"


def _file(folder: Path, path: str) -> Path:
    return folder / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
