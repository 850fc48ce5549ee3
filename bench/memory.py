"""How much memory a command and its children take at their peaks.

The kernel keeps each process's own peak (``VmHWM``); it is read while the process
lives, again and again.  ``ru_maxrss`` would be handed over at the end, but a child
inherits into it what its parent had at the fork, which here is this bench.
The watching costs time, so a watched run is a timed one only where looks are few.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.timing import BenchFailed

_STEP_S = 0.005


@dataclass(frozen=True)
class Peaks:
    """Peak resident memory in bytes."""

    own: int
    """Of the process that was started."""
    children: dict[str, int]
    """Of what it started in its turn, by program: the largest of each name."""


def watch_memory(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    step_s: float = _STEP_S,
) -> Peaks:
    """Run a command and watch it and its descendants, a look every ``step_s``."""
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment,
        cwd=folder,
        text=True,
    )
    own, children = 0, dict[str, int]()
    end = os.pidfd_open(process.pid)
    try:
        while process.poll() is None:
            own = max(own, _status(process.pid)[1])
            for pid in _descendants(process.pid):
                name, peak = _status(pid)
                children[name] = max(children.get(name, 0), peak)
            select.select([end], [], [], step_s)
    finally:
        os.close(end)
    complaint = process.communicate()[1]
    if process.returncode != 0:
        raise BenchFailed(f"{' '.join(map(str, command))}: {complaint.strip()[-2000:]}")
    # A fork is its parent until it becomes a program of its own.
    children.pop("", None)
    return Peaks(own, children)


def _descendants(pid: int) -> list[int]:
    """List all that a process started, and what those started."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        for task in tasks:
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended meanwhile
    return found


def _status(pid: int) -> tuple[str, int]:
    """Give a process's program and its peak so far; nothing where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    peak = values.get("VmHWM", "0 kB").split()[0]
    return values.get("Name", "").strip(), int(peak) * 1024
