"""Repositories that grow: in points, in bytes, in records of the local index."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from bench.dedup.growth_work import numbered_block
from bench.dedup.points import GRANULE, write_point
from bench.dedup.task import Task, peak
from sendense.model.decision import Method
from sendense.model.stream import BlockSink
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting.plan import CollectOptions
from sendense.repository.dedup.collecting.running import collect, plan_collection
from sendense.repository.dedup.entries import Entry, PackHead, PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.packs import HEADER_BYTES
from sendense.repository.dedup.repository import DedupRepository
from sendense.units import MIB

_LEAF = 2315
"""Bytes of a leaf whose blocks are all there."""
_PACKS_OF_AN_OBJECT = 32
_LOOKED_UP = 2000


# --- the local index ---


def index(task: Task) -> None:
    """Build the index of so many chunks, with the leaves above them, and look into it."""
    chunks, chunk = task["records"], task["chunk"]
    path = Path(task["cache"]) / "index.sqlite"
    before = peak()
    built = LocalIndex(path, repository="bench")
    wanted: list[bytes] = []
    with task.timed():
        built.apply(_objects(chunks, chunk, wanted), [])
    rng = random.Random(4)
    for _ in range(_LOOKED_UP):
        built.stored(rng.sample(wanted, min(16, len(wanted))))
    built.close()
    task.facts.update(
        file=sum(item.stat().st_size for item in path.parent.iterdir() if item.is_file()),
        memory=peak() - before,
        leaves=chunks * chunk // fmt.LEAF_BYTES,
    )


def _objects(
    chunks: int, chunk: int, wanted: list[bytes]
) -> Iterator[tuple[str, list[PackRecord]]]:
    """Give index objects as a backup puts them: 32 data packs, and a meta pack with the leaves."""
    of_pack = fmt.PACK_BYTES // chunk
    of_object = min(chunks, of_pack * _PACKS_OF_AN_OBJECT)
    for number, first in enumerate(range(0, chunks, of_object)):
        count = min(chunks - first, of_object)
        packs = [
            _pack(PackKind.DATA, min(of_pack, count - start), chunk)
            for start in range(0, count, of_pack)
        ]
        wanted.extend(pack.entries[0].id for pack in packs)
        packs.append(_pack(PackKind.META, max(1, count * chunk // fmt.LEAF_BYTES), _LEAF))
        yield f"index/{number:032x}", packs


def _pack(kind: PackKind, count: int, length: int) -> PackRecord:
    stored, start = length + fmt.TAG_BYTES, HEADER_BYTES
    entries = []
    for place in range(count):
        hooks: tuple[int, ...] = ()
        if kind is PackKind.META:
            hooks = struct.unpack("<4Q", os.urandom(32))
        entries.append(Entry(os.urandom(32), start + place * stored, stored, length, False, hooks))
    head = PackHead(os.urandom(fmt.PACK_ID_BYTES).hex(), kind, 1)
    return PackRecord(head, start + count * stored, tuple(entries))


# --- a repository ---


def grow(task: Task) -> None:
    """Make a repository: a disk with one block in each MiB of it, and incrementals of it.

    The disk has as many chunks and as many nodes as one that is full, and a 16th of its data.
    """
    repository = task.create()
    size: int = task["size"]

    def fill(sink: BlockSink) -> int:
        for number in range(size // MIB):
            sink.write(number * MIB, numbered_block(number))
        return size // MIB * fmt.BLOCK

    with task.timed():
        write_point(repository, "p0", size, fill)
        for number in range(1, task["points"]):
            _change(repository, f"p{number}", size, task["blocks"])
    repository.close()


def change(task: Task) -> None:
    """Make one incremental of scattered blocks."""
    repository = task.open()
    with task.timed():
        _change(repository, task["point"], task["size"], task["blocks"])
    repository.close()


def _change(repository: DedupRepository, point: str, size: int, blocks: int) -> None:
    rng = random.Random(point)
    places = sorted(rng.sample(range(size // fmt.BLOCK), blocks))

    def fill(sink: BlockSink) -> int:
        for place in places:
            sink.write(place * fmt.BLOCK, rng.randbytes(GRANULE))
        return len(places) * GRANULE

    write_point(repository, point, size, fill, method=Method.BITMAP)


def open_and_list(task: Task) -> None:
    """Open a repository and look at all of it, without or with what was kept of it here."""
    if task["cold"]:
        shutil.rmtree(task["cache"], ignore_errors=True)
    with task.timed():
        repository = task.open()
        info = repository.info()
    task.facts["points"] = info.points
    repository.close()


def plan(task: Task) -> None:
    """Look for garbage."""
    repository = task.open()
    with task.timed():
        plan_collection(repository)
    repository.close()


def collect_one(task: Task) -> None:
    """Delete the newest point, and collect what only it used."""
    repository = task.open()
    newest = max(repository.points(), key=lambda point: point.sequence)
    repository.delete([newest.id])
    with task.timed():
        result = collect(repository, CollectOptions(grace=timedelta(0)))
    task.facts.update(freed=result.freed_bytes, copied=result.copied_bytes)
    repository.close()
