"""Holding results against the source, byte for byte, by a tool that is not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.timing import BenchFailed


def require_equal(result: Path, source: str | Path, *, result_format: str) -> None:
    """Compare a file (with its backing files) with the source; end the bench on a difference.

    ``source`` is a raw file or the URI of an NBD export.
    """
    command = ["qemu-img", "compare", "-f", result_format, "-F", "raw", str(result), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise BenchFailed(f"{result.name} is not what the source holds: {said}")
