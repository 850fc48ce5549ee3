"""Copies: from an NBD export into a repository, from a point to a raw file, out of a store."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.dedup.points import GRANULE, TARGET, write_point
from bench.dedup.task import Task
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.model.stream import BlockSink
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.repository import DedupRepository
from sendense.storage.store import Store
from sendense.storage.wrapper import Wrapper
from sendense.transfer.copy import CopyOptions, copy_disk
from sendense.workflows.restore import ToFolder, plan_restore, run_restore

Range = tuple[str, int, int]
"""An object's name, the offset of the range, and its length."""


def init(task: Task) -> None:
    """Make a repository."""
    task.create().close()


def backup(task: Task) -> None:
    """Copy an export into a point: from taking the lease to the point that is durable."""
    repository = task.open()
    method = Method(task["method"])
    context = f"qemu:dirty-bitmap:{task['bitmap']}" if method is Method.BITMAP else None
    export = DiskExport(TARGET, task["socket"], task["export"], task["size"], context)

    def fill(sink: BlockSink) -> int:
        return copy_disk(export, sink, method=method, options=CopyOptions()).read_bytes

    with task.timed():
        point = write_point(repository, task["point"], task["size"], fill, method=method)
    image = point.disks[0]
    task.facts.update(
        read=image.read_bytes, new=image.data_bytes, stored=image.stored_bytes, granule=GRANULE
    )
    repository.close()


def restore(task: Task) -> None:
    """Restore a point to a raw file, durably; remember on request what was read of the store."""
    repository = task.open()
    seen: list[Range] = []
    if task["record"]:
        store = Recording(repository.parts.store, seen)
        parts = replace(repository.parts, store=store)
        repository = DedupRepository(parts, repository.header)
    plan = plan_restore(repository.point(task["point"]), ToFolder(Path(task["into"]), "raw"))
    with task.timed():
        result = run_restore(plan, repository)
    task.facts["path"] = result.disks[0].path
    if task["record"]:
        Path(task["record"]).write_text(json.dumps(seen))
    repository.close()


class Recording(Wrapper):
    """A store that takes note of the ranges that are read."""

    def __init__(self, inner: Store, seen: list[Range]) -> None:
        """Note them in ``seen``."""
        super().__init__(inner)
        self._seen = seen
        self._lock = threading.Lock()

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range."""
        with self._lock:
            self._seen.append((name, offset, target.nbytes))
        self.inner.read_into(name, offset, target)


def fetch(task: Task) -> None:
    """Read objects with the same client, so many at once, and drop what comes."""
    repository = task.open()
    store = repository.parts.store
    if task["ranges"]:
        wanted: Sequence[Range] = json.loads(Path(task["ranges"]).read_text())
    else:
        wanted = [(item.name, 0, item.size) for item in store.list(fmt.PACKS)]
    rooms = _Rooms(max(length for _, _, length in wanted))

    def read(item: Range) -> None:
        name, offset, length = item
        store.read_into(name, offset, rooms.own[:length])

    with task.timed(), ThreadPoolExecutor(task["connections"]) as pool:
        for _ in pool.map(read, wanted):
            pass
    task.facts["requests"] = len(wanted)
    task.facts["bytes"] = sum(length for _, _, length in wanted)
    repository.close()


class _Rooms(threading.local):
    """A buffer for each thread."""

    def __init__(self, size: int) -> None:
        self.own = memoryview(bytearray(size))
