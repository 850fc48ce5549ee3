"""A shelf: packs in one SQLite database, found by the ids and hooks of their records.

The local index has two: one in the shared file, with what index objects name, and a private one
with what this process has just uploaded.  A shelf answers what it holds and where; which
answer counts is for :mod:`~sendense.repository.dedup.local_index` to say.  Nothing here locks.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from sendense.repository.dedup.entries import Entry, Location, PackHead
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.index_rows import (
    ADDRESSES,
    GROUP,
    GROUP_BITS,
    ROW_BYTES,
    PackRows,
    entries_in,
    entry_in,
    first_hook_key,
    first_key,
    hook_keys_of,
    hooks_at,
    stored_in,
)

_AT_ONCE = 512
"""Ids of one query."""
_PAGE = 1024
"""Rows that are taken from a long list at once, so that no reader holds up a writer."""
_OBJECTS = 64
"""Index objects that are described at once."""
_LEAVES = 64
"""Leaves that are looked at for one hook: a block that is everywhere is no clue."""

# What is put into these is numbers of index_rows, and nothing that anybody says.
_CANDIDATES = f"""
FROM json_each(?) wanted
CROSS JOIN lookup ON lookup.key BETWEEN wanted.value AND wanted.value + {ADDRESSES}
CROSS JOIN groups ON groups.number = (lookup.key & {ADDRESSES}) >> {GROUP_BITS}
"""
_PLACE = f"1 + (lookup.key & {GROUP - 1}) * {ROW_BYTES}"
_KNOWN = f"SELECT wanted.key, substr(groups.data, {_PLACE}, 32), groups.pack {_CANDIDATES}"
_FIND = f"""
SELECT wanted.key, lookup.key & {ADDRESSES}, substr(groups.data, {_PLACE}, {ROW_BYTES}),
       groups.hooks, packs.id, packs.kind, packs.epoch
{_CANDIDATES} CROSS JOIN packs ON packs.number = groups.pack
"""
_PLACES = f"""
SELECT wanted.key, lookup.key & {ADDRESSES}, substr(groups.data, {_PLACE}, 32),
       packs.number, packs.id
{_CANDIDATES} CROSS JOIN packs ON packs.number = groups.pack
"""
_SIMILAR = f"""
SELECT key & {ADDRESSES} FROM hooks WHERE key BETWEEN ?1 AND ?1 + {ADDRESSES}
ORDER BY key DESC LIMIT {_LEAVES}
"""  # noqa: S608
_AT = f"""
SELECT substr(groups.data, 1 + (?1 & {GROUP - 1}) * {ROW_BYTES}, {ROW_BYTES}),
       groups.hooks, packs.id, packs.kind, packs.epoch
FROM groups JOIN packs ON packs.number = groups.pack WHERE groups.number = ?1 >> {GROUP_BITS}
"""  # noqa: S608
_MARKED = f"""
SELECT marks.address,
       substr(groups.data, 1 + (marks.address & {GROUP - 1}) * {ROW_BYTES}, {ROW_BYTES})
