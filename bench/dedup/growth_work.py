"""What a store grows by: scattered writes to one disk, and clones of one template.

Disks are made here and handed to the repository as a transfer would, so that no time is
spent on anything that does not grow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from bench.dedup.points import GRANULE, write_point
from bench.dedup.task import Task
from sendense.model.decision import Method
from sendense.model.stream import BlockSink
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.repository import DedupRepository
from sendense.units import MIB

Fill = Callable[[BlockSink], int]


def numbered_block(number: int) -> bytes:
    """Give a block that is like no other, and that compresses to nearly nothing."""
    return (number + 1).to_bytes(8, "little") * (fmt.BLOCK // 8)


def sizes(repository: DedupRepository) -> dict[str, int]:
    """Give the bytes in the store: data packs, meta packs, and the rest by folder."""
    kinds = {item.head.name: item.head.kind for item in repository.parts.index.packs()}
    found = {"data": 0, "meta": 0, "index": 0, "points": 0, "others": 0}
    for item in repository.parts.store.list(""):
        folder = item.name.partition("/")[0]
        if item.name in kinds:
            found["data" if kinds[item.name] is PackKind.DATA else "meta"] += item.size
        else:
            found[folder if folder in found else "others"] += item.size
    return found


def scattered(task: Task) -> None:
    """Fill a disk, change 4 KiB in some granules, and make an incremental of those granules.

    The disk compresses well and the changed granules not at all: that is the most that they
    can cost.
    """
    repository = task.create()
    size = task["size"]
    granules = task["granules"]
    write_point(repository, "full", size, lambda sink: _fill_numbered(sink, size))
    before = sizes(repository)
    rng = random.Random(1)

    def fill(sink: BlockSink) -> int:
        for granule in granules:
            sink.write(granule * GRANULE, rng.randbytes(GRANULE))
        return len(granules) * GRANULE

    with task.timed():
        write_point(repository, "incremental", size, fill, method=Method.BITMAP)
    after = sizes(repository)
    task.facts["growth"] = {kind: after[kind] - before[kind] for kind in after}
    repository.close()


def _fill_numbered(sink: BlockSink, size: int) -> int:
    blocks = MIB // fmt.BLOCK
    for start in range(0, size, MIB):
        first = start // fmt.BLOCK
        sink.write(start, b"".join(map(numbered_block, range(first, first + blocks))))
    return size


def clones(task: Task) -> None:
    """Store machines that have a template in common and a share of their blocks of their own."""
    repository = task.create()
    rng = random.Random(2)
    template = b"".join(rng.randbytes(MIB) for _ in range(task["size"] // MIB))
    one = 0
    for number in range(task["count"]):
        own = bytearray(template)
        for first, count in own_places(len(template) // fmt.BLOCK, task["share"], task["run"], rng):
            own[first * fmt.BLOCK : (first + count) * fmt.BLOCK] = rng.randbytes(count * fmt.BLOCK)
        with task.timed():
            write_point(repository, f"p{number}", len(own), _whole(own), number=number)
        one = one or sum(sizes(repository).values())
    task.facts.update(one=one, all=sum(sizes(repository).values()))
    repository.close()


def own_places(
    blocks: int, share: float, run: int, rng: random.Random
) -> Iterable[tuple[int, int]]:
    """Choose runs of blocks that make up a share of a disk."""
    runs = max(1, round(blocks * share / run))
    return [(place * run, run) for place in rng.sample(range(blocks // run), runs)]


def _whole(content: bytearray) -> Fill:
    def fill(sink: BlockSink) -> int:
        view = memoryview(content)
        for start in range(0, len(content), MIB):
            sink.write(start, view[start : start + MIB])
        return len(content)

    return fill
