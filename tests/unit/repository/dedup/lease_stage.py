"""What the tests of leases share: wishes, the leases of other hosts, and timings without waits."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

from sendense.model.secret import Secret
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease import Lease, Timing
from sendense.repository.dedup.lease_claim import Claim, Holder, LeaseKind, Wish
from sendense.repository.dedup.lease_holder import this_process
from sendense.repository.dedup.sealing import seal_json
from tests.unit.repository.dedup.clocked_store import ClockedStore

REPOSITORY = "11111111-2222-4333-8444-555555555555"
RING = KeyRing(REPOSITORY, Secret(b"i" * 32), {1: Secret(b"d" * 32)})
MACHINE = "0" * 32
OTHER_MACHINE = "f" * 32

_numbers = itertools.count(1)


def wish(kind: LeaseKind, machine: str = MACHINE, points: tuple[str, ...] = ("p1",)) -> Wish:
    """Give a wish of that kind; of the same machine and point, if not said otherwise."""
    named = kind in (LeaseKind.WRITE, LeaseKind.DELETE)
    pointed = kind in (LeaseKind.READ, LeaseKind.DELETE)
    return Wish(
        kind,
        f"a {kind.value} test",
        machine if named else None,
        frozenset(points if pointed else ()),
    )


WRITE = wish(LeaseKind.WRITE)
READ = wish(LeaseKind.READ)
DELETE = wish(LeaseKind.DELETE)
GC = wish(LeaseKind.GC)


def on_another_host(**changes: object) -> Holder:
    """Give a process of which nothing is known here."""
    holder = Holder("kvm2", "root", "another boot", 4026531836, 123, 4567)
    return replace(holder, **changes)  # type: ignore[arg-type]


def somebody_elses(
    store: ClockedStore,
    of: Wish,
    *,
    holder: Holder | None = None,
    settled: bool = True,
    ring: KeyRing = RING,
) -> str:
    """Put the lease of somebody else, and give its id."""
    lease_id = f"{next(_numbers):032x}"
    name = f"leases/{lease_id}"
    claim = Claim(of, holder or on_another_host(), "2026-01-31T12:00:00.000000Z", settled)
    store.write(name, seal_json(ring, name, SealedKind.LEASE, claim.to_json()))
    return lease_id


def here(**changes: int) -> Holder:
    """Give this process, or one much like it."""
    return replace(this_process(), **changes)  # type: ignore[arg-type]


class Clockwork:
    """A clock of ours that goes on by hand, and pauses that take no time."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.pauses: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.on_pause()

    def timing(self, **changes: float) -> Timing:
        timing = Timing(boottime=lambda: self.seconds, pause=self.pause)
        return replace(timing, **changes)  # type: ignore[arg-type]


def eventually(true: Callable[[], bool], within: float = 90) -> None:
    """Wait until something is so; usually at once."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


def await_renewal(store: ClockedStore, lease: Lease) -> None:
    """Wait until a lease is written anew."""
    before = store.objects[lease.name]
    eventually(lambda: store.objects[lease.name] != before)
