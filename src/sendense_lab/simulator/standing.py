"""A cloud to play with, as long as its process lasts: on paper, or on whole hosts of the lab.

It prints what the `cs` command line reads from `cloudstack.ini`. A signal (Ctrl-C) ends the API,
the hosts and all machines on them. Hosts of a process that was killed are ended by the next, or by
`make lab-cluster-down`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sendense_lab.cluster.cluster import Cluster
from sendense_lab.pool import MIB
from sendense_lab.simulator.lab_machines import LabMachines
from sendense_lab.simulator.simulator import Keys, Simulator

DEFAULT_ROOT = Path("/srv/sendense-lab-cloud")
WORKLOAD = "lab.run=write:vda:4:256:2,write:vdb:16:256:1,churn:vdb:256:2"


@dataclass(frozen=True)
class Wanted:
    """Which CloudStack it is to be."""

    version: str
    port: int = 0
    job_s: float = 1.0


def on_paper(wanted: Wanted, instances: int) -> None:
    """Have a cloud without machines."""
    ended = _told()
    with Simulator(version=wanted.version, port=wanted.port, job_s=wanted.job_s) as cloud:
        cloud.fill(instances)
        _say(ini(cloud), ended)


def on_hosts(wanted: Wanted, hosts: Mapping[str, str], root: Path) -> None:
    """Have a cloud whose hosts are real, each with an instance that keeps writing."""
    ended = _told()
    with Cluster(root, hosts, name="standing-cloud") as site:
        machines = LabMachines.over(site, options=[WORKLOAD])
        with Simulator(machines, version=wanted.version, port=wanted.port, job_s=0) as cloud:
            cloud.create_account("acme", domain="ROOT/customers")
            owner = cloud.account("acme", "ROOT/customers")
            for host in site.hosts:
                cloud.add_instance(f"web-{host}", account=owner, host=host, disks=[256 * MIB])
            customer = ini(cloud, "acme", cloud.keys_of(owner))
            _say(f"{ini(cloud)}\n{customer}\n{_hosts(site)}", ended)


def ini(cloud: Simulator, name: str = "cloudstack", keys: Keys | None = None) -> str:
    """Give the section that `cs` reads: the administrator's, if no keys are given."""
    keys = keys or cloud.admin_keys
    return f"[{name}]\nendpoint = {cloud.url}\nkey = {keys.api_key}\nsecret = {keys.secret}\n"


def _hosts(site: Cluster) -> str:
    known = site.root / "known_hosts"
    lines = [f"# The pool is {site.pool.folder} on every host."]
    for host in site.hosts.values():
        lines += [
            f"# {host.name}  {host.suite}  {host.address}",
            f"#   ssh -i {site.key} -o UserKnownHostsFile={known} root@{host.address}",
            f"#   virsh -c '{host.uri}' list",
        ]
    return "\n".join(lines)


def _told() -> threading.Event:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended


def _say(what: str, ended: threading.Event) -> None:
    print(what, flush=True)
    print("Put this into cloudstack.ini; end with Ctrl-C.", file=sys.stderr, flush=True)
    ended.wait()
