"""Which labs exist on this machine, kept where a killed test run cannot lose it.

An entry is written before a lab starts anything and removed after it has cleaned up. An entry
whose owner is gone is a lab that was left behind: `sweep` ends what it finds living in that lab's
folders and removes them. An entry without an owner stands until someone takes it down
(`python -m sendense_lab up` and `down`).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sendense_lab.cluster.teardown import take_down as take_cluster_down
from sendense_lab.guest_image import cache_dir, locked
from sendense_lab.hypervisor import end_all
from sendense_lab.processes import ProcessIdentity

# Only a folder with this file in it is ever removed as a whole.
MARK = ".sendense-lab"


@dataclass(frozen=True)
class Entry:
    """One lab: its name, its root folder, and who keeps it (None: stands on its own)."""

    name: str
    root: str
    owner: ProcessIdentity | None

    @property
    def orphan(self) -> bool:
        return self.owner is not None and not self.owner.alive()


def record(name: str, root: Path) -> Entry:
    """Mark the root as a lab of this process."""
    (root / MARK).touch()
    entry = Entry(name, str(root), ProcessIdentity.of(os.getpid()))
    _write(entry)
    return entry


def disown(entry: Entry) -> None:
    """Let the lab stand when this process ends."""
    _write(replace(entry, owner=None))


def entries() -> list[Entry]:
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            continue  # that lab ended just now
        owner = ProcessIdentity(**data["owner"]) if data["owner"] else None
        found.append(Entry(data["name"], data["root"], owner))
    return found


def sweep() -> list[Entry]:
    """Take down all labs whose owner is gone."""
    with locked(cache_dir() / "sweep.lock"):
        orphans = [entry for entry in entries() if entry.orphan]
        for entry in orphans:
            take_down(entry)
    return orphans


def take_down(entry: Entry, *, keep_files: bool = False) -> None:
    """End everything of a lab, remove its files, then forget it."""
    root = Path(entry.root)
    if (root / MARK).exists():
        take_cluster_down(root)
        for folder in hypervisor_folders(root):
            end_all(folder)
        if not keep_files:
            shutil.rmtree(root)
    _path(entry).unlink(missing_ok=True)


def hypervisor_folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("*/run") if path.is_dir())


def _write(entry: Entry) -> None:
    path = _path(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(entry)))
    draft.replace(path)


def _path(entry: Entry) -> Path:
    return _folder() / f"{entry.root.strip('/').replace('/', '-')}.json"


def _folder() -> Path:
    return cache_dir() / "labs"
