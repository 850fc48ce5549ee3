"""A control group for each host: what tells its processes from all others, and ends them at once.

A host's init manages the groups below its own, so two hosts must not share one. The group also
outlives a killed test run, which is how left-over processes are found: by the name of the group,
never by the name of a program.
"""

from __future__ import annotations

import os
from pathlib import Path

from sendense_lab.commands import wait_until
from sendense_lab.errors import LabError


def trees() -> list[Path]:
    """Where init may keep groups: version 2, and beside it version 1's tree for systemd."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, place, kind, options, *_rest = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(place))
    return found


def create(name: str) -> list[Path]:
    """Make the group in each tree; a process joins by writing its id to `cgroup.procs` of each."""
    groups = [tree / name for tree in trees()]
    if not any((group.parent / "cgroup.controllers").exists() for group in groups):
        raise LabError("the machine has no control groups of version 2, which the hosts need")
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def named(prefix: str) -> list[str]:
    """Names of groups that begin so."""
    return sorted({path.name for tree in trees() for path in tree.glob(f"{prefix}*")})


def kill(name: str) -> None:
    """End all processes of a group at once, as a loss of power would."""
    for tree in trees():
        switch = tree / name / "cgroup.kill"
        if switch.exists():
            switch.write_text("1")
    wait_until(lambda: not pids(name), f"the end of {name}", timeout_s=60)


def remove(name: str) -> None:
    """End all processes of a group, and the group."""
    kill(name)
    for tree in trees():
        for folder, _subfolders, _files in os.walk(tree / name, topdown=False):
            Path(folder).rmdir()


def pids(name: str) -> list[int]:
    """Its processes, those of groups below it included. Zombies are in none."""
    found: set[int] = set()
    for tree in trees():
        for path in (tree / name).rglob("cgroup.procs"):
            try:
                found.update(int(line) for line in path.read_text().split())
            except OSError:
                continue  # that group ended just now
    return sorted(found - {0})
