"""Verifying a point: structure, then every byte; and remembering what is found.

``structure`` holds the manifest, the maps, the images' headers and QEMU's own check
of their tables against each other, for every layer that the point needs.  ``data``
reads the whole of each disk as a restore would, which includes every block that
the point's own layers state.

A finding is remembered on the point whose layer is damaged; all points that stand
on that layer are listed as damaged too.  Only a clean verification of every byte
takes a mark away.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from sendense import clock
from sendense.errors import Damaged, NotAllowed, NotFound, OutOfSpace
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.chain import damage, layout, manifest, qemu_img
from sendense.repository.chain.layers import Link, links, open_layer, open_layers
from sendense.repository.chain.point_reading import ChainPointReader
from sendense.repository.chain.reading import ResolvedDisk
from sendense.repository.protocol import Finding, Verification, VerifyLevel
from sendense.storage import durable
from sendense.units import MIB

logger = logging.getLogger(__name__)

MOST_FINDINGS = 100
"""Findings of one disk; a disk with more is not read to its end."""
_REPORT_EVERY = 16 * MIB


def verify(
    machine: Path, point_id: str, level: VerifyLevel, *, progress: ProgressListener
) -> Verification:
    """Check one point.  The caller keeps it from being deleted meanwhile."""
    started = clock.monotonic()
    findings: list[Finding] = []
    checked = 0
    try:
        point = manifest.read(machine / point_id)
    except (Damaged, NotFound) as error:
        findings.append(Finding(point_id, None, None, error.message))
    else:
        findings += _attachments(machine, point)
        for image in point.disks:
            found = list(_structure(machine, point, image))
            if not found and level is VerifyLevel.DATA:
                found = list(_data(machine, point, image, progress=progress))
                checked += image.size
            findings += found
    _remember(machine, point_id, level, findings)
    return Verification(
        point_id, level, checked, tuple(findings), seconds=clock.monotonic() - started
    )


def _attachments(machine: Path, point: RecoveryPoint) -> Iterator[Finding]:
    with ChainPointReader(machine, point, None) as reader:
        for item in point.attachments:
            try:
                reader.attachment(item.name)
            except Damaged as error:
                yield Finding(point.id, None, None, error.message)


def _structure(machine: Path, point: RecoveryPoint, image: DiskImage) -> Iterator[Finding]:
    """Check every layer that a disk needs."""
    identity = image.disk.identity
    try:
        chain = list(links(machine, point, identity))
    except (Damaged, NotFound) as error:
        yield Finding(point.id, identity, None, error.message)
        return
    for link in chain:
        message = _layer(machine, link)
        if message is not None:
            yield Finding(link.point, identity, None, message)


def _layer(machine: Path, link: Link) -> str | None:
    """Check one layer; QEMU looks at it only after its header was found to be ours."""
    try:
        open_layer(machine, link).close()
    except Damaged as error:
        return error.message
    path = machine / link.point / layout.image_file(link.image.disk.target)
    wrong = qemu_img.check(path)
    return None if wrong is None else f"the image {path} is inconsistent: {wrong}"


def _data(
    machine: Path, point: RecoveryPoint, image: DiskImage, *, progress: ProgressListener
) -> Iterator[Finding]:
    """Read every byte of a disk; go on behind what is damaged."""
    layers = open_layers(machine, point, image.disk.identity)
    disk = ResolvedDisk(image, layers)
    position, found = 0, 0
    started = clock.monotonic()
    try:
        while position < image.size and found < MOST_FINDINGS:
            try:
                position = _read_from(disk, position, started=started, progress=progress)
            except Damaged as error:
                offset = int(error.data["offset"])
                yield Finding(error.data["point"], image.disk.identity, offset, error.message)
                position = offset + int(error.data["length"])
                found += 1
    finally:
        disk.close()


def _read_from(
    disk: ResolvedDisk, start: int, *, started: float, progress: ProgressListener
) -> int:
    """Read a disk from a position to its end, reporting now and then."""
    size, target = disk.image.size, disk.image.disk.target
    reported = start
    for chunk in disk.read(start, size):
        if chunk.end - reported >= _REPORT_EVERY or chunk.end == size:
            reported = chunk.end
            elapsed = clock.monotonic() - started
            progress(Progress("verify", target, chunk.end, size, elapsed))
    return size


def _remember(machine: Path, point_id: str, level: VerifyLevel, findings: list[Finding]) -> None:
    """Mark the owners of what is damaged; take the point's own mark away if all is well."""
    owners = {item.point for item in findings}
    try:
        with durable.explaining(machine):
            for owner in owners - {point_id}:
                for item in findings:
                    if item.point == owner and item.disk is not None:
                        damage.mark_disk(machine / owner, owner, item.disk, item.message)
            own = [item for item in findings if item.point == point_id]
            if level is VerifyLevel.DATA or own:
                _mark_own(machine / point_id, level, own)
    except (NotAllowed, OutOfSpace) as error:
        logger.warning("what the verification found cannot be remembered: %s", error)


def _mark_own(folder: Path, level: VerifyLevel, own: list[Finding]) -> None:
    """Replace the mark after every byte was read; only add to it after less."""
    if level is VerifyLevel.DATA:
        damage.mark(folder, own)
        return
    known = damage.read(folder)
    disks = known.disks.difference(item.disk for item in own if item.disk is not None)
    kept = [Finding(folder.name, disk, None, "found before") for disk in sorted(disks)]
    damage.mark(folder, [*own, *kept])
