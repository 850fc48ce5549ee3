"""Holding one machine for one run, with what a dead run left of it taken back first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sendense.capture.journal import Facts, JournalEntry, claim
from sendense.capture.reaper import reap
from sendense.errors import Damaged, NotFound
from sendense.model.machine import Machine
from sendense.repository.opening import open_repository
from sendense.settings import Settings


@dataclass(frozen=True)
class Claimed:
    """A machine that is ours for the time being."""

    entry: JournalEntry
    repaired: tuple[str, ...]
    """What a dead run had left, and was taken back."""


@contextmanager
def claimed(machine: Machine, settings: Settings, operation: str) -> Iterator[Claimed]:
    """Hold a machine for ``operation``; :class:`~sendense.errors.Busy` says who else does."""
    entry = claim(
        settings.state_dir,
        machine.uuid,
        operation=f"{operation} of {machine.name}",
        wait_s=settings.host().lock_wait_s,
    )
    try:
        yield Claimed(entry, reap_entry(entry, agent_timeout_s=settings.agent_timeout))
    finally:
        entry.release()


def reap_entry(entry: JournalEntry, *, agent_timeout_s: int) -> tuple[str, ...]:
    """Take back what a dead run left, as far as the claimed ``entry`` tells."""
    return reap(entry, is_committed=is_committed, agent_timeout_s=agent_timeout_s)


def is_committed(facts: Facts) -> bool:
    """Tell whether the point of a dead run is in its repository."""
    location = facts.get("repository")
    if not location:
        return False
    if not Path(location).exists():
        # Not mounted, say: the checkpoint may be the base of the next incremental, and keeping
        # one for nothing costs a bitmap.
        return True
    try:
        open_repository(location).point(facts["point"])
    except NotFound:
        return False
    except Damaged:
        # There, though unreadable: its checkpoint is kept, which costs a bitmap and no data.
        return True
    return True
