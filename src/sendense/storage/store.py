"""What a store of objects promises, whatever it is made of.

An object is bytes under a name such as ``packs/3f/3f0a...``: letters, digits, ``.``,
``_``, ``-``, in parts joined by ``/``.  It is written whole and at once, and is durable
when :meth:`Store.put` returns.  Every implementation and every wrapper passes the same
conformance suite (``tests/contract/test_store.py``).

What goes wrong is raised as one of ours: :class:`~sendense.errors.NotFound` (the object is
not there), :class:`~sendense.errors.AlreadyExists`, :class:`~sendense.errors.NotAllowed`
(credentials, rights), :class:`~sendense.errors.OutOfSpace`, :class:`~sendense.errors.Rejected`
(no such name, no such bucket), and :class:`~sendense.errors.Unavailable` for all that may pass when
the call is repeated.

A store may be used by many threads at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sendense.model.stream import Buffer


@dataclass(frozen=True)
class Traits:
    """What a store can do beyond the minimum, stated by itself."""

    kind: str
    """``local``, ``s3``, ``azure``, ``gcs``, ``memory``."""
    conditional_create: bool
    """``put(create=True)`` is decided by the store itself, also between machines."""
    parallel: int
    """How many requests at once serve it best."""
    object_lock: bool
    """:attr:`Store.locks` is there and the store enforces it."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object."""

    name: str
    size: int
    modified: datetime
    """By the store's own clock (UTC)."""


class ObjectLocks(Protocol):
    """Keeping objects from being removed until a date, enforced by the store."""

    def extend(self, name: str, until: datetime) -> None:
        """Lock an object until ``until``, at least; a later date that is set stays."""

    def until(self, name: str) -> datetime | None:
        """Tell until when an object is locked."""

    def undelete(self, prefix: str) -> int:
        """Bring back what was removed below a prefix and is still kept; give how many objects."""

    def unreplace(self, prefix: str) -> int:
        """Put the first version of overwritten objects on top again; give how many."""


class Store(Protocol):
    """Objects under names."""

    location: str
    """The URL, without secrets."""
    traits: Traits
    locks: ObjectLocks | None

    def put(self, name: str, parts: Buffer | Sequence[Buffer], *, create: bool = False) -> None:
        """Write an object whole, from one buffer or several in a row.

        It is durable when this returns, and was invisible until then.  With
        ``create`` an object of that name is an
        :class:`~sendense.errors.AlreadyExists`; without, it is replaced at once.  The buffers
        are not kept.
        """

    def get(self, name: str) -> bytes:
        """Give a (small) object whole."""

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Fill ``target`` from ``offset`` of an object.

        :class:`~sendense.errors.Damaged` where the object ends before.
        """

    def info(self, name: str) -> ObjectInfo:
        """Describe an object."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the objects whose names begin with ``prefix`` (empty or ending in ``/``)."""

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects, durably; those that are not there are no error."""

    def free_bytes(self) -> int | None:
        """Tell what is free, where that has a meaning."""

    def close(self) -> None:
        """End connections."""
