"""How a store is used: patience, speed, bookkeeping.  What it is, its URL says."""

from __future__ import annotations

from dataclasses import dataclass, field

from sendense.storage.counting import Counters
from sendense.transfer.throttle import UNLIMITED, Throttle
from sendense.units import KIB


@dataclass(frozen=True)
class StoreOptions:
    """Everything has a default that suits a backup."""

    attempts: int = 8
    """How often a call is tried when what failed may pass."""
    patience_s: float = 300.0
    """How long a call is tried again, from its beginning."""
    connect_timeout_s: float = 10.0
    """How long a connection to a server may take."""
    stall_s: float = 60.0
    """How long a server may send nothing before the request is given up."""
    slowest_bytes_per_s: int = 64 * KIB
    """An upload that is slower than this is taken for stalled; each of several at once counts."""
    upload: Throttle = UNLIMITED
    """The limit on what is written, shared with others that use it."""
    download: Throttle = UNLIMITED
    """The limit on what is read."""
    counters: Counters | None = field(default=None, compare=False)
    """Where requests and bytes are counted, if anywhere."""


DEFAULT = StoreOptions()
