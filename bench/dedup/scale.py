"""What becomes of it as a repository grows: in bytes, in points, in chunks."""

from __future__ import annotations

from collections.abc import Iterator

from bench.dedup.figuring import MEMORY, single
from bench.dedup.jobs import Run, run_worker
from bench.dedup.stage import DedupStage
from bench.figures import Figure, Goal
from sendense.units import KIB, MIB, TIB, format_size

_BLOCKS = 100
"""What changes in an incremental: 6.25 MiB."""
_INDEX_MEMORY = Goal(64)


def measure_index(stage: DedupStage) -> Iterator[Figure]:
    """Measure the local index, and say what a TiB takes in it."""
    for chunk in (MIB, 64 * KIB):
        yield from _index(stage, chunk, f"in chunks of {format_size(chunk)}")


def _index(stage: DedupStage, chunk: int, told: str) -> Iterator[Figure]:
    root = stage.place("index")
    root.mkdir()
    run = run_worker("index", cache=root, records=stage.plan.records, chunk=chunk)
    stage.clear(root)
    tib = TIB / (stage.plan.records * chunk)
    note = f"from {stage.plan.records} chunks and {run.facts['leaves']} leaves"
    name = f"dedup, local index of a TiB {told}"
    yield single(f"{name}, file", "MiB", run.facts["file"] * tib / MIB, note=note)
    # It is bounded by the caches of SQLite, whatever there is to be known.
    memory = run.facts["memory"] / MIB
    yield single(f"{name}, memory", "MiB", memory, goal=_INDEX_MEMORY)
    yield single(f"{name}, time to build", "s", run.cost.seconds * tib)


def measure_scale(stage: DedupStage) -> Iterator[Figure]:
    """Measure the same work in repositories of several sizes."""
    for size in stage.plan.sizes:
        yield from _measure(stage, size, 2, f"{format_size(size)} in 2 points")
    smallest = stage.plan.sizes[0]
    for points in stage.plan.points:
        yield from _measure(stage, smallest, points, f"{format_size(smallest)} in {points} points")


def _measure(stage: DedupStage, size: int, points: int, where: str) -> Iterator[Figure]:
    root = stage.place("scale")
    root.mkdir()

    def work(verb: str, **arguments: object) -> Run:
        return run_worker(
            verb, url=f"dedup:{root}/repository", cache=root / "cache", size=size, points=points,
            blocks=_BLOCKS, **arguments,
        )  # fmt: skip

    work("grow")
    runs = {
        "open, nothing kept here": work("open", cold=True),
        "open": work("open", cold=False),
        "incremental of 100 blocks": work("change", point="next"),
        "plan a collection": work("plan"),
        "delete one, collect": work("collect"),
    }
    stage.clear(root)
    for what, run in runs.items():
        note = f"{run.working / MIB:.0f} MiB"
        yield single(f"dedup, {what}, {where}", "s", run.cost.seconds, note=note)
    yield single(
        f"memory, dedup, most of these, {where}",
        "MiB",
        max(run.peak for run in runs.values()) / MIB,
        goal=MEMORY,
    )
