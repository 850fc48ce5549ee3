"""Holding one machine for one run, with what a dead run left of it taken back first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sendense.capture.journal import Facts, JournalEntry, claim
from sendense.capture.reaper import reap
from sendense.errors import Damaged, NotFound, SendenseError
from sendense.model.machine import Machine
from sendense.repository.opening import open_repository
from sendense.repository.protocol import Repository
from sendense.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claimed:
    """A machine that is ours for the time being."""

    entry: JournalEntry
    repaired: tuple[str, ...]
    """What a dead run had left, and was taken back."""


Opener = Callable[[str], Repository]
"""Opens the repository of a location that a journal names."""


@contextmanager
def claimed(
    machine: Machine, settings: Settings, operation: str, opener: Opener = open_repository
) -> Iterator[Claimed]:
    """Hold a machine for ``operation``; :class:`~sendense.errors.Busy` says who else does."""
    entry = claim(
        settings.state_dir,
        machine.uuid,
        operation=f"{operation} of {machine.name}",
        wait_s=settings.host().lock_wait_s,
    )
    try:
        done = reap_entry(entry, agent_timeout_s=settings.agent_timeout, opener=opener)
        yield Claimed(entry, done)
    finally:
        entry.release()


def reap_entry(
    entry: JournalEntry, *, agent_timeout_s: int, opener: Opener = open_repository
) -> tuple[str, ...]:
    """Take back what a dead run left, as far as the claimed ``entry`` tells."""
    return reap(
        entry,
        is_committed=lambda facts: is_committed(facts, opener),
        agent_timeout_s=agent_timeout_s,
    )


def is_committed(facts: Facts, opener: Opener = open_repository) -> bool:
    """Tell whether the point of a dead run is in its repository.

    Where that cannot be known (it is not mounted, say, or nothing names its passphrase), it
    counts as committed: its checkpoint may be the base of the next incremental, and keeping one
    for nothing costs a bitmap.
    """
    if facts.get("work"):
        return True  # a capture of this host's agent: only its control plane knows
    location = facts.get("repository")
    if not location:
        return False
    try:
        repository = opener(location)
    except SendenseError as error:
        log.info("whether point %s was committed is not known: %s", facts["point"], error)
        return True
    try:
        repository.point(facts["point"])
    except NotFound:
        return False
    except Damaged:
        # There, though unreadable: its checkpoint is kept, which costs a bitmap and no data.
        return True
    return True
