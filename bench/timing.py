"""Commands under the clock, and contestants that take turns.

The machine is shared and its load changes by the minute, so contestants never run
in blocks: each round runs every one of them once, and the medians of the rounds
are compared.  What one of them needs before or after its run is not timed.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


class BenchFailed(Exception):
    """A command failed, or a result is not what it has to be: there is nothing to report."""


@dataclass(frozen=True)
class Timed:
    """A command that succeeded."""

    seconds: float
    output: str


def run_timed(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
) -> Timed:
    """Run a command to its end under the clock."""
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
    return Timed(seconds, done.stdout)


def take_turns(
    contestants: Mapping[str, Callable[[], float]], *, rounds: int
) -> dict[str, tuple[float, ...]]:
    """Run every contestant once a round; each gives its own seconds."""
    runs: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            runs[name].append(contestant())
    return {name: tuple(found) for name, found in runs.items()}


def middle(runs: Sequence[float]) -> float | None:
    """Give the median; none of none."""
    return median(runs) if runs else None


def rates(runs: Sequence[float], amount: int) -> tuple[float, ...]:
    """Turn seconds for ``amount`` bytes into GiB/s."""
    return tuple(amount / (1 << 30) / seconds for seconds in runs)
