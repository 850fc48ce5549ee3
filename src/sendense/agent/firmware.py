"""The UEFI variables of a machine: a small file beside its disks, replaced when those are complete.

It is written like a disk, through an export of its own, into a fresh file beside the machine's.
Only when all disks are complete and that file is durable is the machine's written over.  So a
restore that does not complete leaves the old variables, and who dies over it does it again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from sendense.agent.new_disks import sync
from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.model.machine import Machine
from sendense.model.ticket import NVRAM_EXPORT, NVRAM_MOST, RestoreOrder

_SECTOR = 512


def ensure_firmware_order(order: RestoreOrder) -> None:
    """Refuse an order for variables that makes no sense whatever this host looks like."""
    if not order.nvram:
        return
    if not 0 < order.nvram <= NVRAM_MOST or order.nvram % _SECTOR:
        raise Rejected(f"{order.nvram} bytes are no UEFI variable store")
    if order.machine is None or any(place.target == NVRAM_EXPORT for place in order.disks):
        raise Rejected("the ticket does not say whose UEFI variables these are")


def store_of(order: RestoreOrder, machine: Optional[Machine], folder: Path) -> Optional[Path]:
    """Give the variable store that an order replaces; none where the machine has none.

    Of a machine that libvirt has forgotten it is ``<uuid>.fd`` in ``folder``, where CloudStack
    puts it.
    """
    if not order.nvram or order.machine is None:
        return None
    if machine is not None:
        return None if machine.nvram is None else Path(machine.nvram)
    return folder / f"{order.machine}.fd"


def fresh_of(store: Path) -> Path:
    """Give the name of the file that is written."""
    return store.with_name(f"{store.name}.sendense-new")


def begin(store: Path, size: int) -> Path:
    """Make the file that is written; what a dead restore left goes."""
    if not store.parent.is_dir():
        raise NotFound(
            f"there is no directory {store.parent} for the UEFI variables",
            hint="mend the agent's setting 'nvram_dir', or make the directory",
        )
    fresh = fresh_of(store)
    try:
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(handle, size)
        finally:
            os.close(handle)
    except OSError as error:
        raise NotAllowed(
            f"the UEFI variables cannot be written to {store.parent}: {error.strerror}",
            hint="open the directory for the agent's unit by a drop-in with ReadWritePaths=",
        ) from error
    return fresh


def complete(store: Path) -> None:
    """Give the store what was written; may be repeated, and is, where the agent died over it."""
    fresh = fresh_of(store)
    if not fresh.exists():
        return
    sync(fresh)
    if store.exists():
        _overwrite(store, fresh.read_bytes())
        fresh.unlink()
    else:
        # libvirt gives it to QEMU's user when the machine starts.
        fresh.replace(store)
    folder = os.open(store.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _overwrite(store: Path, content: bytes) -> None:
    """Write over a file, which stays its owner's: the agent may give no file to anybody."""
    with store.open("r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
