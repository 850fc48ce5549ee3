"""Measures speed, size and gentleness beside the peers, and writes ``build/bench.json``.

A report, not a test: a goal that is missed is shown, and the exit code is 0.  It is
1 where something failed, above all where a result is not byte for byte the source.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

# Started as a script, the folder of this file comes first on the path and hides the package.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console  # noqa: E402

from bench.catalogue import QUICK as QUICK_FLEET  # noqa: E402
from bench.catalogue import Fleet, measure_catalogue  # noqa: E402
from bench.control_api import measure_api  # noqa: E402
from bench.dedup.plan import QUICK as QUICK_DEDUP  # noqa: E402
from bench.dedup.plan import DedupPlan  # noqa: E402
from bench.dedup.sections import ALL as ALL_DEDUP  # noqa: E402
from bench.dedup.sections import SECTIONS as DEDUP_SECTIONS  # noqa: E402
from bench.dedup.sections import measure_dedup  # noqa: E402
from bench.figures import Figure, figures_table, write_figures  # noqa: E402
from bench.footprint import measure_freeze, measure_memory  # noqa: E402
from bench.full_backup import measure_full, measure_full_on_disk  # noqa: E402
from bench.incremental import Incremental  # noqa: E402
from bench.restore import measure_restore  # noqa: E402
from bench.sparse import measure_sparse  # noqa: E402
from bench.stage import QUICK, Plan, Stage  # noqa: E402
from bench.timing import BenchFailed  # noqa: E402
from bench.tunnel.measure import QUICK as QUICK_TUNNEL  # noqa: E402
from bench.tunnel.measure import TunnelPlan, measure_tunnel  # noqa: E402
from sendense_lab import temporary_lab  # noqa: E402

_MEMORY = Path("/dev/shm")  # noqa: S108 - where the lab lives
_ROOM = 5
"""At most so many times the data disk is in memory at once."""
_ON_DISK = Path("/var/tmp")  # noqa: S108 - only a folder of its own in it is used


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything that is asked for."""
    options = _parse(arguments)
    plan, dedup = (QUICK, QUICK_DEDUP) if options.quick else (Plan(), DedupPlan())
    tunnel = QUICK_TUNNEL if options.quick else TunnelPlan()
    if options.rounds:
        plan, dedup = replace(plan, rounds=options.rounds), replace(dedup, rounds=options.rounds)
        tunnel = replace(tunnel, rounds=options.rounds)
    wanted = set(options.only) or {*_SECTIONS, *_CONTROL, ALL_DEDUP, _TUNNEL}
    console = Console(width=150)
    figures: list[Figure] = []
    before = os.getloadavg()
    try:
        fleet = QUICK_FLEET if options.quick else Fleet()
        for figure in chain(_measure(plan, dedup, tunnel, wanted), _measure_control(fleet, wanted)):
            console.print(f"  {figure.name}: {figure.ours:.3g} {figure.unit}", highlight=False)
            figures.append(figure)
    except BenchFailed as error:
        console.print(f"[bold red]failed[/]: {error}")
        return 1
    write_figures(options.output, figures)
    console.print(figures_table(figures))
    load = " -> ".join(f"{item[0]:.1f}" for item in (before, os.getloadavg()))
    console.print(
        f"[dim]{os.cpu_count()} cores, {plan.rounds} rounds (dedup: {dedup.rounds}), load {load}[/]"
    )
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small disks, once: does it run?")
    parser.add_argument("--rounds", type=int, metavar="N", help="runs of each contestant")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PART",
        choices=(*_SECTIONS, *_CONTROL, ALL_DEDUP, *DEDUP_SECTIONS, _TUNNEL),
        help="may be repeated: %(choices)s",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), metavar="FILE")
    return parser.parse_args(arguments)


_SECTIONS = ("full", "disk", "sparse", "incremental", "restore", "memory", "freeze")
_TUNNEL = "tunnel"
_CONTROL = ("catalogue", "api")


def _measure(
    plan: Plan, dedup: DedupPlan, tunnel: TunnelPlan, wanted: set[str]
) -> Iterator[Figure]:
    """Run the measurements one after the other: those with machines, then those without."""
    _require_room(plan)
    if wanted & set(_SECTIONS):
        yield from _measure_machines(plan, wanted)
    yield from measure_dedup(dedup, wanted, memory=_MEMORY, disk=_ON_DISK)
    if _TUNNEL in wanted:
        yield from measure_tunnel(tunnel, _MEMORY)


def _measure_control(fleet: Fleet, wanted: set[str]) -> Iterator[Figure]:
    """Run what is about the control plane."""
    if "catalogue" in wanted:
        yield from measure_catalogue(fleet)
    if "api" in wanted:
        yield from measure_api(fleet)


def _measure_machines(plan: Plan, wanted: set[str]) -> Iterator[Figure]:
    """Run what needs a private host, on one stage."""
    with temporary_lab(name="bench") as lab:
        stage = Stage(lab, plan)
        if "full" in wanted:
            yield from measure_full(stage)
        if "disk" in wanted:
            with TemporaryDirectory(prefix="sendense-bench-", dir=_ON_DISK) as folder:
                yield from measure_full_on_disk(stage, Path(folder))
        if "sparse" in wanted:
            yield from measure_sparse(stage)
        if wanted & {"incremental", "restore", "memory"}:
            yield from _measure_chains(stage, wanted)
        if "freeze" in wanted:
            yield from measure_freeze(stage)


def _measure_chains(stage: Stage, wanted: set[str]) -> Iterator[Figure]:
    """Run what needs a chain of points; restores need the one that incrementals make."""
    incremental = Incremental(stage)
    made = list(incremental.measure())
    if "incremental" in wanted:
        yield from made
    chains = incremental.chains()
    if "restore" in wanted:
        yield from measure_restore(stage, chains)
    if chains.peer is not None:
        stage.clear(chains.peer.folder)
    if "memory" in wanted:
        yield from measure_memory(stage, chains)
    stage.clear(chains.repository)


def _require_room(plan: Plan) -> None:
    found = os.statvfs(_MEMORY)
    if found.f_bavail * found.f_frsize < _ROOM * plan.data:
        raise BenchFailed(f"{_MEMORY} needs room for {_ROOM} x {plan.data >> 20} MiB")


if __name__ == "__main__":
    sys.exit(main())
