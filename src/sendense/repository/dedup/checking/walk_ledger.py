"""What a walk over the trees knows of the nodes it has seen: in a file, so memory is bounded.

Of each node the ledger has its level and, as one number, the causes that stand between the
node's subtree and whoever reads it.  There are few different sets of causes, however many
nodes: 0 is none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from sendense.repository.dedup.checking.blame import Cause

Causes = frozenset[Cause]

NOTHING: Causes = frozenset()
_AT_ONCE = 512
_CACHE_KIB = 32 * 1024


class Ledger:
    """The nodes that were seen; used by one thread."""

    def __init__(self) -> None:
        """Begin with none."""
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute(
            "CREATE TABLE nodes (id BLOB PRIMARY KEY, level INTEGER, causes INTEGER) WITHOUT ROWID"
        )
        self._sets: list[Causes] = [NOTHING]
        self._numbers: dict[Causes, int] = {NOTHING: 0}
        self.count = 0
        """How many nodes there are."""

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def enter(self, level: int, rows: Iterable[tuple[bytes, Causes]]) -> None:
        """Enter nodes with what was found of them."""
        values = [(node, level, self._number(causes)) for node, causes in rows]
        done = self._db.executemany("INSERT OR IGNORE INTO nodes VALUES (?, ?, ?)", values)
        self.count += done.rowcount

    def known(self, nodes: Sequence[bytes]) -> dict[bytes, tuple[int, Causes]]:
        """Give level and causes of those that were seen."""
        found = {}
        for part in _parts(nodes):
            marks = ",".join("?" * len(part))
            rows = self._db.execute(
                f"SELECT id, level, causes FROM nodes WHERE id IN ({marks})",  # noqa: S608
                part,
            )
            found.update({node: (level, self._sets[number]) for node, level, number in rows})
        return found

    def _number(self, causes: Causes) -> int:
        number = self._numbers.get(causes)
        if number is None:
            number = self._numbers[causes] = len(self._sets)
            self._sets.append(causes)
        return number


def _parts(nodes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(nodes), _AT_ONCE):
        yield nodes[start : start + _AT_ONCE]
