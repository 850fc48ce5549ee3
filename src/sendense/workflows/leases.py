"""Leases of a dedup repository: who is at work in it, and what to do where nobody is.

A lease ends by itself: with its holder, or two hours after the last sign of life of a holder on
another host.  To break one by hand is for who cannot wait, and knows that the holder is gone.
"""

from __future__ import annotations

from sendense.repository.dedup.leases import Found
from sendense.repository.dedup.repository import DedupRepository
from sendense.workflows.abbreviations import whole_id


def list_leases(repository: DedupRepository) -> tuple[Found, ...]:
    """List all leases, the oldest sign of life first; dead ones are left where they are."""
    found = repository.parts.leases.survey()
    return tuple(sorted(found, key=lambda item: (item.record.modified, item.record.id)))


def find_lease(repository: DedupRepository, reference: str) -> Found:
    """Give the lease that an id, or the beginning of one, names."""
    found = {item.record.id: item for item in list_leases(repository)}
    wanted = whole_id(list(found), reference, what="lease", listed_by="sendense repo leases")
    return found[wanted]


def break_lease(repository: DedupRepository, lease: Found) -> None:
    """Take a lease from its holder, whose work comes to nothing if it lives after all."""
    repository.parts.leases.break_lease(lease.record.id)
