"""Checking one point: its trees, where its chunks lie, and at the level of data every byte.

Unlike a restore, a verification goes on after it finds something, so that all of the
damage is known.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sendense import clock
from sendense.errors import Damaged, NotAllowed, NotFound, OutOfSpace, Unavailable
from sendense.model.point import RecoveryPoint
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.dedup import damages
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Location
from sendense.repository.dedup.leaf_ahead import Wanted
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.point_reading import DedupPointReader
from sendense.repository.dedup.points import PointList
from sendense.repository.dedup.reading import DedupDiskReader, Stem
from sendense.repository.dedup.record_reading import missing
from sendense.repository.protocol import Finding, Verification, VerifyLevel
from sendense.units import MIB

log = logging.getLogger(__name__)

_MOST_FINDINGS = 100
"""Of one disk; a disk with more is not read to its end."""
_REPORT_EVERY = 16 * MIB


@dataclass
class _Found:
    """What a verification found, and which records it blames."""

    findings: list[Finding] = field(default_factory=list)
    records: set[tuple[bytes, str]] = field(default_factory=set)
    packs: set[str] = field(default_factory=set)

    def add(self, finding: Finding, error: Damaged) -> None:
        self.findings.append(finding)
        record, pack = error.data.get("record"), error.data.get("pack")
        if record and pack:
            self.records.add((bytes.fromhex(str(record)), str(pack)))


def verify(
    parts: Parts,
    reader: DedupPointReader,
    level: VerifyLevel,
    *,
    bases: Mapping[str, Stem],
    progress: ProgressListener,
) -> Verification:
    """Check one point, which is open for reading; remember what is found.

    Of a disk in ``bases`` only what is not as in that tree is looked at.
    """
    started = clock.monotonic()
    point = reader.point
    found = _Found()
    checked = 0
    packs = _PackSizes(parts)
    _attachments(reader, found)
    for image in point.disks:
        before = len(found.findings)
        disk = reader.disk(image.disk.identity)
        base = bases.get(image.disk.identity)
        _structure(disk, base, packs, found, point.id)
        if len(found.findings) == before and level is VerifyLevel.DATA:
            if base is None:
                _data(disk, found, point.id, progress)
                checked += image.size
            else:
                checked += _new_data(disk, base, found, point.id, progress)
    _remember(parts, point.id, level, found, whole=not bases)
    return Verification(
        point.id, level, checked, tuple(found.findings), seconds=clock.monotonic() - started
    )


def bases_of(point: RecoveryPoint, points: PointList) -> dict[str, Stem]:
    """Give the trees that the disks of a point are laid over, where they are still there."""
    found: dict[str, Stem] = {}
    for parent in {image.parent for image in point.disks if image.parent is not None}:
        try:
            below = points.read(points.find(parent))
        except (Damaged, NotFound):
            continue
        for image in point.disks:
            identity = image.disk.identity
            base = below.point.image_of(identity)
            if image.parent == parent and base is not None:
                found[identity] = Stem(below.roots[identity], base.size)
    return found


def _attachments(reader: DedupPointReader, found: _Found) -> None:
    for item in reader.point.attachments:
        try:
            reader.attachment(item.name)
        except Damaged as error:
            found.add(Finding(reader.point.id, None, None, error.message), error)


class _PackSizes:
    """Which packs are there, and how long; a folder of packs is listed when first asked for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._listed: dict[str, dict[str, int]] = {}

    def wrong(self, location: Location) -> str | None:
        """Say what is wrong with a record's pack, if anything is."""
        folder = f"{fmt.PACKS}{location.pack.id[:2]}/"
        if folder not in self._listed:
            self._listed[folder] = {item.name: item.size for item in self._parts.store.list(folder)}
        size = self._listed[folder].get(location.pack.name)
        if size is None:
            return f"pack {location.pack.id} is missing"
        if size < location.entry.offset + location.entry.stored:
            return f"pack {location.pack.id} is cut off"
        return None


