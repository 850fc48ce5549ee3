"""Tickets: what the control plane allows an agent to do, once, and until when.

An agent does nothing outside a ticket.  A ticket is a value, signed with a secret that only this
agent and the control plane hold: so a stolen hypervisor can allow itself what it could do
anyway, and nothing anywhere else.  On the wire it is one text::

    base64url(JSON of the ticket) "." base64url(HMAC-SHA256 of what stands before the dot)

in the header ``Authorization: Sendense <ticket>``.  A ticket to look serves many requests until
it expires.  One that acts has an id that begins at most one capture or restore: sent again, it
gives the status of that one, however often an answer was lost; and it is the key to it until its
end, also after it expired.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Optional

from sendense.errors import NotAllowed, Rejected
from sendense.model.coding import decode, encode
from sendense.model.decision import DiskDecision
from sendense.model.expectation import ExpectedDisk
from sendense.model.point import Consistency
from sendense.model.secret import Secret

SCHEME = "Sendense"
LONGEST_TICKET = 256 * 1024
"""Characters; read before anything of it is certain."""


NVRAM_EXPORT = "nvram"
"""Target of the export that UEFI variables are written through."""
NVRAM_MOST = 4 * 1024 * 1024
"""Bytes; OVMF's take 528 KiB."""


class Action(str, Enum):
    """What a ticket is for."""

    LOOK = "look"
    """Inventory, surveys, health, events, metrics: changes nothing."""
    CAPTURE = "capture"
    RESTORE = "restore"
    RELEASE = "release"
    """Take our bitmaps and checkpoints off a machine."""


@dataclass(frozen=True)
class Limits:
    """What one capture or restore may use; the agent's own limits hold beside them."""

    bytes_per_s: int = 0
    """0: no limit but the agent's."""
    connections: int = 8
    """To all exports of it together."""


NO_LIMITS = Limits()
"""None but the agent's own."""


@dataclass(frozen=True)
class CaptureOrder:
    """One capture: the machine, each disk with how it is read, and the new checkpoint."""

    machine: str
    """UUID."""
    point_id: str
    """The new checkpoint is ``sendense-<point id>``."""
    disks: tuple[DiskDecision, ...]
    """Checked by the agent against its own survey right before it begins."""
    consistency: Consistency
    strict: bool = False
    granularity: int = 0
    """Bytes per bit of new bitmaps; 0: as the agent is set."""
    mountpoints: tuple[str, ...] = ()
    committed: tuple[str, ...] = ()
    """Points of this machine that are in repositories, newest last: what a run before this one
    left undecided is kept if it is named here, and else taken back."""
    limits: Limits = NO_LIMITS
    domain_xml: Optional[str] = None
    """Of a machine that is off and that its host's libvirt does not keep, as CloudStack's are;
    its disks must lie in the agent's pools."""
    expected: tuple[ExpectedDisk, ...] = ()
    """All disks of the machine as they were planned for, also those that are left out: the capture
    begins with these only.  None of a control plane that is older than this field."""


class PlaceKind(str, Enum):
    """Where a restored disk is written on a host."""

    EXISTING = "existing"
    """The image or device of a machine that is off."""
    NEW_FILE = "new-file"
    """A file in one of the agent's pools; it has its name only when all disks are complete."""


@dataclass(frozen=True)
class RestorePlace:
    """One disk of a restore."""

    target: str
    """Names the export."""
    path: str
    format: str
    """``qcow2`` or ``raw``."""
    size: int
    """Bytes of the disk that is restored."""
    kind: PlaceKind
    most: int = 0
    """Bytes that a place that exists may have, which are made zero behind the disk; 0: any."""


@dataclass(frozen=True)
class RestoreOrder:
    """Disks that may be written, and what is done when all are complete."""

    disks: tuple[RestorePlace, ...]
    machine: Optional[str] = None
    """UUID of the machine whose disks these are; it must be off, and is held."""
    domain_xml: Optional[str] = None
    """Defined on the host at the end (``define``), started from it (``start``)."""
    define: bool = False
    start: bool = False
    limits: Limits = NO_LIMITS
    nvram: int = 0
    """Bytes of the UEFI variables that take the place of the machine's at the end, written through
    the export ``nvram``; 0: none.  Without that export the host has no place for them."""


@dataclass(frozen=True)
class Ticket:
    """What is allowed."""

    id: str
    agent: str
    """Id of the agent that may act on it."""
    action: Action
    expires_at: datetime
    job: str = ""
    """For the agent's log."""
    capture: Optional[CaptureOrder] = None
    restore: Optional[RestoreOrder] = None
    release: Optional[str] = None
    """UUID of a machine."""


def sign(ticket: Ticket, secret: Secret) -> str:
    """Give a ticket as the text that is sent."""
    body = json.dumps(encode(ticket), separators=(",", ":"), sort_keys=True).encode()
    payload = _to_text(body)
    return f"{payload}.{_to_text(_mac(payload, secret))}"


def check(text: str, secret: Secret) -> Ticket:
    """Give the ticket that a text stands for, if it was signed with ``secret``.

    Its agent, expiry and use are for the agent to check: they need a clock and a memory.
    """
    if len(text) > LONGEST_TICKET:
        raise Rejected("the ticket is too long")
    payload, dot, mac = text.partition(".")
    # In constant time, and before anything of it is read.
    if not dot or not hmac.compare_digest(_from_text(mac), _mac(payload, secret)):
        raise NotAllowed(
            "the ticket was not signed for this agent",
            hint="enrol the host again if the agent's or the server's secret was changed",
        )
    try:
        content = json.loads(_from_text(payload))
    except ValueError:
        raise Rejected("the ticket is not readable") from None
    ticket = decode(Ticket, content, place="ticket")
    order = {
        Action.CAPTURE: ticket.capture,
        Action.RESTORE: ticket.restore,
        Action.RELEASE: ticket.release,
    }
    if ticket.action in order and order[ticket.action] is None:
        raise Rejected(f"a ticket to {ticket.action.value} does not say what")
    return ticket


def _mac(payload: str, secret: Secret) -> bytes:
    return hmac.new(secret.reveal(), payload.encode(), hashlib.sha256).digest()


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_text(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotAllowed("the ticket is not readable") from None
