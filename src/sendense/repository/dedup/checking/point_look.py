"""Looking at point objects: which open under their names, and which trees they lead to.

Of each point only what a walk needs is kept, so that thousands of points take little memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from blake3 import blake3

from sendense.errors import NotFound
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import points, sequences
from sendense.repository.dedup.ahead import ahead
from sendense.repository.dedup.checking.findings import CheckFinding, Weight, What
from sendense.repository.dedup.checking.rereading import UNREADABLE, Refused, twice
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.points import Named, StoredPoint
from sendense.storage.store import ObjectInfo

_THREADS = 8


@dataclass(frozen=True, slots=True)
class PointTrees:
    """A point, as far as a walk needs it."""

    id: str
    trees: tuple[tuple[bytes | None, int], ...]
    """The root and the size of each."""
    attachments: tuple[str, ...]
    """Those that are not what was stored."""


@dataclass
class PointsSeen:
    """All point objects."""

    named: list[Named] = field(default_factory=list)
    readable: list[PointTrees] = field(default_factory=list)
    refused: dict[str, Refused] = field(default_factory=dict)
    """By the point's id."""
    foreign: list[str] = field(default_factory=list)

    def findings(self) -> list[CheckFinding]:
        """Tell of what is wrong with the objects themselves."""
        found = [
            CheckFinding(What.POINT, item.name, item.error.message, Weight.DAMAGE, (point,))
            for point, item in self.refused.items()
        ]
        names = {named.id: named.name for named in self.named}
        for point in self.readable:
            found += [
                CheckFinding(
                    What.ATTACHMENT,
                    names[point.id],
                    f"{attachment} of point {point.id} does not match its hash",
                    Weight.DAMAGE,
                    (point.id,),
                )
                for attachment in point.attachments
            ]
        return found + _twice(self.named) + [_foreign(name) for name in self.foreign]


def look_at_points(parts: Parts, check: Callable[[], None]) -> PointsSeen:
    """Read every point object."""
    seen = PointsSeen()
    items: list[tuple[Named, ObjectInfo]] = []
    for item in parts.store.list(fmt.POINTS):
        named = points.parse_name(item.name)
        if named is None:
            seen.foreign.append(item.name)
        else:
            seen.named.append(named)
            items.append((named, item))

    def look(pair: tuple[Named, ObjectInfo]) -> PointTrees | Refused | None:
        check()
        return _look(parts, *pair)

    threads = max(1, min(parts.store.traits.parallel, _THREADS))
    for (named, _), found in zip(items, ahead(look, items, threads=threads), strict=True):
        if isinstance(found, Refused):
            seen.refused[named.id] = found
        elif found is not None:
            seen.readable.append(found)
    return seen


def _look(parts: Parts, named: Named, item: ObjectInfo) -> PointTrees | Refused | None:
    try:
        stored = twice(partial(points.read, parts, named.name), item)
    except NotFound:
        return None  # deleted since it was listed
    except UNREADABLE as error:
        return Refused(named.name, error)
    trees = tuple((root, size) for _, root, size in stored.trees())
    return PointTrees(named.id, trees, tuple(_wrong_attachments(stored)))


def _wrong_attachments(stored: StoredPoint) -> Iterable[str]:
    for item in stored.point.attachments:
        data = stored.attachments.get(item.name)
        if item.name in stored.tails and data is None:
            continue  # a tree: it is walked
        if data is None or blake3(data).hexdigest() != item.digest:
            yield item.name


def _twice(named: Iterable[Named]) -> list[CheckFinding]:
    """Tell of numbers that two points of a machine have."""
    count = Counter((item.tag, item.sequence) for item in named)
    return [
        CheckFinding(
            What.SEQUENCE_TWICE,
            f"{fmt.POINTS}{tag}/{sequence:010d}",
            f"{number} points of a machine have the number {sequence}",
            Weight.INFORMATION,
        )
        for (tag, sequence), number in sorted(count.items())
        if number > 1
    ]


def _foreign(name: str) -> CheckFinding:
    message = f"{name} is in the place of a point, and is none"
    return CheckFinding(What.FOREIGN, name, message, Weight.INFORMATION)


# --- points that were here ---


def gone(parts: Parts, seen: PointsSeen) -> list[CheckFinding]:
    """Tell of points that this machine has seen before, and that are there no more.

    Who deletes the newest point of a machine by our means writes down its number first.  So
    a newest point that went without it was taken away by somebody else.  Of
    older ones nothing tells who deleted them.
    """
    there = {named.name for named in seen.named}
    newest = Counter[str]()
    for named in seen.named:
        newest[named.tag] = max(newest[named.tag], named.sequence)
    missing = sorted(name for name in parts.seen.names() if name not in there)
    found = []
    for named in filter(None, map(points.parse_name, missing)):
        if not _is_there(parts, named.name):
            kept = max(newest[named.tag], sequences.highest(parts, named.tag))
            found.append(_gone(named, vanished=named.sequence > kept))
    return found


def _is_there(parts: Parts, name: str) -> bool:
    try:
        parts.store.info(name)
    except NotFound:
        return False
    return True


def _gone(named: Named, *, vanished: bool) -> CheckFinding:
    message = f"point {named.id} was here when this machine looked last, and is gone"
    if vanished:
        return CheckFinding(What.POINT_VANISHED, named.name, message, Weight.DAMAGE, (named.id,))
    return CheckFinding(What.POINT_GONE, named.name, message, Weight.INFORMATION)
