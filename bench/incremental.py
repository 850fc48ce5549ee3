"""What does an incremental read, store and take?  Scattered changes, and none at all.

Both chains, ours and virtnbdbackup's, live on the same machine and get the same
changes, so each round is one incremental of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.figures import Better, Figure, Goal
from bench.stage import DATA, GRANULE, Stage, export_uri
from bench.timing import middle
from bench.truth import require_equal

SHARE = 0.01


@dataclass
class Chains:
    """What the incrementals left, for the measurements of restores."""

    repository: Path
    point: dict[str, object]
    peer: peers.VirtNbdBackup | None


@dataclass
class _Runs:
    """What was measured, run by run."""

    seconds: list[float] = field(default_factory=list)
    peer_seconds: list[float] = field(default_factory=list)
    read_share: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)


class Incremental:
    """Chains of a full and incrementals."""

    def __init__(self, stage: Stage) -> None:
        """Take the full of both chains."""
        self._stage = stage
        stage.forget_checkpoints()
        self._peer: peers.VirtNbdBackup | None = None
        if peers.installed(peers.VIRTNBDBACKUP):
            self._peer = peers.VirtNbdBackup(stage, stage.folder / "set")
            self._peer.backup(DATA, "full")
        self._repository = stage.new_repository()
        _, self._point = stage.backup(self._repository, DATA, mode="full")
        self._full = self._point

    def measure(self) -> Iterator[Figure]:
        """Measure with changes and without, and hold the last point against the source."""
        yield from self._changed()
        yield from self._unchanged()
        with self._stage.export(DATA) as export:
            layer = self._stage.layer(self._repository, self._point, DATA)
            require_equal(layer, export_uri(export), result_format="qcow2")

    def chains(self) -> Chains:
        """Give the chains that were made."""
        return Chains(self._repository, self._point, self._peer)

    def _changed(self) -> Iterator[Figure]:
        runs = _Runs()
        for number in range(self._stage.plan.rounds):
            dirty = self._stage.change(number + 1, share=SHARE)
            self._run(runs, dirty)
        full = float(self._full["stored_bytes"])
        saved = tuple(100 * (1 - stored / full) for stored in runs.stored)
        yield _seconds("incremental, 1 % scattered, command", runs, None)
        yield _own("incremental, read per dirty byte", "", Better.LOWER, runs.read_share, Goal(1.1))
        yield _own("incremental, smaller than the full", "%", Better.HIGHER, saved, Goal(95))

    def _unchanged(self) -> Iterator[Figure]:
        runs = _Runs()
        for _ in range(self._stage.plan.rounds):
            self._run(runs, None)
        yield _seconds("incremental, nothing changed, command", runs, Goal(1.5))

    def _run(self, runs: _Runs, dirty: int | None) -> None:
        """Take one incremental of each chain."""
        cost, self._point = self._stage.backup(self._repository, DATA, mode="incremental")
        runs.seconds.append(cost.seconds)
        if dirty is not None:
            sampled = sum(disk["sampled_blocks"] for disk in self._point["disks"]) * GRANULE
            runs.read_share.append((self._point["read_bytes"] + sampled) / dirty)
            runs.stored.append(self._point["stored_bytes"])
        if self._peer is not None:
            runs.peer_seconds.append(self._peer.backup(DATA, "inc").seconds)


def _seconds(name: str, runs: _Runs, goal: Goal | None) -> Figure:
    return Figure(
        name,
        "s",
        Better.LOWER,
        middle(runs.seconds) or 0.0,
        middle(runs.peer_seconds),
        peers.VIRTNBDBACKUP if runs.peer_seconds else None,
        goal,
        tuple(runs.seconds),
        tuple(runs.peer_seconds),
    )


def _own(
    name: str, unit: str, better: Better, runs: list[float] | tuple[float, ...], goal: Goal
) -> Figure:
    return Figure(name, unit, better, middle(runs) or 0.0, goal=goal, runs=tuple(runs))
