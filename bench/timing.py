"""Commands under the clock, and contestants that take turns.

The machine is shared and its load changes by the minute, so contestants never run
in blocks: each round runs every one of them once, and the medians of the rounds
are compared.  What one of them needs before or after its run is not timed.
"""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

GIB = 1 << 30
Told = TypeVar("Told")


class BenchFailed(Exception):
    """A command failed, or a result is not what it has to be: there is nothing to report."""


class Cost(NamedTuple):
    """What one run took."""

    seconds: float
    """By the clock on the wall; the load of the machine is in it."""
    processor_s: float
    """Of the program and its children, whatever else runs.  QEMU's part is not in it."""


@dataclass(frozen=True)
class Timed:
    """A command that succeeded."""

    cost: Cost
    output: str


def run_timed(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
) -> Timed:
    """Run a command to its end under the clock."""
    before = children_s()
    began = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BenchFailed(f"{' '.join(map(str, command))} ended with {done.returncode}: {said}")
    return Timed(Cost(seconds, children_s() - before), done.stdout)


def take_turns(
    contestants: Mapping[str, Callable[[], Told]], *, rounds: int
) -> dict[str, tuple[Told, ...]]:
    """Run every contestant once a round; each tells its own cost."""
    runs: dict[str, list[Told]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            runs[name].append(contestant())
    return {name: tuple(found) for name, found in runs.items()}


def middle(runs: Sequence[float]) -> float | None:
    """Give the median; none of none."""
    return median(runs) if runs else None


def rates(runs: Sequence[Cost], amount: int) -> tuple[float, ...]:
    """Turn the times for ``amount`` bytes into GiB/s."""
    return tuple(amount / GIB / run.seconds for run in runs)


def children_s() -> float:
    """Give the processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
