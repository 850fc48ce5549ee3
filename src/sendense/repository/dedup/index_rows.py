"""Rows of the local index: how it spells the records of a pack, and how they are found.

Sixteen records make one *group*, a row of the database, so that what a row costs is paid
once for sixteen.  A record's *address* is its group's number and its place in it.  It is found by
a *key*: some bits of its id, and its address behind them.  All keys that may belong to
an id lie side by side; which of them does, the id in the group decides.  So a million records
take about 60 MB, where a table with an index by id takes twice that.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Entry, PackHead, PackRecord
from sendense.repository.dedup.format import PackKind

GROUP_BITS = 4
GROUP = 1 << GROUP_BITS
ADDRESS_BITS = 34
ADDRESSES = (1 << ADDRESS_BITS) - 1
"""The bits of a key that are an address."""
LAST_GROUP = ADDRESSES >> GROUP_BITS

_ROW = struct.Struct("<32sIHBH")
"""Id, offset, stored length (24 bits), plain length in units, and a bit for compression."""
ROW_BYTES = _ROW.size
_COMPRESSED = 1 << 15
_UNITS = {PackKind.DATA: fmt.BLOCK, PackKind.META: 1}
_HOOK = struct.Struct("<Q")
_HOOKS = [struct.Struct(f"<{count}Q") for count in range(fmt.HOOKS + 1)]


@dataclass(eq=False)
class PackRows:
    """A pack as the database takes it; its addresses begin with 0."""

    head: PackHead
    size: int
    count: int
    stored: int
    """Bytes of all records."""
    plain: int
    """Bytes of all records before they were compressed and encrypted."""
    groups: list[tuple[bytes, bytes | None]]
    """Rows of records, and their hooks where there are any."""
    keys: array[int] = field(default_factory=lambda: array("Q"))
    hook_keys: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def span(self) -> int:
        """Give the group numbers that it takes: one also when it is empty."""
        return max(1, len(self.groups))


def rows_of(record: PackRecord) -> PackRows:
    """Spell a pack."""
    unit = _UNITS[record.head.kind]
    entries = record.entries
    stored = sum(entry.stored for entry in entries)
    plain = sum(entry.length for entry in entries)
    rows = PackRows(record.head, record.size, len(entries), stored, plain, [])
    packed = []
    for place, entry in enumerate(entries):
        stored = entry.stored
        packed.append(
            _ROW.pack(
                entry.id,
                entry.offset,
                stored & 0xFFFF,
                stored >> 16,
                entry.length // unit | (_COMPRESSED if entry.compressed else 0),
            )
        )
        rows.keys.append(first_key(entry.id) | place)
        rows.hook_keys.extend(hook_keys_of(entry, place))
    for start in range(0, len(packed), GROUP):
        part = entries[start : start + GROUP]
        hooks = _pack_hooks(part) if any(entry.hooks for entry in part) else None
        rows.groups.append((b"".join(packed[start : start + GROUP]), hooks))
    return rows


def first_key(record: bytes) -> int:
    """Give the lowest key that the record with this id can have."""
    return int.from_bytes(record[:4], "little") >> 3 << ADDRESS_BITS


def first_hook_key(hook: int) -> int:
    """Give the lowest key that a leaf with this hook can have."""
    # Hooks belong to the smallest digests: their first bytes, the low ones, are alike.
    return hook >> 35 << ADDRESS_BITS


def hook_keys_of(entry: Entry, address: int) -> set[int]:
    """Give the keys by which a leaf is found; two hooks may have the same."""
    return {first_hook_key(hook) | address for hook in entry.hooks}


def entries_in(kind: PackKind, data: bytes, hooks: bytes | None) -> Iterator[Entry]:
    """Read a group."""
    told = _unpack_hooks(hooks) if hooks else None
    for place in range(len(data) // ROW_BYTES):
        row = data[place * ROW_BYTES : (place + 1) * ROW_BYTES]
        yield entry_in(kind, row, told[place] if told else ())


def entry_in(kind: PackKind, row: bytes, hooks: tuple[int, ...]) -> Entry:
    """Read one row."""
    record, offset, low, high, size = _ROW.unpack(row)
    length = (size & ~_COMPRESSED) * _UNITS[kind]
    return Entry(record, offset, high << 16 | low, length, size & _COMPRESSED != 0, hooks)


def hooks_at(hooks: bytes | None, place: int) -> tuple[int, ...]:
    """Give the hooks of one record of a group."""
    return _unpack_hooks(hooks)[place] if hooks else ()


def stored_in(row: bytes) -> int:
    """Give the stored length that a row tells."""
    low, high = _ROW.unpack(row)[2:4]
    return int(high << 16 | low)


def _pack_hooks(entries: tuple[Entry, ...]) -> bytes:
    parts = []
    for entry in entries:
        parts.append(bytes((len(entry.hooks),)))
        parts += [_HOOK.pack(hook) for hook in entry.hooks]
    return b"".join(parts)


def _unpack_hooks(data: bytes) -> list[tuple[int, ...]]:
    found = []
    place = 0
    while place < len(data):
        count = data[place]
        found.append(_HOOKS[count].unpack_from(data, place + 1))
        place += 1 + _HOOK.size * count
    return found
