"""Starting workers, and what comes back from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.timing import Cost, run_timed

_WORKER = Path(__file__).with_name("worker.py")

VERBS = {
    "put": "PUT",
    "get": "GET",
    "read_into": "GET of a range",
    "list": "LIST",
    "info": "HEAD",
    "delete": "DELETE",
}
"""What a method of a store is as a request."""


@dataclass(frozen=True)
class Run:
    """What one worker took."""

    cost: Cost
    """While the engine worked."""
    command: Cost
    """As a whole, from the start of the interpreter to its exit."""
    peak: int
    """The most memory that was resident, in bytes."""
    working: int = 0
    """The same, while the engine worked (and after)."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """To the store, by method; below the retries."""
    facts: Mapping[str, Any] = field(default_factory=dict)


def run_worker(verb: str, **arguments: Any) -> Run:
    """Have one verb done."""
    words = {
        key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()
    }
    done = run_timed([sys.executable, _WORKER, verb, json.dumps(words)])
    return read_run(json.loads(done.output), done.cost)


def read_run(result: Mapping[str, Any], command: Cost) -> Run:
    """Read what a worker printed."""
    return Run(
        Cost(result["seconds"], result["processor_s"]),
        command,
        result["peak"],
        result["working"],
        {verb: requests for verb, (requests, _) in result["counts"].items()},
        result["facts"],
    )


def requests_per_gib(run: Run, amount: int) -> str:
    """Say how many requests of each kind came on a GiB."""
    each = {
        name: run.requests[verb] * (1 << 30) / amount
        for verb, name in VERBS.items()
        if run.requests.get(verb)
    }
    return ", ".join(f"{name} {count:.3g}" for name, count in each.items())
