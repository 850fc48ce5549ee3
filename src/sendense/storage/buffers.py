"""Looking at what is written as plain bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sendense.model.stream import Buffer

Parts = Buffer | Sequence[Buffer]


def views(parts: Parts) -> list[memoryview]:
    """Give one buffer or several as views of bytes, leaving out empty ones."""
    if isinstance(parts, (bytes, bytearray, memoryview)):
        parts = (parts,)
    seen = (memoryview(part) for part in parts)
    return [view.cast("B") for view in seen if view.nbytes]


def joined(parts: Parts) -> bytes:
    """Give all of it in one piece that nobody changes; only bytes are not copied for that."""
    return parts if isinstance(parts, bytes) else b"".join(views(parts))


def total(parts: Parts) -> int:
    """Give the size of all of it."""
    return sum(view.nbytes for view in views(parts))
