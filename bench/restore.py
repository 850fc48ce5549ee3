"""How fast does a disk come back?  The last point of a chain, to new files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bench import peers
from bench.figures import Better, Figure, Goal
from bench.incremental import Chains
from bench.stage import DATA, Stage, export_uri
from bench.timing import Cost, middle, rates, take_turns
from bench.truth import require_equal

_OF_NBDCOPY = Goal(0.6, of_ratio=True)


def measure_restore(stage: Stage, chains: Chains) -> Iterator[Figure]:
    """Measure to raw and to QCOW2, beside plain copies of the same point."""
    contest = _Contest(stage, chains)
    contestants: dict[str, Callable[[], Cost]] = {
        "raw": lambda: contest.command("raw"),
        "qcow2": lambda: contest.command("qcow2"),
        "nbdcopy": contest.nbdcopy,
    }
    if chains.peer is not None:
        peer = chains.peer
        contestants["virtnbdrestore"] = lambda: contest.virtnbdrestore(peer)
    runs = take_turns(contestants, rounds=stage.plan.rounds)
    speeds = {name: rates(found, stage.plan.data) for name, found in runs.items()}
    yield _speed("restore to raw, command", speeds, "raw", "nbdcopy", _OF_NBDCOPY)
    yield _speed("restore to qcow2, command", speeds, "qcow2", "nbdcopy", _OF_NBDCOPY)
    if chains.peer is not None:
        yield _speed("restore to qcow2, command", speeds, "qcow2", "virtnbdrestore", None)


def restore_command(
    point: dict[str, object], repository: Path, into: Path, image_format: str
) -> list[str | Path]:
    """Give the arguments that restore a point's data disk to a new file."""
    return ["restore", str(point["id"]), "--repository", repository, "--disk", DATA,
            "--format", image_format, "--output", into]  # fmt: skip


class _Contest:
    """One restore each, which is removed again."""

    def __init__(self, stage: Stage, chains: Chains) -> None:
        self._stage = stage
        self._chains = chains
        self._into = stage.folder / "restored"

    def command(self, image_format: str) -> Cost:
        """Run our command; what it restores must be what the source holds."""
        chains = self._chains
        arguments = restore_command(chains.point, chains.repository, self._into, image_format)
        cost, _ = self._stage.sendense(*arguments)
        with self._stage.export(DATA) as export:
            result = self._into / f"{DATA}.{image_format}"
            require_equal(result, export_uri(export), result_format=image_format)
        self._stage.clear(self._into)
        return cost

    def nbdcopy(self) -> Cost:
        """Copy the point out of qemu-nbd."""
        self._into.mkdir()
        layer = self._stage.layer(self._chains.repository, self._chains.point, DATA)
        cost = peers.copy_layer(layer, self._into / "copy.raw")
        self._stage.clear(self._into)
        return cost

    def virtnbdrestore(self, peer: peers.VirtNbdBackup) -> Cost:
        """Run virtnbdrestore on its own chain."""
        cost = peer.restore(DATA, self._into)
        self._stage.clear(self._into)
        return cost


def _speed(
    name: str, speeds: dict[str, tuple[float, ...]], ours: str, peer: str, goal: Goal | None
) -> Figure:
    return Figure(
        name,
        "GiB/s",
        Better.HIGHER,
        middle(speeds[ours]) or 0.0,
        middle(speeds[peer]),
        peer,
        goal,
        speeds[ours],
        speeds[peer],
    )
