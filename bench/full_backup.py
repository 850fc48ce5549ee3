"""How fast is a full backup?  The same disk of the same machine, read by everybody in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench import peers
from bench.engine import Engine
from bench.figures import Better, Figure, Goal
from bench.stage import DATA, Stage, export_uri
from bench.timing import GIB, Cost, middle, rates, take_turns
from bench.truth import require_equal

_OF_NBDCOPY = Goal(0.6, of_ratio=True)
_OF_VIRTNBDBACKUP = Goal(3.0, of_ratio=True)


def measure_full(stage: Stage) -> Iterator[Figure]:
    """Measure with everything in memory, where the engine is the limit."""
    contest = _Contest(stage, stage.folder / "full")
    contestants: dict[str, Callable[[], Cost]] = {
        "command": contest.command,
        "engine": contest.engine,
        "nbdcopy": contest.nbdcopy,
    }
    if peers.installed(peers.VIRTNBDBACKUP):
        contestants["virtnbdbackup"] = contest.virtnbdbackup
    runs = take_turns(contestants, rounds=stage.plan.rounds)
    speeds = {name: rates(found, stage.plan.data) for name, found in runs.items()}
    yield _speed("full backup, engine alone", speeds["engine"], speeds, "nbdcopy", _OF_NBDCOPY)
    yield _speed("full backup, command", speeds["command"], speeds, "nbdcopy", _OF_NBDCOPY)
    yield _speed(
        "full backup, command", speeds["command"], speeds, "virtnbdbackup", _OF_VIRTNBDBACKUP
    )
    yield _processor("engine alone", runs["engine"], "nbdcopy", runs, stage.plan.data)
    yield _processor("command", runs["command"], "virtnbdbackup", runs, stage.plan.data)
    contest.clear()


def measure_full_on_disk(stage: Stage, where: Path) -> Iterator[Figure]:
    """Measure with the target on a real disk, and with both sides waiting for it."""
    contest = _Contest(stage, where, synced=True)
    contestants = {"command": contest.command, "nbdcopy": contest.nbdcopy}
    runs = take_turns(contestants, rounds=min(3, stage.plan.rounds))
    speeds = {name: rates(found, stage.plan.data) for name, found in runs.items()}
    name = "full backup to disk, synced, command"
    yield _speed(name, speeds["command"], speeds, "nbdcopy", None)
    contest.clear()


class _Contest:
    """One run each, from the same beginning, leaving nothing."""

    def __init__(self, stage: Stage, folder: Path, *, synced: bool = False) -> None:
        self._stage = stage
        self._folder = folder
        self._synced = synced
        self._made_engine: Engine | None = None
        folder.mkdir(exist_ok=True)

    def command(self) -> Cost:
        """Run our command; its point must be what the source holds."""
        self._stage.forget_checkpoints()
        repository = self._stage.new_repository(self._folder)
        cost, point = self._stage.backup(repository, DATA, mode="full")
        with self._stage.export(DATA) as export:
            layer = self._stage.layer(repository, point, DATA)
            require_equal(layer, export_uri(export), result_format="qcow2")
        self._stage.clear(repository)
        return cost

    def engine(self) -> Cost:
        """Run our engine in this process."""
        self._stage.forget_checkpoints()
        if self._made_engine is None:
            self._made_engine = Engine(self._stage, DATA, self._folder / "engine")
        return self._made_engine.copy()

    def nbdcopy(self) -> Cost:
        """Run nbdcopy to a raw file."""
        self._stage.forget_checkpoints()
        into = self._folder / "copy.raw"
        cost = peers.copy_export(self._stage, DATA, into, synced=self._synced)
        self._stage.clear(into)
        return cost

    def virtnbdbackup(self) -> Cost:
        """Run virtnbdbackup."""
        self._stage.forget_checkpoints()
        peer = peers.VirtNbdBackup(self._stage, self._folder / "set")
        cost = peer.backup(DATA, "full")
        self._stage.clear(peer.folder)
        return cost

    def clear(self) -> None:
        """Remove what is left."""
        self._stage.clear(self._folder)


def _speed(
    name: str,
    ours: tuple[float, ...],
    speeds: dict[str, tuple[float, ...]],
    peer: str,
    goal: Goal | None,
) -> Figure:
    """Give a figure in GiB/s of data."""
    theirs = speeds.get(peer, ())
    return Figure(
        name,
        "GiB/s",
        Better.HIGHER,
        middle(ours) or 0.0,
        middle(theirs),
        peer,
        goal,
        ours,
        theirs,
        note="" if theirs else f"{peer} is not installed",
    )


def _processor(
    name: str, ours: Sequence[Cost], peer: str, runs: Mapping[str, Sequence[Cost]], data: int
) -> Figure:
    """Give the processor time per GiB, which the load of the machine distorts least."""
    own = tuple(run.processor_s * GIB / data for run in ours)
    theirs = tuple(run.processor_s * GIB / data for run in runs.get(peer, ()))
    return Figure(
        f"full backup, processor time per GiB, {name}",
        "s",
        Better.LOWER,
        middle(own) or 0.0,
        middle(theirs),
        peer,
        runs=own,
        peer_runs=theirs,
        note="" if theirs else f"{peer} is not installed",
    )
