"""A repository with points, and servers over it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import nbd

from sendense.model.decision import Method
from sendense.repository.dedup import slots
from sendense.repository.dedup.slot_wrapping import Argon2
from sendense.repository.opening import (
    Access,
    RepositorySettings,
    create_repository,
    open_repository,
)
from sendense.repository.protocol import Repository
from sendense.serving import mounting
from sendense.serving.mounting import MountOrder, Server
from sendense.serving.mounts import list_mounts
from sendense.units import MIB
from tests.support.dedup import PASSPHRASE
from tests.support.points import BLOCK, Write, data, disk, noise, store, zeroes

KINDS = ["chain", "chain-compressed", "dedup", "dedup-compressed"]
VDA, VDB = disk("vda"), disk("vdb")
SIZE = 9 * MIB + 3 * BLOCK + 512
FULL_A = Write(
    VDA,
    SIZE,
    (
        data(0, noise(3 * MIB) + b"text " * (MIB // 5) + b"text!" + bytes(3 * BLOCK - 1)),
        data(6 * MIB, noise(BLOCK, 1)),
        data(9 * MIB + 3 * BLOCK, noise(512, 2)),
    ),
)
FULL_B = Write(VDB, 3 * MIB, (data(MIB, noise(MIB, 3)),))
SECOND_A = Write(
    VDA,
    SIZE,
    (data(BLOCK, noise(BLOCK, 4)), zeroes(MIB, MIB), data(8 * MIB, noise(2 * BLOCK, 5))),
    Method.BITMAP,
)


def _cut(write: Write) -> Write:
    """Cut chunks to whole blocks."""
    chunks = tuple(
        data(chunk.offset, bytes(chunk.data)[: chunk.length - chunk.length % BLOCK])
        if chunk.data is not None and chunk.end != write.size
        else chunk
        for chunk in write.chunks
    )
    return Write(write.disk, write.size, chunks, write.method, write.granularity)


FULL_A = _cut(FULL_A)


def over(write: Write, base: bytes = b"") -> bytes:
    """Give a disk's content after a write over ``base``."""
    content = bytearray(base.ljust(write.size, b"\0"))
    for chunk in write.chunks:
        content[chunk.offset : chunk.end] = chunk.data or bytes(chunk.length)
    return bytes(content)


class Site:
    """A repository in a folder: its points are made by the test."""

    def __init__(self, folder: Path, kind: str) -> None:
        """Make it."""
        self.folder = folder
        self.kind = kind
        self.root = folder / "m"
        self.overlays = folder / "overlays"
        self.overlays.mkdir()
        self.place = folder / "repository"
        name = "qcow2:" if kind.startswith("chain") else "dedup:"
        self.url = f"{name}{self.place}"
        self.access = Access(secret=lambda _new: PASSPHRASE, cache=folder / "cache")
        level = 1 if kind.endswith("compressed") else None
        settings = RepositorySettings(compression_level=level)
        # A guess at the passphrase is cheap: it is opened again and again.
        with patch.dict(slots.add_passphrase.__kwdefaults__, argon2=Argon2(64, 1, 1)):
            self.repository: Repository = create_repository(self.url, settings, self.access)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; a test that failed may have left a server running."""
        for mount in list_mounts(self.root):
            mounting.unmount(mount)
        self.repository.close()

    def reopen(self) -> Repository:
        """Open the repository as another process would."""
        return open_repository(self.url, self.access)

    def fill(self) -> dict[tuple[str, str], bytes]:
        """Make a full and an incremental; give what their disks hold."""
        store(self.repository, "p1", FULL_A, FULL_B)
        store(self.repository, "p2", SECOND_A)
        first = over(FULL_A)
        return {
            ("p1", "vda"): first,
            ("p1", "vdb"): over(FULL_B),
            ("p2", "vda"): over(SECOND_A, first),
        }

    def order(self, point: str, **options: Any) -> MountOrder:
        """Give the order to serve a point."""
        found = self.repository.point(point)
        return MountOrder(
            url=self.url,
            access=self.access,
            location=str(self.place),
            point=found,
            disks=found.disks,
            root=self.root,
            **options,
        )

    @contextmanager
    def served(self, point: str, **options: Any) -> Iterator[Server]:
        """Serve a point for the time of a ``with`` block."""
        with mounting.start(self.order(point, **options)) as server:
            yield server

    def objects(self) -> dict[str, str]:
        """Give every file with the hash of its content, but those that are locks."""
        return {
            str(path.relative_to(self.place)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.place.rglob("*"))
            if path.is_file() and path.name not in (".readers", ".lock")
        }


def uri(server: Server, target: str = "vda") -> str:
    """Give the URI of a disk that is served."""
    return next(item.uri for item in server.mount.disks if item.target == target)


@contextmanager
def connected(address: str) -> Iterator[nbd.NBD]:
    """Connect to an export."""
    client = nbd.NBD()
    client.set_uri_allow_local_file(True)
    client.connect_uri(address)
    try:
        yield client
    finally:
        # The server may have sent it away.
        with suppress(nbd.Error):
            client.shutdown()


def run(*command: str) -> str:
    """Run a program that must succeed; give what it says."""
    return subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, timeout=120
    ).stdout
