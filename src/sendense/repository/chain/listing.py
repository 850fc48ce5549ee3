"""Listing a machine's points, with a cache of their manifests.

The directories are the truth: a point is what has a directory with a manifest.  To
list hundreds of points without reading hundreds of files, ``.catalog.json`` in the
machine's directory keeps their contents, each under the stamp (inode, size, time)
of the file it was read from.  An entry is used only while the file still has that
stamp; what is missing, changed or unreadable in the cache is read again.  Opening
a point always reads its manifest itself.

The cache is per machine, so that a backup rewrites the entries of one machine, and
backups of different machines never write the same file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sendense.errors import Damaged, NotAllowed, NotFound, Unsupported
from sendense.model.point import PointState, RecoveryPoint
from sendense.repository import sealed
from sendense.repository.chain import damage, layout, manifest
from sendense.repository.document import from_content, to_content
from sendense.repository.names import is_name

logger = logging.getLogger(__name__)

KIND = "sendense-catalog"


@dataclass(frozen=True)
class Listing:
    """What a machine's directory holds."""

    points: tuple[RecoveryPoint, ...]
    """Visible points by sequence, their state filled in."""
    deleting: tuple[RecoveryPoint, ...]
    """Points whose deletion began and is not finished."""
    unreadable: dict[str, str]
    """Points whose manifest cannot be read: by id, the reason."""


@dataclass(frozen=True)
class _Entry:
    stamp: list[int]
    point: RecoveryPoint
    marks: damage.Damage


def list_machine(folder: Path, *, trust_cache: bool = True) -> Listing:
    """List one machine's points; none where it has no directory."""
    cached = _read_cache(folder) if trust_cache else {}
    entries: dict[str, _Entry] = {}
    deleting: list[RecoveryPoint] = []
    unreadable: dict[str, str] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not is_name(path.name):
            continue
        stamp = _stamp(path)
        try:
            if stamp is None:
                deleting.extend(_tombstone(path))
            else:
                known = _known(cached.get(path.name), stamp, path)
                entries[path.name] = known or _Entry(stamp, manifest.read(path), damage.read(path))
        except NotFound:
            continue  # deleted since the directory was read
        except (Damaged, NotAllowed, Unsupported) as error:
            logger.warning("%s", error)
            unreadable[path.name] = error.message
    if _stamps(cached) != {name: entry.stamp for name, entry in entries.items()}:
        _write_cache(folder, entries)
    return Listing(_with_states(entries, deleting), tuple(deleting), unreadable)


def _with_states(
    entries: dict[str, _Entry], deleting: list[RecoveryPoint]
) -> tuple[RecoveryPoint, ...]:
    points = [entry.point for entry in entries.values()]
    marks = {name: entry.marks for name, entry in entries.items()}
    bad = damage.concerned([*points, *deleting], marks)
    listed = [
        replace(point, state=PointState.DAMAGED) if point.id in bad else point for point in points
    ]
    return tuple(sorted(listed, key=lambda item: item.sequence))


def _tombstone(path: Path) -> list[RecoveryPoint]:
    """Give the point that is being deleted there, if it is one."""
    if (path / layout.TOMBSTONE).exists():
        return [manifest.read(path, name=layout.TOMBSTONE)]
    # A point gets and loses its name together with its manifest: this one lost it to somebody else.
    if next(path.glob("*.map"), None) or next(path.glob("*.qcow2"), None):
        raise Damaged(f"the point in {path} has lost its manifest", file=path)
    return []


def _stamp(path: Path) -> list[int] | None:
    """Give what tells one state of a point's two documents from another."""
    try:
        first = (path / layout.MANIFEST).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    stamp = [first.st_ino, first.st_size, first.st_mtime_ns]
    try:
        second = (path / layout.DAMAGE).stat()
    except FileNotFoundError:
        return stamp
    return [*stamp, second.st_ino, second.st_size, second.st_mtime_ns]


# --- the cache ---


def _read_cache(folder: Path) -> dict[str, Any]:
    try:
        content = sealed.read(folder / layout.CATALOG, KIND)
    except (NotFound, Damaged, Unsupported):
        return {}
    return content


def _stamps(cached: dict[str, Any]) -> dict[str, Any]:
    return {
        name: item.get("stamp") if isinstance(item, dict) else None for name, item in cached.items()
    }


def _known(item: object, stamp: list[int], path: Path) -> _Entry | None:
    """Give the cached entry if it was made from the file as it is now."""
    if not isinstance(item, dict) or item.get("stamp") != stamp:
        return None
    try:
        point = from_content(item.get("point"), name=str(path))
    except Damaged:
        return None
    return _Entry(stamp, point, damage.from_content(item.get("marks")))


def _write_cache(folder: Path, entries: dict[str, _Entry]) -> None:
    """Write the cache, if that is possible: without it listing is only slower."""
    content = {
        name: {
            "stamp": entry.stamp,
            "point": to_content(entry.point),
            "marks": [{"disk": disk} for disk in sorted(entry.marks.disks)]
            + ([{"disk": None}] if entry.marks.whole else []),
        }
        for name, entry in entries.items()
    }
    aside = folder / f"{layout.CATALOG}.{os.getpid()}.{threading.get_ident()}"
    try:
        aside.write_bytes(sealed.render(KIND, content))
        aside.replace(folder / layout.CATALOG)
    except OSError as error:
        logger.debug("the cache of %s is not written: %s", folder, error)
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
