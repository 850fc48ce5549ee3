"""How fast is a disk copied into a repository and out of it?  Beside nbdcopy, which only copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.dedup.figuring import Peer, costs, memory, processor, single, speed
from bench.dedup.images import mixed_disk, random_disk
from bench.dedup.jobs import Run, requests_per_gib
from bench.dedup.servers import Export, raw_server
from bench.dedup.stage import DedupStage, Ours, touch_memory
from bench.figures import Figure, Goal
from bench.timing import Cost, run_timed, take_turns
from bench.truth import require_equal
from sendense.units import GIB

NBDCOPY = "nbdcopy"
_RAW = "nbdcopy, raw to raw"
_FULL = Goal(0.8, of_ratio=True)
_AGAIN = Goal(1.5, of_ratio=True)


def measure_copies(stage: DedupStage) -> Iterator[Figure]:
    """Measure incompressible data with everything in memory."""
    size = stage.plan.data
    source = stage.place("source.raw")
    random_disk(source, size)
    with raw_server(source) as export:
        contest = _Contest(stage, source, export, stage.place("ours"))
        runs = take_turns(
            {
                "first": contest.first,
                "nbdcopy": contest.nbdcopy,
                "again": contest.again,
                "restore": contest.restore,
                "raw": contest.nbdcopy_raw,
            },
            rounds=stage.plan.rounds,
        )
        contest.clear()
    stage.clear(source)
    yield from _of_copies(size, runs)
    yield from _of_restores(size, runs)


def _of_copies(size: int, runs: Mapping[str, Sequence[Run]]) -> Iterator[Figure]:
    first, again, peer = runs["first"], runs["again"], Peer(NBDCOPY, costs(runs["nbdcopy"]))
    name = "dedup, first backup"
    yield speed(name, size, costs(first), peer, _FULL)
    yield speed(f"{name}, whole process", size, [run.command for run in first], peer)
    yield processor(name, size, costs(first), peer)
    yield memory(name, first)
    yield _requests(name, first[0], first[0].facts["stored"])
    name = "dedup, the same again as a full"
    yield speed(name, size, costs(again), peer, _AGAIN)
    yield processor(name, size, costs(again), peer)
    yield memory(name, again)


def _of_restores(size: int, runs: Mapping[str, Sequence[Run]]) -> Iterator[Figure]:
    ours, peer = runs["restore"], Peer(_RAW, costs(runs["raw"]))
    name = "dedup, restore to raw"
    yield speed(name, size, costs(ours), peer, _FULL)
    yield processor(name, size, costs(ours), peer)
    yield memory(name, ours)
    yield _requests(name, ours[0], size)


def measure_mixed(stage: DedupStage) -> Iterator[Figure]:
    """Measure a disk as machines have them, with everything in memory."""
    size = stage.plan.mixed
    source = stage.place("mixed.raw")
    mixed_disk(source, size)
    with raw_server(source) as export:
        contest = _Contest(stage, source, export, stage.place("ours"))
        runs = take_turns(
            {
                "first": contest.first,
                "nbdcopy": contest.nbdcopy,
                "again": contest.again,
                "restore": contest.restore,
                "raw": contest.nbdcopy_raw,
            },
            rounds=stage.plan.rounds,
        )
        contest.clear()
    stage.clear(source)
    first, peer = runs["first"], Peer(NBDCOPY, costs(runs["nbdcopy"]))
    name = "dedup, first backup, mixed disk"
    yield speed(name, size, costs(first), peer)
    yield processor(name, size, costs(first), peer)
    yield memory(name, first)
    yield speed("dedup, the same again, mixed disk", size, costs(runs["again"]), peer)
    raw = Peer(_RAW, costs(runs["raw"]))
    yield speed("dedup, restore to raw, mixed disk", size, costs(runs["restore"]), raw)
    stored = first[0].facts["stored"] / first[0].facts["read"]
    yield single("dedup, stored of what was read, mixed disk", "", stored)


def measure_on_disk(stage: DedupStage, where: Path) -> Iterator[Figure]:
    """Measure with the target on a disk, both sides waiting until it is written."""
    size = stage.plan.data
    source = stage.place("source.raw")
    random_disk(source, size)
    with raw_server(source) as export:
        contest = _Contest(stage, source, export, where / "ours", in_memory=False)
        runs = take_turns(
            {"first": contest.first, "nbdcopy": contest.nbdcopy},
            rounds=stage.plan.rounds,
        )
        contest.clear()
    stage.clear(source)
    first, peer = runs["first"], Peer(NBDCOPY, costs(runs["nbdcopy"]))
    name = "dedup, first backup to disk, synced"
    yield speed(name, size, costs(first), peer, _FULL)
    yield processor(name, size, costs(first), peer)


class _Contest:
    """One run each, from the same beginning."""

    def __init__(
        self,
        stage: DedupStage,
        source: Path,
        export: Export,
        root: Path,
        *,
        in_memory: bool = True,
    ) -> None:
        self._stage = stage
        self._source = source
        self._size = source.stat().st_size
        self._export = export
        self._ours = Ours(root, self._size, stage)
        self._copy = root.with_name("copy.raw")
        self._into = root.with_name("restored")
        self._in_memory = in_memory

    def first(self) -> Run:
        """Back up into a new repository."""
        self._ours.begin()
        self._touch()
        return self._ours.backup(self._export, "first")

    def again(self) -> Run:
        """Back up the same again."""
        return self._ours.backup(self._export, "again")

    def nbdcopy(self) -> Run:
        """Copy to a raw file."""
        return self._timed([] if self._in_memory else ["--flush"], self._export.uri)

    def nbdcopy_raw(self) -> Run:
        """Copy a raw file to a raw file."""
        return self._timed([], self._source)

    def _timed(self, options: list[str], source: str | Path) -> Run:
        self._touch()
        cost = run_timed([NBDCOPY, *options, source, self._copy]).cost
        self._stage.clear(self._copy)
        return plain_run(cost)

    def restore(self) -> Run:
        """Restore the first point; it must be what the source holds."""
        self._touch()
        run = self._ours.restore("first", self._into)
        require_equal(Path(run.facts["path"]), self._source, result_format="raw")
        self._stage.clear(self._into)
        return run

    def clear(self) -> None:
        """Remove what is left."""
        self._stage.clear(self._ours.root)

    def _touch(self) -> None:
        if self._in_memory:
            touch_memory(self._size)


def plain_run(cost: Cost) -> Run:
    """Give the run of a peer, of which no more is known."""
    return Run(cost, cost, 0)


def _requests(name: str, run: Run, amount: int) -> Figure:
    total = sum(run.requests.values()) * GIB / amount
    return single(f"requests per GiB, {name}", "", total, note=requests_per_gib(run, amount))
