"""What verifications found wrong, remembered beside the point; and whom it concerns.

``damaged.json`` in a point's directory names the disks of that point's *own* layers
that are damaged.  A point whose disk is laid over such a layer is damaged as well,
even where newer layers hide the place: it is no base to build upon.  A clean
verification of the point that owns the layer takes the mark away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sendense.errors import Damaged, NotFound
from sendense.model.point import RecoveryPoint
from sendense.repository import sealed
from sendense.repository.chain import layout
from sendense.repository.protocol import Finding
from sendense.storage import durable

KIND = "sendense-damage"


@dataclass(frozen=True)
class Damage:
    """The mark on one point."""

    disks: frozenset[str]
    """Identities of the disks whose layers in this point are damaged."""
    whole: bool
    """Whether something else of the point is damaged: an attachment, the mark itself."""


NONE = Damage(frozenset(), whole=False)


def read(folder: Path) -> Damage:
    """Read the mark of a point; one that cannot be read counts as damage of the whole."""
    try:
        return from_content(sealed.read(folder / layout.DAMAGE, KIND).get("findings"))
    except NotFound:
        return NONE
    except Damaged:
        return Damage(frozenset(), whole=True)


def from_content(content: object) -> Damage:
    """Give the mark that JSON values stand for."""
    if not isinstance(content, list):
        return Damage(frozenset(), whole=True)
    disks = [item.get("disk") if isinstance(item, dict) else None for item in content]
    named = [disk for disk in disks if isinstance(disk, str)]
    return Damage(frozenset(named), whole=len(named) != len(disks))


def mark(folder: Path, findings: Iterable[Finding]) -> None:
    """Remember findings on a point, replacing what was remembered."""
    content = [
        {"disk": item.disk, "offset": item.offset, "message": item.message} for item in findings
    ]
    if content:
        durable.replace_file(folder / layout.DAMAGE, sealed.render(KIND, {"findings": content}))
    elif (folder / layout.DAMAGE).exists():
        (folder / layout.DAMAGE).unlink()
        durable.sync_directory(folder)


def mark_disk(folder: Path, point_id: str, disk: str, message: str) -> None:
    """Add one disk to what is remembered."""
    known = read(folder)
    names = sorted({*known.disks, disk})
    found = [Finding(point_id, name, None, message) for name in names]
    if known.whole:
        found.append(Finding(point_id, None, None, message))
    mark(folder, found)


def concerned(points: Iterable[RecoveryPoint], marks: Mapping[str, Damage]) -> set[str]:
    """Give the ids of the points that are damaged, by their own marks or by what they need.

    ``points`` are all of a machine, also those that are being deleted.
    """
    bad: dict[str, frozenset[str]] = {}
    found: set[str] = set()
    for point in sorted(points, key=lambda item: item.sequence):
        own = marks.get(point.id, NONE)
        inherited = {
            image.disk.identity
            for image in point.disks
            if image.parent is not None
            and (image.parent not in bad or image.disk.identity in bad[image.parent])
        }
        bad[point.id] = own.disks | inherited
        if own.whole or bad[point.id]:
            found.add(point.id)
    return found