FROM temp.marks CROSS JOIN groups ON groups.number = marks.address >> {GROUP_BITS}
WHERE marks.address >= ? AND marks.address < ? ORDER BY marks.address
"""  # noqa: S608
_LOST_MARK = f"""
SELECT 1 FROM temp.marks
WHERE NOT EXISTS (SELECT 1 FROM groups WHERE number = address >> {GROUP_BITS}) LIMIT 1
"""  # noqa: S608


class PackSummary(NamedTuple):
    """A pack in numbers."""

    head: PackHead
    size: int
    """Bytes of the object."""
    entries: int
    stored: int
    """Bytes of its records."""


class Place(NamedTuple):
    """Where a record is, in short."""

    id: bytes
    address: int
    number: int
    """Of the pack."""
    pack: str


class Hit(NamedTuple):
    """A record where it was found."""

    location: Location
    address: int


class Shelf:
    """The packs of one database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use a connection that has the tables."""
        self._db = connection

    def close(self) -> None:
        """Give the database back."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of it, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # --- packs in and out; inside a transaction ---

    def add(self, packs: Iterable[PackRows]) -> dict[str, int]:
        """Add the packs that are not there; give the number of each pack."""
        numbers: dict[str, int] = {}
        keys: list[int] = []
        hook_keys: list[int] = []
        free = first = self._fact("next")
        for pack in packs:
            known = numbers.get(pack.head.id) or self.number(pack.head.id)
            if known is not None:
                numbers[pack.head.id] = known
                continue
            number, free = free, free + pack.span
            numbers[pack.head.id] = number
            self._add_rows(number, pack)
            base = number << GROUP_BITS
            keys += [key + base for key in pack.keys]
            hook_keys += [key + base for key in pack.hook_keys]
        if free != first:
            # Ascending order fills the pages, and touches each once.
            keys.sort()
            hook_keys.sort()
            self._db.executemany("INSERT INTO lookup VALUES (?)", zip(keys, strict=True))
            self._db.executemany("INSERT INTO hooks VALUES (?)", zip(hook_keys, strict=True))
            self._set_fact("next", free)
        return numbers

    def _add_rows(self, number: int, pack: PackRows) -> None:
        head = pack.head
        sizes = (pack.size, pack.count, pack.stored, pack.plain)
        fields = (head.kind, head.epoch, *sizes, pack.span)
        row = (number, bytes.fromhex(head.id), *fields)
        self._db.execute("INSERT INTO packs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._db.executemany(
            "INSERT INTO groups VALUES (?, ?, ?, ?)",
            ((number + place, number, *group) for place, group in enumerate(pack.groups)),
        )

    def remove(self, pack: int) -> None:
        """Take a pack out by its number."""
        kind, span = self._db.execute(
            "SELECT kind, span FROM packs WHERE number = ?", (pack,)
        ).fetchone()
        place = pack << GROUP_BITS
        keys, hook_keys = [], []
        for entry in self._entries(pack, kind, span):
            keys.append((first_key(entry.id) | place,))
            hook_keys += [(key,) for key in hook_keys_of(entry, place)]
            place += 1
        self._db.executemany("DELETE FROM lookup WHERE key = ?", keys)
        self._db.executemany("DELETE FROM hooks WHERE key = ?", hook_keys)
        self._db.execute("DELETE FROM groups WHERE number >= ? AND number < ?", (pack, pack + span))
        self._db.execute("DELETE FROM packs WHERE number = ?", (pack,))
        self._set_fact("removed", self.removed + 1)

    # --- index objects; inside a transaction ---

    def names(self) -> frozenset[str]:
        """Give the index objects that are in it."""
        return frozenset(name for (name,) in self._db.execute("SELECT name FROM objects"))

    def has_object(self, name: str) -> bool:
        """Tell whether an index object is in it."""
        found = self._db.execute("SELECT 1 FROM objects WHERE name = ?", (name,))
        return found.fetchone() is not None

    def hold(self, name: str, packs: Iterable[int]) -> None:
        """Enter an index object that names these packs."""
        row = self._db.execute("INSERT INTO objects (name) VALUES (?)", (name,)).lastrowid
        holders = [(pack, row) for pack in packs]
        self._db.executemany("INSERT OR IGNORE INTO holders VALUES (?, ?)", holders)

    def release(self, name: str) -> list[int]:
        """Forget an index object; give the packs that no other one names."""
        found = self._db.execute("SELECT number FROM objects WHERE name = ?", (name,)).fetchone()
        if found is None:
            return []
        packs = self._db.execute("SELECT pack FROM holders WHERE object = ?", found).fetchall()
        self._db.executemany(
            "DELETE FROM holders WHERE pack = ? AND object = ?",
            [(pack, *found) for (pack,) in packs],
        )
        self._db.execute("DELETE FROM objects WHERE number = ?", found)
        return [pack for (pack,) in packs if not self._is_held(pack)]

    def holders(self, after: int) -> list[tuple[int, str, list[tuple[str, int]]]]:
        """Give some index objects above ``after``: number, name, and their packs with entries."""
        objects = self._db.execute(
            "SELECT number, name FROM objects WHERE number > ? ORDER BY number LIMIT ?",
            (after, _OBJECTS),
        ).fetchall()
        return [(number, name, self._packs_of(number)) for number, name in objects]

    def _packs_of(self, holder: int) -> list[tuple[str, int]]:
        rows = self._db.execute(
            "SELECT packs.id, packs.entries FROM holders JOIN packs ON packs.number = holders.pack"
            " WHERE holders.object = ?",
            (holder,),
        )
        return [(pack.hex(), entries) for pack, entries in rows]

    def _is_held(self, pack: int) -> bool:
        held = self._db.execute("SELECT 1 FROM holders WHERE pack = ? LIMIT 1", (pack,))
        return held.fetchone() is not None

    # --- looking up ---

    def known(self, ids: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Give every place of every record as the number of its pack."""
        for part, keys in _asked(ids):
            for index, record, pack in self._db.execute(_KNOWN, (keys,)).fetchall():
                if record == part[index]:
                    yield record, pack

    def places(self, ids: Sequence[bytes]) -> Iterator[Place]:
        """Give every place of every record, in short."""
        for part, keys in _asked(ids):
            for index, address, record, number, pack in self._db.execute(
                _PLACES, (keys,)
            ).fetchall():
                if record == part[index]:
                    yield Place(record, address, number, pack.hex())

    def find(self, ids: Sequence[bytes]) -> Iterator[Hit]:
        """Give every place of every record."""
        for part, keys in _asked(ids):
            for index, address, row, *rest in self._db.execute(_FIND, (keys,)).fetchall():
                if row[:32] == part[index]:
                    yield _hit(address, row, *rest)

    def similar(self, hooks: Sequence[int]) -> Iterator[tuple[int, Hit]]:
        """Give leaves, each with the number of hooks that it shares at most.

        Those that share most come first, and of these the newest.
        """
        shared: Counter[int] = Counter()
        for hook in set(hooks):
            for (address,) in self._db.execute(_SIMILAR, (first_hook_key(hook),)):
                shared[address] += 1
        for address in sorted(shared, key=lambda address: (-shared[address], -address)):
            hit = self._at(address)
            if hit is not None:
                yield shared[address], hit

    def _at(self, address: int) -> Hit | None:
        found = self._db.execute(_AT, (address,)).fetchone()
        return None if found is None else _hit(address, *found)

    # --- packs ---

    def number(self, pack: str) -> int | None:
        """Give the number of a pack."""
        wanted = (bytes.fromhex(pack),)
        found = self._db.execute("SELECT number FROM packs WHERE id = ?", wanted).fetchone()
        return None if found is None else int(found[0])

    def packs(self, after: int) -> list[tuple[int, PackSummary]]:
        """Give some packs with numbers above ``after``, in order; none: there are no more."""
        rows = self._db.execute(
            "SELECT number, id, kind, epoch, size, entries, stored FROM packs"
            " WHERE number > ? ORDER BY number LIMIT ?",
            (after, _PAGE),
        ).fetchall()
        return [
            (number, PackSummary(_head(identity, kind, epoch), *counts))
            for number, identity, kind, epoch, *counts in rows
        ]

    def entries(self, pack: str) -> list[Entry] | None:
        """Give the directory of a pack; none where it is not here."""
        number = self.number(pack)
        return None if number is None else self.entries_at(number)

    def entries_at(self, number: int) -> list[Entry]:
        """Give the directory of a pack by its number."""
        row = self._db.execute("SELECT kind, span FROM packs WHERE number = ?", (number,))
        return self._entries(number, *row.fetchone())

    def _entries(self, number: int, kind: int, span: int) -> list[Entry]:
        groups = self._db.execute(
            "SELECT data, hooks FROM groups WHERE number >= ? AND number < ? ORDER BY number",
            (number, number + span),
        )
        of = PackKind(kind)
        return [entry for data, hooks in groups for entry in entries_in(of, data, hooks)]

    def totals(self) -> list[tuple[PackKind, int, int, int, int]]:
        """Give packs, entries, bytes and plain bytes of each kind."""
        rows = self._db.execute(
            "SELECT kind, count(*), sum(entries), sum(size), sum(plain) FROM packs GROUP BY kind"
        )
        return [(PackKind(kind), *counts) for kind, *counts in rows]

    @property
    def next(self) -> int:
        """Give the number that no pack has yet, nor any after it."""
        return self._fact("next")

    @property
    def removed(self) -> int:
        """How many packs were ever removed, by any process."""
        return self._fact("removed")

    def _fact(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return int(row[0])

    def _set_fact(self, name: str, value: int) -> None:
        self._db.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))

    # --- marks: temporary tables, so of this connection only ---

    def begin_marking(self) -> None:
        """Make room for marks."""
        self.end_marking()
        self._db.execute("CREATE TEMP TABLE marks (address INTEGER PRIMARY KEY)")
        self._db.execute("CREATE TEMP TABLE strays (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def end_marking(self) -> None:
        """Forget all marks."""
        self._db.execute("DROP TABLE IF EXISTS temp.marks")
        self._db.execute("DROP TABLE IF EXISTS temp.strays")

    def mark(self, addresses: Sequence[int]) -> set[int]:
        """Mark records; give those that were not marked."""
        rows = self._db.execute(
            "INSERT OR IGNORE INTO temp.marks SELECT value FROM json_each(?) RETURNING address",
            (json.dumps(addresses),),
        )
        return {address for (address,) in rows.fetchall()}

    def has_lost_marks(self) -> bool:
        """Tell whether a marked record left with its pack."""
        return self._db.execute(_LOST_MARK).fetchone() is not None

    def mark_stray(self, record: bytes) -> bool:
        """Mark an id that nothing here has; tell whether it was not marked."""
        done = self._db.execute("INSERT OR IGNORE INTO temp.strays VALUES (?)", (record,))
        return done.rowcount == 1

    def strays(self, after: bytes) -> list[bytes]:
        """Give some of the marked ids that nothing here has, in order."""
        rows = self._db.execute(
            "SELECT id FROM temp.strays WHERE id > ? ORDER BY id LIMIT ?", (after, _PAGE)
        )
        return [record for (record,) in rows]

    def marked(self, pack: int) -> list[tuple[int, int]]:
        """Give the places in a pack of its marked records, and their stored lengths."""
        first = pack << GROUP_BITS
        (span,) = self._db.execute("SELECT span FROM packs WHERE number = ?", (pack,)).fetchone()
        rows = self._db.execute(_MARKED, (first, first + (span << GROUP_BITS)))
        return [(address - first, stored_in(row)) for address, row in rows]


def _asked(ids: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], str]]:
    """Give ids in parts, and the first keys of each part as SQLite takes them."""
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        yield part, json.dumps([first_key(record) for record in part])


def _hit(address: int, row: bytes, hooks: bytes | None, pack: bytes, kind: int, epoch: int) -> Hit:
    head = _head(pack, kind, epoch)
    entry = entry_in(head.kind, row, hooks_at(hooks, address & (GROUP - 1)))
    return Hit(Location(head, entry), address)


@lru_cache(maxsize=4096)
def _head(pack: bytes, kind: int, epoch: int) -> PackHead:
    return PackHead(pack.hex(), PackKind(kind), epoch)
