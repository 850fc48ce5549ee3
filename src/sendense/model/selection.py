"""Which disks of a machine a run takes: by target, serial or path.

A name that matches no disk is an error: a typing mistake must not leave a disk
without a backup in silence.
"""

from __future__ import annotations

from collections.abc import Iterable

from sendense.errors import NotFound, Rejected
from sendense.model.machine import Disk


def matches(disk: Disk, name: str) -> bool:
    """Tell whether an operator's name means this disk."""
    return name in (disk.target, disk.serial, disk.path)


def select_disks(
    disks: tuple[Disk, ...], *, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> tuple[Disk, ...]:
    """Give the disks that ``include`` names (all where it is empty) less ``exclude``."""
    included, excluded = tuple(include), tuple(exclude)
    for name in (*included, *excluded):
        if not any(matches(disk, name) for disk in disks):
            known = ", ".join(f"{disk.target} ({disk.path})" for disk in disks)
            raise NotFound(
                f"no disk {name!r} on this machine",
                hint=f"name a disk by target, serial or path; it has: {known}",
            )
    chosen = tuple(
        disk
        for disk in disks
        if (not included or any(matches(disk, name) for name in included))
        and not any(matches(disk, name) for name in excluded)
    )
    if not chosen:
        raise Rejected("no disk is left to work on", hint="loosen --include and --exclude")
    return chosen
