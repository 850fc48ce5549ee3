"""A small repository that is kept in ``tests/fixtures`` for each version of the format.

``python -m tests.support.dedup_fixture FOLDER`` made it.  It is never made again for a version
that was released: later programs have to read what that version wrote.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from sendense.model.decision import Method
from sendense.model.hold import Hold, HoldKind
from sendense.storage.urls import open_store
from tests.support.dedup import dedup_repository
from tests.support.points import BLOCK, Write, data, disk, store, zeroes

SIZE = 70 * BLOCK + 512
DISK = disk()


def words(seed: int) -> bytes:
    """Give a block that compresses, another one for each seed."""
    line = f"block {seed:08d} of the fixture, which compresses well\n".encode()
    return (line * (BLOCK // len(line) + 1))[:BLOCK]


def contents() -> dict[str, bytes]:
    """Give what the points hold."""
    first = bytearray(SIZE)
    for place in (*range(20), 40, 69):
        first[place * BLOCK : (place + 1) * BLOCK] = words(place)
    first[70 * BLOCK :] = b"\7" * 512
    second = bytearray(first)
    second[3 * BLOCK : 4 * BLOCK] = words(1003)
    second[5 * BLOCK : 9 * BLOCK] = bytes(4 * BLOCK)
    return {"p1": bytes(first), "p2": bytes(second)}


def make(folder: Path) -> None:
    """Write the repository."""
    repository = dedup_repository(open_store(str(folder)), level=3)
    first = contents()["p1"]
    chunks = (
        data(0, first[: 20 * BLOCK]),
        data(40 * BLOCK, first[40 * BLOCK : 41 * BLOCK]),
        data(69 * BLOCK, first[69 * BLOCK :]),
    )
    attachments = {"domain.xml": b"<domain/>", "nvram.fd": bytes(range(256)) * 300}
    store(repository, "p1", Write(DISK, SIZE, chunks), attachments=attachments)
    changes = (data(3 * BLOCK, words(1003)), zeroes(5 * BLOCK, 4 * BLOCK))
    store(repository, "p2", Write(DISK, SIZE, changes, Method.BITMAP))
    made_at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    repository.hold(Hold("p1", HoldKind.PIN, None, "kept for ever", made_at))
    repository.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
