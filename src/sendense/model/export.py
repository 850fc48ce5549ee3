"""A disk offered for reading (or writing) over NBD: on this host, or through a gate of another.

The value is all that the transfer engine gets to know of where bytes come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from sendense.model.secret import Secret


@dataclass(frozen=True)
class Gate:
    """The way to an export on another host: what to connect to, and what to say there.

    Every connection to a gate begins with one line that names the export and proves the right to
    it (``docs/agent-api.md``, "Gates"); NBD follows.  Connections are spread over the addresses,
    because each tunnel encrypts on one core.
    """

    addresses: tuple[tuple[str, int], ...]
    """Host and port of each way to the same gate: the tunnels' ends."""
    name: str
    """What the gate calls the export."""
    secret: Secret
    certificates: Optional[str] = None
    """Directory with the certificates for TLS (``ca-cert.pem``, ``client-cert.pem``,
    ``client-key.pem``); none: the way itself is protected."""
    hostname: Optional[str] = None
    """What the certificate of the gate must be for; with ``certificates``."""


@dataclass(frozen=True)
class DiskExport:
    """One NBD export, on a unix socket or behind a gate."""

    target: str
    socket: str
    """Path; empty where a gate leads to it."""
    name: str
    """The export's name."""
    size: int
    """Bytes; checked against what the server says."""
    dirty_context: Optional[str] = None
    """``qemu:dirty-bitmap:<name>`` where changes can be asked for."""
    gate: Optional[Gate] = None
