"""The manifest of a point: a :class:`~sendense.model.point.RecoveryPoint` as a document.

It is written last and read strictly: a value of a wrong type is damage, not a guess.
Fields that are not known here are left aside, so that a later version may add some.
"""

from __future__ import annotations

from pathlib import Path

from sendense.errors import Damaged
from sendense.model.point import RecoveryPoint
from sendense.repository import sealed
from sendense.repository.chain import layout
from sendense.repository.document import from_content, to_content
from sendense.storage import durable

KIND = "sendense-point"


def write(folder: Path, point: RecoveryPoint, *, name: str = layout.MANIFEST) -> None:
    """Write the manifest into a point's directory, replacing an older one at once."""
    durable.replace_file(folder / name, sealed.render(KIND, to_content(point)))


def read(folder: Path, *, name: str = layout.MANIFEST) -> RecoveryPoint:
    """Read a point's manifest; :class:`~sendense.errors.NotFound` where there is none."""
    path = folder / name
    point = from_content(sealed.read(path, KIND), name=str(path))
    if point.id != folder.name.removeprefix(layout.PARTIAL):
        raise Damaged(f"{path} is the manifest of another point, {point.id}", file=path)
    return point
