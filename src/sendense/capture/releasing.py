"""Takes our checkpoints and bitmaps off a machine; foreign ones are never touched."""

from __future__ import annotations

from typing import Any

from sendense.capture import checkpoints
from sendense.capture.images import image_chain, remove_bitmap
from sendense.capture.link import DomainLink
from sendense.model.machine import Machine
from sendense.model.survey import is_own


def release_running(uri: str, machine: Machine) -> tuple[str, ...]:
    """Drop all our checkpoints of a running domain; gives their names."""

    def act(domain: Any) -> tuple[str, ...]:
        names = checkpoints.own_names(domain)
        for name in names:
            checkpoints.drop(domain, name)
        return names

    link = DomainLink(uri, machine.uuid)
    try:
        return link.call("removing our checkpoints", act)
    finally:
        link.close()


def release_stopped(machine: Machine) -> tuple[str, ...]:
    """Remove all our bitmaps from the images of a machine that is off; gives their names."""
    dropped: list[str] = []
    for disk in machine.disks:
        if not disk.holds_bitmaps:
            continue
        for bitmap in image_chain(disk.path, disk.format)[0].bitmaps:
            if is_own(bitmap.name):
                remove_bitmap(disk.path, bitmap.name)
                dropped.append(bitmap.name)
    return tuple(sorted(set(dropped)))
