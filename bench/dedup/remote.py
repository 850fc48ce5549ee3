"""How fast is a restore from S3?  Beside a client that fetches one thing after the other.

The peers fetch what our restore fetches: once the very ranges, once whole packs.  They use the same
client, one request at a time, and drop what comes: nothing is decrypted, checked or written.  A
third one fetches the ranges as many at once as we do.  It is the limit: more than that the service,
the way to it and this machine do not give to anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.dedup.buckets import CREDENTIALS, Network, bucket_server
from bench.dedup.figuring import Peer, costs, memory, speed
from bench.dedup.images import random_disk
from bench.dedup.jobs import Run, run_worker
from bench.dedup.servers import raw_server
from bench.dedup.stage import DedupStage, Ours, touch_memory
from bench.figures import Figure, Goal
from bench.timing import take_turns
from bench.truth import require_equal

_OF_SERIAL = Goal(4.0, of_ratio=True)
_RANGES, _PACKS = "the same ranges in turn", "whole packs in turn"
_AT_ONCE = 8
_LIMIT = f"the same ranges, {_AT_ONCE} at once"


def measure_remote(stage: DedupStage) -> Iterator[Figure]:
    """Measure over the loopback, and with what a network adds to it."""
    plan = stage.plan
    source = stage.place("remote.raw")
    random_disk(source, plan.remote)
    ours = Ours(stage.place("remote"), plan.remote, stage)
    ours.begin()
    with raw_server(source) as export:
        ours.backup(export, "p")
    ranges = stage.place("ranges.json")
    into = stage.place("restored")
    ours.restore("p", into, record=ranges)
    stage.clear(into)
    delay, rate = f"{1000 * plan.delay_s:.0f} ms", f"{plan.rate / 1e6:.0f} MB/s"
    for network in (
        Network("loopback"),
        Network(f"{delay} a request", plan.delay_s),
        Network(f"{delay}, {rate} a connection", plan.delay_s, plan.rate),
    ):
        contest = _Contest(stage, ours, source, ranges)
        yield from _figures(plan.remote, network, contest.run(network))
    stage.clear(source, ranges, ours.root)


class _Contest:
    """The same repository, read by everybody through one server."""

    def __init__(self, stage: DedupStage, ours: Ours, source: Path, ranges: Path) -> None:
        self._stage = stage
        self._ours = ours
        self._source = source
        self._ranges = ranges
        self._into = stage.place("restored")

    def run(self, network: Network) -> Mapping[str, Sequence[Run]]:
        """Let them take turns."""
        with bucket_server(self._ours.root, network) as endpoint:
            url = f"s3://repository?endpoint={endpoint}&region=us-east-1"
            return take_turns(
                {
                    "restore": partial(self._restore, url),
                    _RANGES: partial(self._fetch, url, self._ranges),
                    _PACKS: partial(self._fetch, url, None),
                    _LIMIT: partial(self._fetch, url, self._ranges, connections=_AT_ONCE),
                },
                rounds=self._stage.plan.rounds,
            )

    def _restore(self, url: str) -> Run:
        touch_memory(self._stage.plan.remote)
        run = run_worker(
            "restore", url=url, cache=self._ours.cache, credentials=CREDENTIALS,
            point="p", into=self._into, record=None,
        )  # fmt: skip
        require_equal(Path(run.facts["path"]), self._source, result_format="raw")
        self._stage.clear(self._into)
        return run

    def _fetch(self, url: str, ranges: Path | None, *, connections: int = 1) -> Run:
        return run_worker(
            "fetch", url=url, cache=self._ours.cache, credentials=CREDENTIALS, ranges=ranges,
            connections=connections,
        )  # fmt: skip


def _figures(size: int, network: Network, runs: Mapping[str, Sequence[Run]]) -> Iterator[Figure]:
    name = f"dedup, restore from S3, {network.name}"
    for peer, goal in ((_RANGES, _OF_SERIAL), (_PACKS, _OF_SERIAL), (_LIMIT, None)):
        yield speed(name, size, costs(runs["restore"]), Peer(peer, costs(runs[peer])), goal)
    yield memory(name, runs["restore"])
