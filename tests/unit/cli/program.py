"""The command line in a process of its own, on a stage whose verification takes its time.

``python -m tests.unit.cli.program ARGUMENT...``.  Taking back takes half a
second, and says on standard output when it is done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sendense import clock
from sendense.cli import main as program
from sendense.cli.run import Services
from sendense.model.progress import ProgressListener, silent
from sendense.repository.protocol import Verification, VerifyLevel
from tests.support.builders import a_point
from tests.unit.cli.stage import MemoryRepository


class SlowRepository(MemoryRepository):
    """Verifies for half a minute, and cleans up after that."""

    def verify(
        self,
        point_id: str,
        level: VerifyLevel,
        *,
        only_new: bool = False,
        progress: ProgressListener = silent,
    ) -> Verification:
        try:
            sys.stderr.write("verifying\n")
            sys.stderr.flush()
            for _ in range(60):
                clock.sleep(0.5)
        finally:
            for _ in range(5):
                clock.sleep(0.1)
            sys.stderr.write("all taken back\n")
        raise NotImplementedError


def run(arguments: Sequence[str]) -> int:
    """Run one command line on a repository with many points."""
    points = [a_point(f"p{number}", number % 28 + 1) for number in range(5000)]
    repository = SlowRepository("mem", points)
    return program.run(arguments, Services(open_repository=lambda url, access: repository))


if __name__ == "__main__":
    program.end(run(sys.argv[1:]))
