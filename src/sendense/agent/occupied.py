"""Places that another machine of this host runs on are not written.

QEMU's locks keep us off the images of machines that run, here and on hosts that share the storage.
A block device has no such lock (:mod:`sendense.agent.kept_off`), and a place that the control plane
names may belong to any machine: so this host's libvirt is asked who uses it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Optional, Union

from sendense.capture.host import Host
from sendense.errors import Busy
from sendense.model.machine import PowerState, SourceKind

_Key = Union[int, str]


def ensure_unoccupied(host: Host, paths: Iterable[str]) -> None:
    """Raise :class:`Busy` where a machine of this host runs on one of the places."""
    wanted = {key: path for path in paths for key in _keys(path)}
    if not wanted:
        return
    for machine in host.machines():
        if machine.power is PowerState.STOPPED:
            continue
        for disk in machine.disks:
            if disk.kind is SourceKind.NETWORK:
                continue
            found = next((wanted[key] for key in _keys(disk.path) if key in wanted), None)
            if found is not None:
                raise Busy(
                    f"{found} is disk {disk.target} of {machine.name}, which runs",
                    hint="stop the machine first, or detach the disk",
                    machine=machine.uuid,
                )


def _keys(path: str) -> tuple[_Key, ...]:
    """Give what a place is known by: where its name leads, and the number of a device."""
    number = _device(path)
    real = os.path.realpath(path)
    return (real,) if number is None else (real, number)


def _device(path: str) -> Optional[int]:
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    return facts.st_rdev if stat.S_ISBLK(facts.st_mode) else None
