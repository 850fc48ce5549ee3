"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

from sendense.units import GIB, MIB


@dataclass(frozen=True)
class DedupPlan:
    """Sizes in bytes, and how often."""

    rounds: int = 3
    data: int = 2 * GIB
    """The disk of the copies: incompressible throughout."""
    mixed: int = GIB
    """A third programs, a third zeroes, a third incompressible."""
    remote: int = GIB
    """The disk that is restored from S3."""
    delay_s: float = 0.02
    """How long a request to S3 is on its way, there and back, where that is said."""
    rate: int = 90_000_000
    """Bytes per second of one connection to S3, where that is said."""
    disk: int = 4 * GIB
    """The disk of the scattered writes."""
    writes: int = 1000
    template: int = 256 * MIB
    """What ten clones have in common."""
    records: int = 1 << 20
    """Chunks in the local index: one TiB of them, of 1 MiB each."""
    points: tuple[int, ...] = (1, 10, 100)
    sizes: tuple[int, ...] = (GIB, 10 * GIB, 100 * GIB)


QUICK = DedupPlan(
    rounds=1,
    data=32 * MIB,
    mixed=24 * MIB,
    remote=32 * MIB,
    disk=64 * MIB,
    writes=20,
    template=16 * MIB,
    records=1 << 12,
    points=(3,),
    sizes=(64 * MIB,),
)
"""Only shows that everything runs."""
