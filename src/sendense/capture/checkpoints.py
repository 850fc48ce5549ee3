"""Our checkpoints on a running domain: found, redefined, dropped; foreign ones never touched.

A checkpoint is libvirt's note of a name over bitmaps that live in the images.
CloudStack's domains are transient: the notes vanish with each stop and do not
travel with a migration, while the bitmaps stay (libvirt.md F2.1, F5.1).  So
before an incremental the note is made again with ``REDEFINE | VALIDATE``, which
fails on a bitmap that is missing, disabled or inconsistent.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import Any

import libvirt

from sendense import clock
from sendense.capture.backupxml import redefinition_xml
from sendense.capture.bitmaps import ImageNode, query_images, remove_bitmap
from sendense.model.survey import is_own

log = logging.getLogger(__name__)

_REDEFINE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
_VALIDATE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
_METADATA_ONLY = libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY


def ensure_defined(domain: Any, name: str, targets: Iterable[str]) -> None:
    """Make libvirt know checkpoint ``name`` over the bitmaps of ``targets``.

    A note that lacks one of the disks (it was redefined for fewer) is replaced.
    """
    wanted = set(targets)
    known = _find(domain, name)
    if known is not None:
        if wanted <= _disks_of(known):
            return
        known.delete(_METADATA_ONLY)
    created = int(clock.now().timestamp())
    xml = redefinition_xml(name, wanted, created=created)
    domain.checkpointCreateXML(xml, _REDEFINE | _VALIDATE)
    log.info("checkpoint %s redefined for %s", name, ", ".join(sorted(wanted)))


def drop(domain: Any, name: str) -> None:
    """Remove one of our checkpoints: libvirt's note, and its bitmap from every image.

    Repeating it, or dropping what is half gone, is fine.
    """
    if not is_own(name):
        raise ValueError(f"checkpoint {name!r} is not ours to drop")
    known = _find(domain, name)
    if known is not None:
        try:
            known.delete(0)
        except libvirt.libvirtError as error:
            # Fails when a bitmap is already gone ("not found in backing chain", F2.6):
            # then only the note is deleted, and the sweep below takes what bitmaps remain.
            log.debug("deleting checkpoint %s: %s", name, error)
            known.delete(_METADATA_ONLY)
    for image in _writable_images(domain):
        if any(bitmap.name == name for bitmap in image.bitmaps):
            remove_bitmap(domain, image.node, name)
    log.info("checkpoint %s dropped", name)


def own_names(domain: Any) -> tuple[str, ...]:
    """List our checkpoints and bitmaps, oldest first: their names sort by age."""
    names = {item.getName() for item in domain.listAllCheckpoints(0)}
    names |= {bitmap.name for image in _writable_images(domain) for bitmap in image.bitmaps}
    return tuple(sorted(name for name in names if is_own(name)))


def surplus(
    names: Sequence[str], *, new: str, dropped: Iterable[str], most: int
) -> tuple[str, ...]:
    """Choose what goes after a commit: what was superseded, and the oldest over ``most``.

    ``names`` are our checkpoints oldest first; the new one is always kept.
    """
    gone = [name for name in names if name in set(dropped) and name != new]
    rest = [name for name in names if name not in gone and name != new]
    excess = max(0, len(rest) + 1 - most)
    return (*gone, *rest[:excess])


def remove_broken(domain: Any) -> None:
    """Remove our bitmaps that a crash of QEMU broke; they block resize and migration (F2.7).

    Image by image: the bitmap of the same name on another disk may be sound, and its base.
    """
    for image in _writable_images(domain):
        for bitmap in image.bitmaps:
            if bitmap.inconsistent and is_own(bitmap.name):
                remove_bitmap(domain, image.node, bitmap.name)
                log.info("broken bitmap %s removed from %s", bitmap.name, image.path)


def remove_all_from(domain: Any, path: str) -> None:
    """Remove all our bitmaps from one image, and from no other."""
    for image in _writable_images(domain):
        for bitmap in image.bitmaps:
            if image.path == path and is_own(bitmap.name):
                remove_bitmap(domain, image.node, bitmap.name)
                log.info("bitmap %s removed from %s", bitmap.name, path)


def forget_hollow(domain: Any) -> None:
    """Delete our checkpoints of which no bitmap is left on any disk.

    A kept domain carries such notes over a stop during which its bitmaps were removed.
    """
    held = {bitmap.name for image in query_images(domain).values() for bitmap in image.bitmaps}
    for checkpoint in domain.listAllCheckpoints(0):
        if is_own(checkpoint.getName()) and checkpoint.getName() not in held:
            checkpoint.delete(_METADATA_ONLY)


def _writable_images(domain: Any) -> list[ImageNode]:
    return [image for image in query_images(domain).values() if not image.read_only]


def _find(domain: Any, name: str) -> Any:
    for checkpoint in domain.listAllCheckpoints(0):
        if checkpoint.getName() == name:
            return checkpoint
    return None


def _disks_of(checkpoint: Any) -> set[str]:
    root = ET.fromstring(checkpoint.getXMLDesc(0))  # noqa: S314 - libvirt's own document
    return {
        str(disk.get("name"))
        for disk in root.findall("disks/disk")
        if disk.get("checkpoint", "bitmap") == "bitmap"
    }
