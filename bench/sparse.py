"""How fast is a large disk that holds little?  Holes must cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import peers
from bench.figures import Better, Figure, Goal
from bench.stage import SPARSE, Stage
from bench.timing import Cost, middle, rates, take_turns
from bench.truth import require_equal


def measure_sparse(stage: Stage) -> Iterator[Figure]:
    """Measure in virtual bytes per second: what an operator sees as the size of the disk."""
    raw = stage.folder / "sparse.raw"
    last: list[Path] = []

    def command() -> Cost:
        stage.forget_checkpoints()
        stage.clear(*(path for path in last))
        repository = stage.new_repository()
        last[:] = [repository]
        cost, point = stage.backup(repository, SPARSE, mode="full")
        if raw.exists():
            require_equal(stage.layer(repository, point, SPARSE), raw, result_format="qcow2")
        return cost

    def nbdcopy() -> Cost:
        stage.clear(raw)
        return peers.copy_export(stage, SPARSE, raw)

    # The peer first: its copy is what our points are held against.
    runs = take_turns({"nbdcopy": nbdcopy, "command": command}, rounds=stage.plan.rounds)
    stage.clear(raw, *last)
    ours = rates(runs["command"], stage.plan.sparse)
    theirs = rates(runs["nbdcopy"], stage.plan.sparse)
    yield Figure(
        "sparse disk, full backup, command (virtual size)",
        "GiB/s",
        Better.HIGHER,
        middle(ours) or 0.0,
        middle(theirs),
        peers.NBDCOPY,
        Goal(3.0),
        ours,
        theirs,
    )
