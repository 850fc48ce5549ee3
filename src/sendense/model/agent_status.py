"""What an agent says of itself and of the work it does: the answers of its API."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Optional

from sendense.model.machine import Machine
from sendense.model.point import Consistency

PROTOCOL = 1
"""Of the agent's API. An agent and a control plane of different versions do not work together."""


class WorkState(str, Enum):
    """Where a capture or a restore stands."""

    QUEUED = "queued"
    """The host's limits or its window keep it waiting."""
    STARTING = "starting"
    READY = "ready"
    """Its exports can be read, or written."""
    ENDING = "ending"
    COMMITTED = "committed"
    """The point is stored, superseded checkpoints are gone; or the restored disks are complete."""
    ABORTED = "aborted"
    """Taken back on request."""
    FAILED = "failed"
    """Taken back; the error says why."""
    PARKED = "parked"
    """Nobody asked for it for too long. The job is ended and the guest free; both checkpoints are
    kept until somebody says whether the point was stored: commit and abort are still taken."""


FINAL = frozenset({WorkState.COMMITTED, WorkState.ABORTED, WorkState.FAILED})


@dataclass(frozen=True)
class AgentError:
    """An error in the shape of every edge (``SendenseError.to_dict``)."""

    code: str
    message: str
    hint: Optional[str] = None
    retryable: bool = False


@dataclass(frozen=True)
class GateExport:
    """One disk of a capture or a restore, and how the gate knows it."""

    target: str
    name: str
    """For the gate."""
    secret: str = field(repr=False)
    """Opens the gate for this export only; it lives as long as the work does."""
    export: str
    """The NBD export's name."""
    size: int
    dirty_context: Optional[str] = None
    port: Optional[int] = None
    """Of the gate that is for this export alone, where the transport is TLS."""
    socket: Optional[str] = None
    """Path of QEMU's socket on the host, where the transport is ``local``; there is no gate."""


@dataclass(frozen=True)
class CaptureStatus:
    """A capture under way, or what became of it."""

    id: str
    """The ticket's."""
    state: WorkState
    waiting_for: Optional[str] = None
    """Why it is queued."""
    machine: Optional[Machine] = None
    """As surveyed right before it began; from ``ready`` on."""
    taken_at: Optional[datetime] = None
    consistency: Optional[Consistency] = None
    frozen_s: Optional[float] = None
    warnings: tuple[str, ...] = ()
    exports: tuple[GateExport, ...] = ()
    domain_xml: str = ""
    nvram: Optional[bytes] = None
    host: str = ""
    versions: str = ""
    repaired: tuple[str, ...] = ()
    """What a dead run had left, and was taken back first."""
    error: Optional[AgentError] = None


@dataclass(frozen=True)
class RestoreStatus:
    """A restore under way, or what became of it."""

    id: str
    state: WorkState
    waiting_for: Optional[str] = None
    exports: tuple[GateExport, ...] = ()
    warnings: tuple[str, ...] = ()
    error: Optional[AgentError] = None


@dataclass(frozen=True)
class Released:
    """What a release took off a machine."""

    removed: tuple[str, ...]


class Level(str, Enum):
    """How well something is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class HealthCheck:
    """One thing that the agent watches."""

    name: str
    """``libvirt``, ``qemu``, ``scratch``, ``clock``, ``tunnel``, ``load``, ``memory``,
    ``certificate`` where the transport is ``tls``."""
    level: Level
    message: str
    hint: Optional[str] = None


@dataclass(frozen=True)
class AgentFacts:
    """Who the agent is and what it can do."""

    id: str
    host: str
    version: str
    """Of Sendense."""
    versions: str
    """Of libvirt and QEMU too."""
    protocol: int
    boot_id: str
    started_at: datetime
    now: datetime
    """By the host's clock."""
    incremental: bool
    """Whether this host can make checkpoints at all."""
    transport: str
    max_concurrent_vms: int
    max_concurrent_exports: int
    bandwidth_limit_mbps: int
    backup_window: Optional[str]
    pools: tuple[str, ...] = ()
    block_size: int = 1 << 20
    """Bytes that a worker should ask for in one request."""


@dataclass(frozen=True)
class Heartbeat:
    """Facts, health and load in one answer: what the control plane asks for every few seconds."""

    facts: AgentFacts
    health: tuple[HealthCheck, ...]
    running: tuple[str, ...]
    """Ids of the work that is not final."""
    queued: int
    last_event: int


class EventKind(str, Enum):
    """What happened to a machine on the host."""

    STARTED = "started"
    STOPPED = "stopped"
    MIGRATED_AWAY = "migrated-away"
    MIGRATED_HERE = "migrated-here"
    CHANGED = "changed"


@dataclass(frozen=True)
class Event:
    """One event; they are hints, the inventory is the truth."""

    number: int
    """Ascending; begins anew when the agent does, which ``boot`` tells."""
    at: datetime
    kind: EventKind
    machine: str
    name: str


@dataclass(frozen=True)
class Events:
    """What happened after a number."""

    boot: str
    """Changes whenever the agent starts."""
    last: int
    events: tuple[Event, ...]
    lost: bool = False
    """Some that were asked for are no longer kept: look at the inventory."""
