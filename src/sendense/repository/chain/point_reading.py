"""One point opened for reading: its disks, its attachments, and the lock that keeps it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from sendense.errors import Damaged, NotFound
from sendense.formats.refused import unreadable
from sendense.model.point import RecoveryPoint
from sendense.repository.chain.layers import open_layers
from sendense.repository.chain.locks import Lock
from sendense.repository.chain.reading import ResolvedDisk
from sendense.repository.protocol import DiskReader


class ChainPointReader:
    """The repository's PointReader."""

    def __init__(self, machine: Path, point: RecoveryPoint, lock: Lock | None) -> None:
        """Read ``point`` in a machine's directory; ``lock`` is given up at the end."""
        self.point = point
        self._machine = machine
        self._lock = lock
        self._disks: list[ResolvedDisk] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for disk in self._disks:
            disk.close()
        if self._lock is not None:
            self._lock.release()

    def disk(self, identity: str) -> DiskReader:
        """Open one disk, through all layers it needs."""
        layers = open_layers(self._machine, self.point, identity)
        disk = ResolvedDisk(layers[0].link.image, layers)
        self._disks.append(disk)
        return disk

    def attachment(self, name: str) -> bytes:
        """Give a small file, checked against its hash."""
        known = next((item for item in self.point.attachments if item.name == name), None)
        if known is None:
            raise NotFound(f"point {self.point.id} holds no {name}")
        path = self._machine / self.point.id / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from error
        if blake3(content).hexdigest() != known.digest:
            raise Damaged(f"{path} does not match its checksum", file=path)
        return content