def _structure(
    disk: DedupDiskReader, base: Stem | None, packs: _PackSizes, found: _Found, point: str
) -> None:
    """Read the nodes of a disk, and look up where its chunks lie."""
    identity = disk.image.disk.identity
    try:
        for item in _leaves(disk, base):
            slots = disk.slots_of(item.leaf)
            here = [slot for place in item.places if (slot := slots[place]) is not None]
            wanted = list(dict.fromkeys(slot.chunk for slot in here))
            known = disk.places_of(wanted)
            for chunk in wanted:
                message, pack = _lies_badly(known.get(chunk), packs)
                if message is not None:
                    offset = item.number * fmt.LEAF_BYTES
                    error = missing(chunk, message, **({"pack": pack} if pack else {}))
                    found.add(Finding(point, identity, offset, error.message), error)
            if len(found.findings) >= _MOST_FINDINGS:
                return
    except Damaged as error:
        found.add(Finding(point, identity, None, error.message), error)


def _leaves(disk: DedupDiskReader, base: Stem | None) -> Iterator[Wanted]:
    """Give the leaves that are looked at, and which of their blocks."""
    if base is None:
        for number, leaf in disk.tree().present():
            yield Wanted(number, leaf, range(fmt.LEAF_BLOCKS))
        return
    for item in disk.differences(base):
        if isinstance(item, Wanted):
            yield item


def _lies_badly(location: Location | None, packs: _PackSizes) -> tuple[str | None, str | None]:
    if location is None:
        return "no pack holds it", None
    return packs.wrong(location), location.pack.id


def _data(disk: DedupDiskReader, found: _Found, point: str, progress: ProgressListener) -> None:
    """Read every byte of a disk; go on behind what is damaged."""
    position, count = 0, 0
    started = clock.monotonic()
    while position < disk.image.size and count < _MOST_FINDINGS:
        try:
            position = _read_from(disk, position, started=started, progress=progress)
        except Damaged as error:
            offset = int(error.data["offset"])
            found.add(Finding(point, disk.image.disk.identity, offset, error.message), error)
            position = offset + int(error.data["length"])
            count += 1


def _new_data(
    disk: DedupDiskReader, base: Stem, found: _Found, point: str, progress: ProgressListener
) -> int:
    """Read what of a disk is not in the tree that it is laid over; gives how much that is."""
    started, target, checked = clock.monotonic(), disk.image.disk.target, 0
    try:
        for chunk in disk.changed(base):
            if chunk.data is not None:
                checked += chunk.length
                elapsed = clock.monotonic() - started
                progress(Progress("verify", target, checked, checked, elapsed))
    except Damaged as error:
        offset = int(error.data["offset"])
        found.add(Finding(point, disk.image.disk.identity, offset, error.message), error)
    return checked


def _read_from(
    disk: DedupDiskReader, start: int, *, started: float, progress: ProgressListener
) -> int:
    size, target = disk.image.size, disk.image.disk.target
    reported = start
    for chunk in disk.read(start, size):
        if chunk.end - reported >= _REPORT_EVERY or chunk.end == size:
            reported = chunk.end
            elapsed = clock.monotonic() - started
            progress(Progress("verify", target, chunk.end, size, elapsed))
    return size


def _remember(parts: Parts, point: str, level: VerifyLevel, found: _Found, *, whole: bool) -> None:
    """Note what was found; after every byte was read and is whole, the notes are wrong."""
    try:
        if found.findings:
            damages.remember(
                parts,
                points=frozenset([point]),
                records=frozenset(found.records),
                packs=frozenset(found.packs),
            )
        elif level is VerifyLevel.DATA and whole:
            damages.absolve(parts, point)
    except (NotAllowed, OutOfSpace, Unavailable) as error:
        log.warning("what the verification found cannot be remembered: %s", error)
