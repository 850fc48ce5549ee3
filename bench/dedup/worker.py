"""The program in which our part of a measurement runs: one verb, once, in a process of its own.

It prints what it took as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Started as a script, the folder of this file comes first on the path and hides the package.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from bench.dedup.task import Task  # noqa: E402
from bench.dedup.verbs import VERBS  # noqa: E402


def main(verb: str, arguments: str) -> None:
    """Do it, and print what it took."""
    task = Task(json.loads(arguments))
    VERBS[verb](task)
    print(json.dumps(task.result()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
