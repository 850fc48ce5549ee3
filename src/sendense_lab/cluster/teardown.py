"""Ending a cluster by what can be seen of it, for whoever comes after a test run that was killed.

All that a cluster makes outside of its folder carries the four characters of its id: control
groups, interfaces, and the link to its pool. So ending it needs no memory, may be repeated, and
touches nothing else.
"""

from __future__ import annotations

from pathlib import Path

from sendense_lab.cluster import cgroups, network

ID_FILE = "cluster-id"
POOL_LINKS = Path("/mnt")


def group_prefix(identity: str) -> str:
    """How control groups of a cluster begin."""
    return f"sendense-lab-{identity}-"


def take_down(root: Path) -> None:
    """End all hosts of the cluster in `root`, its network and its pool's link."""
    identity_file = root / ID_FILE
    if not identity_file.exists():
        return
    identity = identity_file.read_text().strip()
    for name in cgroups.named(group_prefix(identity)):
        cgroups.remove(name)
    network.remove_all(identity)
    for link in POOL_LINKS.iterdir():
        if link.is_symlink() and link.readlink().is_relative_to(root):
            link.unlink()
