"""One point, opened for reading."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from blake3 import blake3

from sendense.errors import Damaged, NotFound
from sendense.model.point import RecoveryPoint
from sendense.repository.dedup.lease import Lease
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.points import StoredPoint
from sendense.repository.dedup.reading import (
    DedupDiskReader,
    Place,
    chunk_cache,
    tail_reader,
)
from sendense.repository.dedup.record_reading import Records
from sendense.repository.dedup.unnamed_packs import Rescue


class DedupPointReader:
    """One point opened for reading; the repository's PointReader."""

    def __init__(
        self, parts: Parts, stored: StoredPoint, point: RecoveryPoint, lease: Lease
    ) -> None:
        """Read ``stored`` while ``lease`` keeps it."""
        self.point = point
        self.stored = stored
        self._parts = parts
        self._rescue = Rescue(parts)
        self._records = Records(parts, self._rescue)
        self._chunks = chunk_cache(parts, self._records)
        self._lease = lease

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._chunks.close()
            self._rescue.close()
        finally:
            self._lease.release()

    def disk(self, identity: str) -> DedupDiskReader:
        """Open one disk."""
        image = self.point.image_of(identity)
        if image is None:
            raise NotFound(f"point {self.point.id} holds no disk {identity}")
        place = Place(self.point.id, image)
        root = self.stored.roots[identity]
        return DedupDiskReader(self._parts, self._records, place, root, self._chunks)

    def attachment(self, name: str) -> bytes:
        """Give a small file, checked against its hash."""
        known = next((item for item in self.point.attachments if item.name == name), None)
        if known is None:
            raise NotFound(f"point {self.point.id} holds no {name}")
        data = self.stored.attachments.get(name)
        if data is None and name in self.stored.tails:
            data = self._tail(name)
        if data is None or blake3(data).hexdigest() != known.digest:
            raise Damaged(f"{name} of point {self.point.id} does not match its hash", file=name)
        return data

    def _tail(self, name: str) -> bytes:
        tail = self.stored.tails[name]
        reader = tail_reader(self._parts, self._records, self.point.id, name, tail.root, tail.size)
        return b"".join(
            bytes(chunk.length) if chunk.data is None else bytes(chunk.data)
            for chunk in reader.chunks()
        )
