"""Pins and locks of points, in ``holds.json`` beside the manifest.

The file lies in the point's own directory, so that it stays where it is when neighbours
are merged or removed, when the point's manifest is rewritten, and when it is damaged.

A file that cannot be read holds its point as a pin: what it said may have been a lock,
and nobody loses a point over a flipped bit.  ``unpin`` takes such a file away.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sendense.errors import Damaged, NotAllowed, NotFound, Rejected, Unsupported
from sendense.model.hold import Hold, HoldKind, with_hold, without_hold
from sendense.repository import sealed
from sendense.repository.chain import layout
from sendense.repository.names import is_name
from sendense.storage import durable

_HOLDS: TypeAdapter[tuple[Hold, ...]] = TypeAdapter(tuple[Hold, ...])
logger = logging.getLogger(__name__)

KIND = "sendense-holds"
UNREADABLE = "its pins and locks cannot be read"
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def list_holds(machine: Path) -> tuple[Hold, ...]:
    """List the holds of a machine's points, also of those that are lost."""
    folders = sorted(machine.iterdir()) if machine.is_dir() else []
    return tuple(hold for path in folders if is_name(path.name) for hold in read(path))


def read(folder: Path) -> tuple[Hold, ...]:
    """Give the holds of the point in a directory."""
    try:
        return _read(folder)
    except (Damaged, NotAllowed, Unsupported) as error:
        logger.warning("%s", error)
        return (_unreadable(folder),)


def add(folder: Path, hold: Hold, now: datetime) -> None:
    """Add a hold, or replace the one of its kind."""
    _write(folder, with_hold(_read_to_change(folder), hold, now))


def take_off(folder: Path, kind: HoldKind, now: datetime) -> None:
    """Take a hold off."""
    _write(folder, without_hold(_read_to_change(folder), folder.name, kind, now))


def _read(folder: Path) -> tuple[Hold, ...]:
    path = folder / layout.HOLDS
    if not path.exists():
        return ()
    try:
        content = sealed.read(path, KIND)
    except NotFound:
        return ()  # taken off, or the point deleted, since it was looked for
    holds = _parsed(content.get("holds"), path)
    if any(hold.point_id != folder.name for hold in holds):
        raise Damaged(f"{path} is about another point", file=path)
    return holds


def _parsed(content: object, path: Path) -> tuple[Hold, ...]:
    """Read what JSON values say, strictly."""
    try:
        return _HOLDS.validate_json(json.dumps(content), strict=True)
    except (ValidationError, Rejected) as error:
        raise Damaged(f"{path} lists no pins and locks", file=path) from error


def _read_to_change(folder: Path) -> tuple[Hold, ...]:
    """Give the holds of a point; what this version may not or cannot read, it does not change."""
    try:
        return _read(folder)
    except Damaged:
        return (_unreadable(folder),)


def _unreadable(folder: Path) -> Hold:
    return Hold(folder.name, HoldKind.PIN, None, UNREADABLE, _UNKNOWN_TIME)


def _write(folder: Path, holds: Sequence[Hold]) -> None:
    path = folder / layout.HOLDS
    if holds:
        ordered = sorted(holds, key=lambda hold: hold.kind.value)
        content = {"holds": _HOLDS.dump_python(tuple(ordered), mode="json")}
        durable.replace_file(path, sealed.render(KIND, content))
    elif path.exists():
        path.unlink()
        durable.sync_directory(folder)
