"""Undelete: bring back what was removed from a bucket that keeps what is locked.

It needs no key of the repository, whose header and slots may be among what was removed.
All kinds of objects come back together, so what comes back fits together: a state that
was, and what was done since.  Garbage comes back too, and is collected again.
"""

from __future__ import annotations

from dataclasses import dataclass

from sendense.errors import Unsupported
from sendense.repository.opening import Access, open_objects


@dataclass(frozen=True)
class Undeleted:
    """What came back."""

    removed: int
    overwritten: int


def undelete(url: str, access: Access) -> Undeleted:
    """Bring back the objects of a repository."""
    store = open_objects(url, access)
    try:
        locks = store.locks
        if locks is None:
            raise Unsupported(
                f"{store.location} keeps nothing that is removed",
                hint="only a bucket with versions and object lock does, named with "
                "object_lock=true in its URL (docs/stores.md)",
            )
        removed = locks.undelete("")
        # All objects are written once, save leases: the first version of one only renews less.
        return Undeleted(removed, locks.unreplace(""))
    finally:
        store.close()
