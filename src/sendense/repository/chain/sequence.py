"""The order of a machine's points: a number that is given out once and never again.

The highest number is kept in ``.machine.json``, so that it does not come back when
the newest point is deleted.  Should that file be lost or damaged, the manifests
give the number: then only numbers of deleted points can return.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sendense.errors import Damaged, NotFound
from sendense.repository import sealed
from sendense.repository.chain import layout
from sendense.storage import durable

KIND = "sendense-machine"


def next_sequence(machine: Path, used: Iterable[int]) -> int:
    """Give the number of the next point; ``used`` are those of the manifests."""
    return max([_remembered(machine), *used]) + 1


def remember_sequence(machine: Path, number: int) -> None:
    """Note that a number is given out, before anything carries it."""
    durable.replace_file(machine / layout.MACHINE, sealed.render(KIND, {"sequence": number}))


def _remembered(machine: Path) -> int:
    try:
        number = sealed.read(machine / layout.MACHINE, KIND)["sequence"]
    except (NotFound, Damaged, KeyError, TypeError):
        return 0
    return number if isinstance(number, int) else 0
