"""Hosts to play with: `python -m sendense_lab.cluster up`, `down`, `build`.

`up` starts hosts with a VM on each that keeps writing, and returns; they stay until `down`, which
also ends those whose test run was killed. `build` only makes the roots that the cache lacks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sendense_lab import journal
from sendense_lab.cluster import roots, teardown
from sendense_lab.cluster.cluster import DEFAULT_HOSTS, Cluster
from sendense_lab.errors import LabError

DEFAULT_ROOT = Path("/srv/sendense-lab")
WORKLOAD = "lab.run=write:vda:4:256:2,write:vdb:16:256:1,churn:vdb:256:2"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    hosts = dict(pair.split("=", 1) for pair in options.host) or dict(DEFAULT_HOSTS)
    try:
        if options.command == "up":
            up(options.root, hosts)
        elif options.command == "build":
            for suite, root in roots.roots_of(set(hosts.values())).items():
                print(f"{suite}: {root}")
        else:
            down()
    except LabError as error:
        print(f"sendense_lab.cluster: {error}", file=sys.stderr)
        return 1
    return 0


def up(root: Path, hosts: dict[str, str]) -> None:
    """Start hosts and a VM on each, and leave them running."""
    if any(entry.root == str(root) for entry in journal.entries()):
        raise LabError(f"a cluster is up in {root} already; `make lab-cluster-down` ends it")
    with Cluster(root, hosts, name="standing-cluster") as cluster:
        vms = [cluster.create_vm(host, options=[WORKLOAD]) for host in cluster.hosts.values()]
        for vm in vms:
            vm.guest.wait_ready()
        cluster.detach()
    print(f"This machine is {cluster.bridge.address} to the hosts; pool {cluster.pool.folder}")
    for host, vm in zip(cluster.hosts.values(), vms, strict=True):
        print(f"\n{host.name}  {host.suite}  {host.address}  runs {vm.name} {vm.uuid}")
        print(
            f"  ssh -i {cluster.key} -o UserKnownHostsFile={root}/known_hosts root@{host.address}"
        )
        print(f"  virsh -c '{host.uri}' list")
    print("\nEnd it all with: make lab-cluster-down")


def down() -> None:
    """End the standing cluster and all that were left behind; never that of a living process."""
    for entry in journal.entries():
        is_cluster = (Path(entry.root) / teardown.ID_FILE).exists()
        if is_cluster and (entry.owner is None or entry.orphan):
            journal.take_down(entry)
            print(f"ended {entry.name} in {entry.root}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sendense_lab.cluster", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("command", choices=["up", "down", "build"])
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="folder of the hosts")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME=RELEASE",
        help=f"once for each host, of {', '.join(roots.SUITES)}; bullseye is full-only",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
