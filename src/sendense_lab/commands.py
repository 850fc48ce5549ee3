"""Running the host's tools: argument lists only, output captured, failure is an exception.

Also the one way to wait for something in the lab, so that every wait has an end.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sendense_lab.errors import CommandFailed, TimedOut

T = TypeVar("T")


def run(argv: Sequence[str | Path], *, timeout_s: float = 120, cwd: Path | None = None) -> str:
    """Standard output of a command that ended well."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=cwd
    )
    if done.returncode != 0:
        raise CommandFailed(words, done.returncode, done.stderr or done.stdout)
    return done.stdout


def wait_until(
    probe: Callable[[], T | None], what: str, *, timeout_s: float, interval_s: float = 0.05
) -> T:
    """The first result of `probe` that is neither None nor False."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise TimedOut(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(interval_s)
