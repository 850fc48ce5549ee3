"""What is known of packs and of the records in them."""

from __future__ import annotations

from dataclasses import dataclass

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.format import PackKind


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a pack: a chunk or a node."""

    id: bytes
    offset: int
    """Of the record in the pack."""
    stored: int
    """Bytes in the pack, the tag included."""
    length: int
    """Bytes of the plaintext, before compression."""
    compressed: bool
    hooks: tuple[int, ...] = ()
    """Of a leaf: the first 8 bytes of each of its smallest digests."""


@dataclass(frozen=True, slots=True)
class PackHead:
    """A pack as a whole."""

    id: str
    """32 hex digits."""
    kind: PackKind
    epoch: int

    @property
    def name(self) -> str:
        """Give the name of its object."""
        return f"{fmt.PACKS}{self.id[:2]}/{self.id}"


@dataclass(frozen=True, slots=True)
class PackRecord:
    """A pack with its directory."""

    head: PackHead
    size: int
    """Bytes of the object."""
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """Where one record lies."""

    pack: PackHead
    entry: Entry
