"""Merging a layer into its child, so that the parent's point can go.

``C`` is laid over ``P``; afterwards ``C`` stands on what ``P`` stood on.  The child's
blocks are written *down* into the parent's file (usually the child is small and the
parent large), and that file then takes the child's place::

    1  merged map      written beside the child's map
    2  journal         from here on the merge is finished, whatever happens
    3  commit          qemu-img writes what C states into P's file
    4  P.qcow2 -> C.qcow2
    5  merged map -> C.map
    6  C's manifest    new parent, digest and sizes
    7  journal removed

At every moment ``C`` over ``P`` reads the same: only what ``C`` states is written to
``P``, and there ``C`` hides ``P``.  Each step can be done again, so that whoever comes
next goes on from the journal; which steps are done shows in which files are there.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sendense import steps
from sendense.errors import Damaged, NotFound
from sendense.formats.blockmap import BlockMap
from sendense.formats.qcow2 import read_header
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.model.progress import ProgressListener
from sendense.repository import sealed
from sendense.repository.chain import damage, layout, manifest, qemu_img
from sendense.repository.chain.disk_writing import stored_bytes
from sendense.repository.chain.layers import (
    Layer,
    close_layers,
    links,
    load_point,
    open_layer,
    open_layers,
)
from sendense.repository.chain.locks import Lock
from sendense.repository.chain.merged_map import write_merged_map
from sendense.repository.chain.reading import ResolvedDisk
from sendense.repository.names import is_name
from sendense.storage import durable

logger = logging.getLogger(__name__)

KIND = "sendense-merge"


@dataclass(frozen=True)
class Journal:
    """A merge that was begun."""

    parent: str
    child: str
    disk: str
    parent_target: str
    child_target: str
    digest: str
    """Of the merged map."""
    data_bytes: int
    zero_bytes: int
    block_size: int
    broken: bool
    """Whether the merged layer is known to hold damaged blocks."""


def read_journal(machine: Path) -> Journal | None:
    """Read the journal of a machine, if a merge is under way."""
    path = machine / layout.JOURNAL
    try:
        journal = Journal(**sealed.read(path, KIND))
    except NotFound:
        return None
    except TypeError as error:
        raise Damaged(f"{path} is no journal of a merge", file=path) from error
    names = (journal.parent, journal.child, journal.parent_target, journal.child_target)
    if not all(is_name(name) for name in names):
        raise Damaged(f"{path} names something impossible", file=path)
    return journal


def drop_journal(machine: Path) -> None:
    """Forget the merge under way."""
    (machine / layout.JOURNAL).unlink(missing_ok=True)
    durable.sync_directory(machine)


def concerns(machine: Path, point_id: str) -> bool:
    """Tell whether a point reads layers of the merge under way.

    Where the journal cannot be read, the layers' own checks have to tell.
    """
    try:
        journal = read_journal(machine)
    except Damaged:
        return False
    if journal is None:
        return False
    point = load_point(machine, point_id)
    try:
        return any(
            link.point == journal.child
            for image in point.disks
            for link in links(machine, point, image.disk.identity)
        )
    except Damaged:
        return True


def check(machine: Path, child: RecoveryPoint, identity: str) -> None:
    """Raise :class:`~sendense.errors.Damaged` if a child cannot absorb its parent."""
    for layer in _open_pair(machine, child, identity):
        layer.close()


def merge(
    machine: Path,
    child: RecoveryPoint,
    identity: str,
    *,
    lock: Lock,
    progress: ProgressListener,
) -> None:
    """Merge the parent of one disk of ``child`` into it."""
    journal = _prepare(machine, child, identity)
    steps.reached("merge:map-written")
    durable.replace_file(machine / layout.JOURNAL, sealed.render(KIND, asdict(journal)))
    steps.reached("merge:journal-written")
    finish(machine, journal, lock=lock, progress=progress)


def finish(machine: Path, journal: Journal, *, lock: Lock, progress: ProgressListener) -> None:
    """Do what is left of a merge; may be called at any step, any number of times."""
    upper = machine / journal.child / layout.image_file(journal.child_target)
    lower = machine / journal.parent / layout.image_file(journal.parent_target)
    if lower.exists():
        _check_backing_names(machine, journal)
        qemu_img.commit(upper, lower, lock=lock, progress=progress)
        durable.sync_file(lower)
        steps.reached("merge:committed")
        durable.move(lower, upper)
    steps.reached("merge:image-moved")
    written = _merged_map(machine, journal)
    if written.exists():
        durable.move(written, machine / journal.child / layout.map_file(journal.child_target))
    steps.reached("merge:map-moved")
    _rewrite_manifest(machine, journal)
    steps.reached("merge:manifest-written")
    drop_journal(machine)
    steps.reached("merge:journal-removed")


def _prepare(machine: Path, child: RecoveryPoint, identity: str) -> Journal:
    """Write the merged map aside."""
    upper, lower = _open_pair(machine, child, identity)

    def open_child() -> ResolvedDisk:
        return ResolvedDisk(upper.link.image, open_layers(machine, child, identity))

    try:
        target = upper.link.image.disk.target
        path = machine / child.id / f".{layout.map_file(target)}.merged"
        summary, broken = write_merged_map(path, upper.map, lower.map, open_child=open_child)
        durable.sync_directory(path.parent)
        return Journal(
            parent=lower.link.point,
            child=child.id,
            disk=identity,
            parent_target=lower.link.image.disk.target,
            child_target=target,
            digest=summary.digest,
            data_bytes=summary.data_bytes,
            zero_bytes=summary.zero_bytes,
            block_size=lower.map.block_size,
            broken=broken,
        )
    finally:
        close_layers([upper, lower])


def _open_pair(machine: Path, child: RecoveryPoint, identity: str) -> list[Layer]:
    """Open a child's layer and its parent's; look at the headers of all others."""
    found = list(links(machine, child, identity))
    for link in found[2:]:
        path = machine / link.point / layout.image_file(link.image.disk.target)
        if read_header(path).backing != link.backing:
            raise Damaged(f"the image {path} has another backing file than its manifest says")
    layers: list[Layer] = []
    try:
        layers.extend(open_layer(machine, link) for link in found[:2])
    except BaseException:
        close_layers(layers)
        raise
    return layers


def _check_backing_names(machine: Path, journal: Journal) -> None:
    """Look at every header again, right before QEMU follows the names in them."""
    child = load_point(machine, journal.child)
    for link in links(machine, child, journal.disk):
        path = machine / link.point / layout.image_file(link.image.disk.target)
        if read_header(path).backing != link.backing:
            raise Damaged(f"the image {path} has another backing file than its manifest says")


def _merged_map(machine: Path, journal: Journal) -> Path:
    return machine / journal.child / f".{layout.map_file(journal.child_target)}.merged"


def _rewrite_manifest(machine: Path, journal: Journal) -> None:
    """Let the child's manifest describe the merged layer, and take over known damage."""
    child = load_point(machine, journal.child)
    image = child.image_of(journal.disk)
    if image is None or image.parent != journal.parent:
        return
    folder = machine / journal.child
    with BlockMap(folder / layout.map_file(journal.child_target), digest=journal.digest):
        pass
    grandparent = load_point(machine, journal.parent).image_of(journal.disk)
    if grandparent is None:
        raise Damaged(f"point {journal.parent} lacks the disk {journal.disk}")
    if journal.broken or journal.disk in damage.read(machine / journal.parent).disks:
        damage.mark_disk(folder, child.id, journal.disk, "damaged before it was merged")
    merged = _describe(folder, image, grandparent.parent, journal)
    disks = tuple(merged if item.disk.identity == journal.disk else item for item in child.disks)
    visible = (folder / layout.MANIFEST).exists()
    manifest.write(
        folder,
        replace(child, disks=disks),
        name=layout.MANIFEST if visible else layout.TOMBSTONE,
    )
    logger.info("point %s stands without %s on disk %s", child.id, journal.parent, journal.disk)


def _describe(folder: Path, image: DiskImage, parent: str | None, journal: Journal) -> DiskImage:
    target = journal.child_target
    return replace(
        image,
        parent=parent,
        block_size=journal.block_size,
        data_bytes=journal.data_bytes,
        zero_bytes=journal.zero_bytes,
        stored_bytes=stored_bytes(folder / layout.image_file(target))
        + stored_bytes(folder / layout.map_file(target)),
        digest=journal.digest,
    )
