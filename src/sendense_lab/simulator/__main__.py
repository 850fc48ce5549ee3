"""A CloudStack to play with: `python -m sendense_lab.simulator`, with `--cluster` on real hosts.

It prints what the `cs` command line reads from `cloudstack.ini`, and answers until it is
interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sendense_lab.cluster import roots
from sendense_lab.cluster.cluster import DEFAULT_HOSTS
from sendense_lab.errors import LabError
from sendense_lab.simulator import standing


def main(arguments: list[str] | None = None) -> int:
    """Run until interrupted."""
    options = _parser().parse_args(arguments)
    wanted = standing.Wanted(options.version, options.port, options.job_seconds)
    hosts = dict(pair.split("=", 1) for pair in options.host) or dict(DEFAULT_HOSTS)
    try:
        if options.cluster:
            standing.on_hosts(wanted, hosts, options.root)
        else:
            standing.on_paper(wanted, options.instances)
    except LabError as error:
        print(f"sendense_lab.simulator: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sendense_lab.simulator",
        description="A CloudStack management server on paper, or in front of hosts of the lab.",
    )
    parser.add_argument("--version", default="4.20", help="4.18, 4.20, 4.22, 4.23 ... (4.20)")
    parser.add_argument("--port", type=int, default=0, help="any free one without")
    parser.add_argument("--instances", type=int, default=3, help="how many are on paper (3)")
    parser.add_argument("--job-seconds", type=float, default=1.0, help="of jobs on paper (1)")
    parser.add_argument("--cluster", action="store_true", help="real machines on real hosts")
    parser.add_argument("--root", type=Path, default=standing.DEFAULT_ROOT, help="of the hosts")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME=RELEASE",
        help=f"once for each host, of {', '.join(roots.SUITES)}",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
