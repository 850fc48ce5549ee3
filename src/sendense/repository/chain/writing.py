"""Writing a point: disks as layers, attachments, and the manifest last.

Everything goes to ``.partial-<point id>`` in the machine's directory.  The commit
makes all of it durable, writes the manifest, and renames the directory to the
point's name: that rename is the moment when the point begins to exist.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from sendense import steps
from sendense.errors import Rejected
from sendense.formats.qcow2 import read_header
from sendense.model.decision import Method
from sendense.model.machine import Machine
from sendense.model.point import (
    Attachment,
    DiskImage,
    RecoveryPoint,
)
from sendense.repository.chain import layout, manifest
from sendense.repository.chain.disk_writing import LayerWriter, Parent
from sendense.repository.chain.layers import check_header, links, load_point, open_layers
from sendense.repository.chain.listing import list_machine
from sendense.repository.chain.locks import Lock
from sendense.repository.chain.reading import ResolvedDisk
from sendense.repository.chain.sequence import next_sequence, remember_sequence
from sendense.repository.foundation import base_of
from sendense.repository.names import check_name
from sendense.repository.protocol import DiskSpec, DiskWriter, PointDraft
from sendense.storage import durable


class ChainPointWriter:
    """One point under way; the repository's PointWriter."""

    def __init__(
        self,
        folder: Path,
        point_id: str,
        *,
        machine: Machine,
        lock: Lock,
        compression_level: int | None,
    ) -> None:
        """Create the partial directory in a machine's ``folder``, of which ``lock`` is held."""
        self._machine_folder = folder
        self._folder = folder / f"{layout.PARTIAL}{point_id}"
        self._id = point_id
        self._machine = machine
        self._earlier = list_machine(folder).points
        self._lock = lock
        self._compression_level = compression_level
        self._disks: list[LayerWriter] = []
        self._attachments: dict[str, Attachment] = {}
        self._committed = False
        with durable.explaining(self._folder):
            self._folder.mkdir(mode=0o700)
        steps.reached("point:begun")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not self._committed:
                for writer in self._disks:
                    writer.discard()
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            self._lock.release()

    def disk(self, spec: DiskSpec) -> DiskWriter:
        """Begin one disk, over the last image of it if the decision says so."""
        check_name(spec.disk.target, "a disk")
        self._disks = [item for item in self._disks if not item.discarded]
        for other in self._disks:
            if spec.disk.target == other.spec.disk.target or (
                spec.disk.identity == other.spec.disk.identity
            ):
                raise Rejected(f"disk {spec.disk.target} is already in this point")
        writer = LayerWriter(
            self._folder,
            spec,
            parent=self._parent(spec),
            compression_level=self._compression_level,
        )
        self._disks.append(writer)
        return writer

    def attach(self, name: str, content: bytes) -> None:
        """Add a small file."""
        layout.check_attachment(name)
        if name in self._attachments:
            raise Rejected(f"{name} is already in this point")
        with durable.explaining(self._folder):
            durable.write_file(self._folder / name, content)
        self._attachments[name] = Attachment(name, len(content), blake3(content).hexdigest())

    def give_up(self) -> None:
        """Nobody waits here: a write goes to a file at once."""

    def commit(self, draft: PointDraft) -> RecoveryPoint:
        """Make the point visible."""
        if self._committed:
            raise Rejected("this point is committed already")
        if draft.machine.uuid != self._machine.uuid:
            raise Rejected("the point is of another machine than it was begun for")
        images = self._finished_images()
        with durable.explaining(self._folder):
            number = next_sequence(
                self._machine_folder, (point.sequence for point in self._earlier)
            )
            remember_sequence(self._machine_folder, number)
            steps.reached("point:sequence-remembered")
            point = self._describe(draft, number, images)
            durable.sync_directory(self._folder)
            manifest.write(self._folder, point)
            steps.reached("point:manifest-written")
            durable.move(self._folder, self._machine_folder / self._id)
        self._committed = True
        steps.reached("point:visible")
        list_machine(self._machine_folder)  # renews the cache
        return point

    def _finished_images(self) -> tuple[DiskImage, ...]:
        images = []
        for writer in self._disks:
            if writer.discarded:
                continue
            if writer.image is None:
                raise Rejected(f"disk {writer.spec.disk.target} is not finished")
            images.append(writer.image)
        # Disks finish in any order; a point lists them as the machine does.
        order = {disk.target: number for number, disk in enumerate(self._machine.disks)}
        images.sort(key=lambda image: order.get(image.disk.target, len(order)))
        return tuple(images)

    def _describe(
        self, draft: PointDraft, number: int, images: tuple[DiskImage, ...]
    ) -> RecoveryPoint:
        return RecoveryPoint(
            id=self._id,
            sequence=number,
            machine=draft.machine,
            taken_at=draft.taken_at,
            mode=draft.mode,
            consistency=draft.consistency,
            checkpoint=draft.checkpoint,
            frozen_s=draft.frozen_s,
            seconds=draft.seconds,
            disks=images,
            attachments=tuple(self._attachments.values()),
            warnings=draft.warnings,
            host=draft.host,
            versions=draft.versions,
        )

    def _parent(self, spec: DiskSpec) -> Parent | None:
        """Find and check what the disk is laid over."""
        base = base_of(spec, self._earlier)
        if base is None:
            return None
        point, image = base
        return Parent(point.id, image, self._open_parent(spec, point))

    def _open_parent(self, spec: DiskSpec, point: RecoveryPoint) -> ResolvedDisk | None:
        """Open the parent where the method reads it; else only look at its newest layer."""
        machine, identity = self._machine_folder, spec.disk.identity
        if spec.decision.method is Method.COMPARE:
            layers = open_layers(machine, point, identity)
            return ResolvedDisk(layers[0].link.image, layers)
        link = next(links(machine, load_point(machine, point.id), identity))
        path = machine / point.id / layout.image_file(link.image.disk.target)
        check_header(read_header(path), link, path)
        return None
