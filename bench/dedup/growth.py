"""What does a change cost in space?  And a clone?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.dedup.figuring import single
from bench.dedup.images import choose_granules, touched_bytes
from bench.dedup.jobs import Run, run_worker
from bench.dedup.points import GRANULE
from bench.dedup.stage import DedupStage
from bench.figures import Figure, Goal
from sendense.units import KIB, MIB, format_size

_GROWTH = Goal(1.1)
_CLONES = Goal(1.25)
_FIXED = 4 * MIB
_PEER = "chunks of 4 MiB, computed"
_SHARE = 0.01
_RUN = 8
"""Blocks of a run of own data: 512 KiB."""


def measure_growth(stage: DedupStage) -> Iterator[Figure]:
    """Measure scattered writes, and clones."""
    yield from _scattered(stage)
    yield from _clones(stage, "scattered blocks", 1)
    yield from _clones(stage, "runs", _RUN)


def _scattered(stage: DedupStage) -> Iterator[Figure]:
    plan = stage.plan
    granules = choose_granules(plan.disk, plan.writes, seed=3)
    run = _in_memory("scattered", stage, size=plan.disk, granules=granules)
    growth = run.facts["growth"]
    touched = len(granules) * GRANULE
    packs = growth["data"] + growth["meta"]
    packed = single(
        "dedup, packs per touched granule, scattered writes",
        "",
        packs / touched,
        goal=_GROWTH,
        note=f"{len(granules)} of 64 KiB on {format_size(plan.disk)}",
    )
    yield replace(packed, peer=touched_bytes(granules, _FIXED) / touched, peer_name=_PEER)
    beside = growth["index"] + growth["points"]
    yield single(
        "dedup, packs, index and manifest per touched granule", "", (packs + beside) / touched
    )
    parts = ", ".join(
        f"{kind} {growth[kind] / KIB:.1f} KiB" for kind in ("meta", "index", "points")
    )
    metadata = (growth["meta"] + beside) / len(granules) / KIB
    yield single("dedup, metadata per touched granule", "KiB", metadata, note=parts)


def _clones(stage: DedupStage, what: str, run_blocks: int) -> Iterator[Figure]:
    plan = stage.plan
    run = _in_memory("clones", stage, size=plan.template, count=10, share=_SHARE, run=run_blocks)
    yield single(
        f"dedup, ten clones, 1 % own data in {what}, to one",
        "",
        run.facts["all"] / run.facts["one"],
        goal=_CLONES,
        note=f"template of {format_size(plan.template)}",
    )


def _in_memory(verb: str, stage: DedupStage, **arguments: object) -> Run:
    root = stage.place(verb)
    root.mkdir()
    run = run_worker(verb, url=f"dedup:{root}/repository", cache=root / "cache", **arguments)
    stage.clear(root)
    return run
