"""A repository of one point in memory, as far as a restore looks at it."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from sendense.errors import Damaged
from sendense.model.point import Attachment, RecoveryPoint
from sendense.model.stream import Chunk

BLOCK = 65536


@dataclass
class MemoryDisk:
    """One disk; ``damaged_at`` is where its data fails its hash."""

    image: object
    content: bytes
    damaged_at: int | None = None

    def chunks(self):
        for start in range(0, len(self.content), BLOCK):
            data = self.content[start : start + BLOCK]
            if self.damaged_at is not None and start >= self.damaged_at:
                raise Damaged(f"the data at offset {start} does not match its hash", offset=start)
            yield Chunk(start, len(data), data if any(data) else None)

    def matches(self, offset, data):
        return self.content[offset : offset + len(data)] == bytes(data)


@dataclass
class MemoryPoint:
    """One point, its disks by identity and its small files."""

    point: RecoveryPoint
    disks: dict[str, MemoryDisk] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)

    def disk(self, identity):
        return self.disks[identity]

    def attachment(self, name):
        return self.attachments[name]

    @contextmanager
    def open(self, point_id):
        """Open it, as a repository does."""
        assert point_id == self.point.id
        yield self


def memory_point(point, contents, attachments=None):
    """Give a repository of ``point``, whose disks hold ``contents`` in their order."""
    images = tuple(
        replace(image, size=len(content))
        for image, content in zip(point.disks, contents, strict=True)
    )
    attachments = attachments or {}
    listed = tuple(Attachment(name, len(data), "") for name, data in attachments.items())
    point = replace(point, disks=images, attachments=listed)
    disks = {
        image.disk.identity: MemoryDisk(image, content)
        for image, content in zip(images, contents, strict=True)
    }
    return MemoryPoint(point, disks, attachments)


def content_of(size, seed):
    """Give data with holes in it."""
    source = random.Random(seed)
    blocks = (
        source.randbytes(BLOCK) if source.random() < 0.6 else bytes(BLOCK) for _ in iter(int, 1)
    )
    content = bytearray()
    while len(content) < size:
        content += next(blocks)
    return bytes(content[:size])
