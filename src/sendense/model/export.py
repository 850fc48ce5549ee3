"""A disk offered for reading (or writing) over NBD on this host.

The value is all that the transfer engine gets to know of where bytes come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class DiskExport:
    """One NBD export on a unix socket."""

    target: str
    socket: str
    name: str
    """The export's name."""
    size: int
    """Bytes; checked against what the server says."""
    dirty_context: Optional[str] = None
    """``qemu:dirty-bitmap:<name>`` where changes can be asked for."""
