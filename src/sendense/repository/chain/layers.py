"""The layers of a disk: a full and the incrementals over it, each an image with a map.

A layer is accepted only when manifest, map and image agree: the map is the one
whose digest the manifest names, the image has the manifest's size and cluster
size, and its header names exactly the parent that the manifest names.  So an image
whose header was changed to name some other file on this machine is never followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sendense.errors import Damaged, NotFound
from sendense.formats.blockmap import BlockMap
from sendense.formats.qcow2 import INCOMPATIBLE_COMPRESSION, Backing, Header
from sendense.formats.qcow2_reader import Qcow2Reader
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.repository.chain import layout, manifest


@dataclass(frozen=True)
class Link:
    """One step of a chain, from the manifests alone."""

    point: str
    image: DiskImage
    parent: DiskImage | None

    @property
    def backing(self) -> Backing | None:
        """Give what the header of the layer must name."""
        if self.image.parent is None or self.parent is None:
            return None
        return Backing(layout.backing_name(self.image.parent, self.parent), "qcow2")


@dataclass(frozen=True)
class Layer:
    """One layer, open for reading."""

    link: Link
    map: BlockMap
    reader: Qcow2Reader

    def close(self) -> None:
        """Give the files back."""
        self.map.close()
        self.reader.close()


def load_point(machine: Path, point_id: str) -> RecoveryPoint:
    """Read a manifest, also of a point that is being deleted while others still need it."""
    folder = machine / point_id
    try:
        return manifest.read(folder)
    except NotFound:
        pass
    try:
        return manifest.read(folder, name=layout.TOMBSTONE)
    except NotFound as error:
        raise Damaged(f"the point {point_id} that others need is missing", file=folder) from error


def links(machine: Path, point: RecoveryPoint, identity: str) -> Iterator[Link]:
    """Walk down the chain of a disk, newest first."""
    image = point.image_of(identity)
    if image is None:
        raise NotFound(f"point {point.id} holds no disk {identity}", point=point.id)
    while True:
        below = None if image.parent is None else load_point(machine, image.parent)
        if below is None:
            yield Link(point.id, image, None)
            return
        if below.sequence >= point.sequence:
            raise Damaged(f"point {point.id} names a parent that is not older", point=point.id)
        parent = below.image_of(identity)
        if parent is None:
            raise Damaged(f"point {below.id} lacks the disk {identity} that {point.id} needs")
        yield Link(point.id, image, parent)
        point, image = below, parent


def open_layers(machine: Path, point: RecoveryPoint, identity: str) -> list[Layer]:
    """Open every layer of a disk, newest first."""
    layers: list[Layer] = []
    try:
        layers.extend(open_layer(machine, link) for link in links(machine, point, identity))
    except BaseException:
        close_layers(layers)
        raise
    return layers


def close_layers(layers: list[Layer]) -> None:
    """Close them all."""
    for layer in layers:
        layer.close()


def open_layer(machine: Path, link: Link) -> Layer:
    """Open one layer and hold its three parts against each other."""
    folder = machine / link.point
    target = link.image.disk.target
    blocks = BlockMap(folder / layout.map_file(target), digest=link.image.digest)
    try:
        _check_map(blocks, link, folder)
        reader = Qcow2Reader(folder / layout.image_file(target))
    except BaseException:
        blocks.close()
        raise
    layer = Layer(link, blocks, reader)
    try:
        check_header(reader.header, link, folder / layout.image_file(target))
    except BaseException:
        layer.close()
        raise
    return layer


def _check_map(blocks: BlockMap, link: Link, folder: Path) -> None:
    if (blocks.size, blocks.block_size) != (link.image.size, link.image.block_size):
        target = link.image.disk.target
        raise Damaged(f"the block map of {target} in {folder} is of another disk", file=folder)


def check_header(header: Header, link: Link, path: Path) -> None:
    """Refuse an image that is not the one its manifest describes."""
    checks = (
        (header.size == link.image.size, "another size"),
        (header.cluster_size == link.image.block_size, "another cluster size"),
        (header.backing == link.backing, "another backing file"),
        (header.incompatible & ~INCOMPATIBLE_COMPRESSION == 0, "other features"),
        (header.snapshots == 0, "other snapshots"),
    )
    for right, what in checks:
        if not right:
            raise Damaged(f"the image {path} has {what} than its manifest says", file=path)
