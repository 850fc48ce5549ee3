"""What does a run cost the host and the guest?  Memory at its peak, and the time frozen."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Better, Figure, Goal
from bench.incremental import Chains
from bench.memory import Peaks, watch_memory
from bench.restore import restore_command
from bench.stage import DATA, SENDENSE, Stage
from bench.timing import BenchFailed, middle
from sendense_lab import DiskSpec
from sendense_lab.pool import MIB

_MEMORY = Goal(256)


def measure_memory(stage: Stage, chains: Chains) -> Iterator[Figure]:
    """Watch one full backup and one restore."""
    into = stage.folder / "restored"
    backup = stage.backup_command(chains.repository, DATA, mode="full")
    restore = restore_command(chains.point, chains.repository, into, "qcow2")
    for name, arguments in (("full backup", backup), ("restore to qcow2", restore)):
        peaks = watch_memory([SENDENSE, *arguments, "--quiet"], environment=stage.environment)
        yield from _peak_figures(name, peaks)
    stage.clear(into)


def _peak_figures(name: str, peaks: Peaks) -> Iterator[Figure]:
    yield Figure(f"memory, {name}", "MiB", Better.LOWER, peaks.own / MIB, goal=_MEMORY)
    for child, peak in sorted(peaks.children.items()):
        yield Figure(f"memory, {name}, child {child}", "MiB", Better.LOWER, peak / MIB)


def measure_freeze(stage: Stage) -> Iterator[Figure]:
    """Back a booted guest up, frozen by its agent, while it writes."""
    vm = stage.lab.create_vm(boot="guest", disks=[DiskSpec(64 * MIB)])
    vm.start(stage.host)
    vm.guest.wait_ready(timeout_s=120)
    vm.guest.start_churn("vdb", kib=64, pause_s=0.2)
    repository = stage.new_repository()
    frozen = []
    for _ in range(stage.plan.freezes):
        _, document = stage.sendense(
            "backup", vm.name, "--repository", repository, "--consistency", "filesystem"
        )
        point = document["results"][0]["point"]
        if point["consistency"] != "filesystem" or point["warnings"]:
            raise BenchFailed(f"the guest was not frozen: {point['warnings']}")
        frozen.append(1000 * point["frozen_s"])
    vm.destroy()
    stage.clear(repository)
    yield Figure(
        "guest frozen",
        "ms",
        Better.LOWER,
        middle(frozen) or 0.0,
        goal=Goal(300),
        runs=tuple(frozen),
    )
    yield Figure("guest frozen, longest", "ms", Better.LOWER, max(frozen), goal=Goal(300))
