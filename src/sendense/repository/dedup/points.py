"""Point objects: what is known of a recovery point, and the roots of its disks.

A point is there when its object is.  Objects are immutable, so what was read of one
is kept in memory for as long as the repository is open.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sendense.errors import Damaged, NotAllowed, NotFound, SendenseError, Unsupported
from sendense.model.point import RecoveryPoint
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.ahead import ahead
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal_json, unseal_json
from sendense.repository.document import from_content, to_content

log = logging.getLogger(__name__)

_NAME = re.compile(r"points/([0-9a-f]{32})/(\d{10})-([A-Za-z0-9][A-Za-z0-9._-]{0,127})")


@dataclass(frozen=True)
class Tail:
    """An attachment that is too long for the point object: a tree, as a disk's."""

    root: bytes | None
    size: int


@dataclass(frozen=True)
class StoredPoint:
    """A point object."""

    point: RecoveryPoint
    roots: Mapping[str, bytes | None]
    """By disk identity."""
    attachments: Mapping[str, bytes]
    tails: Mapping[str, Tail] = field(default_factory=dict)

    def trees(self) -> Iterator[tuple[str | None, bytes | None, int]]:
        """Give all trees: the disk's identity (none for an attachment), root and size."""
        for image in self.point.disks:
            yield image.disk.identity, self.roots[image.disk.identity], image.size
        for tail in self.tails.values():
            yield None, tail.root, tail.size


@dataclass(frozen=True)
class Named:
    """What the name of a point object says."""

    name: str
    tag: str
    sequence: int
    id: str


def parse_name(name: str) -> Named | None:
    """Read the name of a point object."""
    match = _NAME.fullmatch(name)
    return Named(name, match[1], int(match[2]), match[3]) if match else None


def name_of(parts: Parts, point: RecoveryPoint) -> str:
    """Give the name of a point's object."""
    tag = parts.ring.machine_tag(point.machine.uuid)
    return f"{fmt.POINTS}{tag}/{point.sequence:010d}-{point.id}"


def put(parts: Parts, stored: StoredPoint) -> None:
    """Write a point object: from here on the point is there."""
    name = name_of(parts, stored.point)
    value = {
        "point": to_content(stored.point),
        "roots": {disk: root.hex() if root else None for disk, root in stored.roots.items()},
        "attachments": {
            name: base64.b64encode(data).decode() for name, data in stored.attachments.items()
        },
        "tails": {
            name: {"root": tail.root.hex() if tail.root else None, "size": tail.size}
            for name, tail in stored.tails.items()
        },
    }
    parts.store.put(name, seal_json(parts.ring, name, SealedKind.POINT, value), create=True)


def read(parts: Parts, name: str) -> StoredPoint:
    """Read one point object."""
    value = unseal_json(parts.ring, name, SealedKind.POINT, parts.store.get(name))
    try:
        stored = StoredPoint(
            point=from_content(value["point"], name=name),
            roots={disk: _root(root) for disk, root in value["roots"].items()},
            attachments={
                key: base64.b64decode(data, validate=True)
                for key, data in value["attachments"].items()
            },
            tails={
                key: Tail(_root(item["root"]), int(item["size"]))
                for key, item in value["tails"].items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Damaged(f"{name} is no point object", file=name) from error
    _check(parts, name, stored)
    return stored


def _root(value: str | None) -> bytes | None:
    if value is None:
        return None
    root = bytes.fromhex(value)
    if len(root) != fmt.ID_BYTES:
        raise ValueError("not an id")
    return root


def _check(parts: Parts, name: str, stored: StoredPoint) -> None:
    """Refuse an object whose content is not what its name says."""
    if name_of(parts, stored.point) != name:
        raise Damaged(f"{name} holds another point, {stored.point.id}", file=name)
    if {image.disk.identity for image in stored.point.disks} != set(stored.roots):
        raise Damaged(f"{name} does not name the roots of its disks", file=name)


class PointList:
    """The points of a repository, read once each."""

    def __init__(self, parts: Parts) -> None:
        """List what ``parts`` holds."""
        self._parts = parts
        self._read: dict[str, StoredPoint] = {}

    def names(self, machine: str | None = None) -> list[Named]:
        """List the point objects, those of one machine where its UUID is given."""
        prefix = fmt.POINTS
        if machine is not None:
            prefix = f"{fmt.POINTS}{self._parts.ring.machine_tag(machine)}/"
        parsed = (parse_name(item.name) for item in self._parts.store.list(prefix))
        found = [item for item in parsed if item is not None]
        found.sort(key=lambda item: (item.tag, item.sequence))
        self._parts.seen.add(item.name for item in found)
        return found

    def read(self, named: Named) -> StoredPoint:
        """Give a point, without its attachments."""
        held = self._read.get(named.name)
        if held is None:
            stored = read(self._parts, named.name)
            # Attachments are read when a point is opened: of thousands they would fill the memory.
            held = self._read[named.name] = replace(stored, attachments={})
        return held

    def all(self, machine: str | None = None) -> tuple[list[StoredPoint], list[tuple[Named, str]]]:
        """List points and read them, as :meth:`read_all` does."""
        return self.read_all(self.names(machine))

    def read_all(self, names: Sequence[Named]) -> tuple[list[StoredPoint], list[tuple[Named, str]]]:
        """Give all points that can be read, and those that cannot with the reason."""
        new = [named for named in names if named.name not in self._read]
        threads = self._parts.store.traits.parallel
        tried = {
            named.name: outcome
            for named, outcome in zip(new, ahead(self._tried, new, threads=threads), strict=True)
        }
        found: list[StoredPoint] = []
        unreadable: list[tuple[Named, str]] = []
        for named in names:
            outcome = tried.get(named.name) or self._read[named.name]
            if isinstance(outcome, StoredPoint):
                found.append(outcome)
            elif not isinstance(outcome, NotFound):  # or deleted since it was listed
                log.warning("%s", outcome)
                unreadable.append((named, outcome.message))
        return found, unreadable

    def _tried(self, named: Named) -> StoredPoint | SendenseError:
        try:
            return self.read(named)
        except (NotFound, Damaged, NotAllowed, Unsupported) as error:
            return error

    def find(self, point_id: str) -> Named:
        """Give the object of a point; NotFound where there is none."""
        for named in self.names():
            if named.id == point_id:
                return named
        raise NotFound(f"there is no point {point_id} in {self._parts.store.location}")
