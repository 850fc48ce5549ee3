"""Lists that move while they are read, page by page.

CloudStack has no cursor: a row that goes moves all behind it forward, over the edge of the page
that comes next.  So rows are told apart by their ids, and a list that did not stand still is read
again for what was missed.  What a reader holds is one page, and the ids of all.

One thing cannot be seen: a row that goes and another that comes between the same two pages leave
the count as it was, and a third may have slipped over the edge.  So absence from a list is no
proof: who takes a row for gone asks for it by its id first.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final

from sendense.cloudstack import answers
from sendense.errors import Rejected, Unavailable

_LOG = logging.getLogger(__name__)

ROUNDS: Final = 3
SMALLEST: Final = 10
_PAGES: Final = 100_000

Row = dict[str, Any]
Fetch = Callable[[int, int], Mapping[str, Any]]
"""Gives the answer for a page and a page size."""


class Pages:
    """One list, read to its end once or more."""

    def __init__(self, what: str, fetch: Fetch, *, size: int, key: str | None = None) -> None:
        """Prepare; ``what`` is the command, for the log."""
        self.what = what
        self.size = size
        self.moved = False
        """It did not stand still in any round: rows may be missing."""
        self._fetch = fetch
        self._key = key
        self._seen: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[list[Row]]:
        """Give the rows that were not given before, page by page."""
        for _ in range(ROUNDS):
            whole = yield from self._round()
            if whole:
                return
        self.moved = True
        _LOG.warning(
            "%s changed each of %d times that it was read; what was seen is taken",
            self.what,
            ROUNDS,
        )

    def _round(self) -> Generator[list[Row], None, bool]:
        """Read from the first page to the last; tell whether the list stood still."""
        mine: set[tuple[str, str]] = set()
        first: int | None = None
        twice = False
        page = 1
        while page < _PAGES:
            size = self.size
            answer = self._page(page)
            if answer is None:
                # The pages have another size now, so this one begins elsewhere.
                mine, first, twice, page = set(), None, False, 1
                continue
            found = answers.rows(answer, self._key)
            last = answers.count(answer)
            first = last if page == 1 else first
            names = [_identity(row) for row in found]
            twice = twice or any(name in mine for name in names if name)
            fresh = self._fresh(found, names)
            mine.update(name for name in names if name)
            if fresh:
                yield fresh
            if _ended(found, size, page, last):
                return not twice and _whole(first, last, mine, names)
            page += 1
        return False

    def _page(self, page: int) -> Mapping[str, Any] | None:
        """Ask for a page; none where pages of this size are too large, and are smaller now."""
        try:
            return self._fetch(page, self.size)
        except (Rejected, Unavailable) as error:
            if not too_large(error) or self.size <= SMALLEST:
                raise
            _LOG.info("%s: pages of %d are too large", self.what, self.size)
            self.size = max(SMALLEST, self.size // 2)
            return None

    def _fresh(self, found: list[Row], names: list[tuple[str, str] | None]) -> list[Row]:
        fresh = []
        for row, name in zip(found, names, strict=True):
            if name is None:
                fresh.append(row)
            elif name not in self._seen:
                self._seen.add(name)
                fresh.append(row)
        return fresh


def too_large(error: Rejected | Unavailable) -> bool:
    """Tell whether a smaller page would do."""
    if isinstance(error, Unavailable):
        return bool(error.data.get("too_large"))
    said = error.message.lower().replace(" ", "")
    return error.data.get("cs_code") in (430, 431) and "pagesize" in said


def _identity(row: Row) -> tuple[str, str] | None:
    """Tell rows apart: a template has one id in all its zones."""
    name = answers.text(row, "id", "jobid")
    return (name, sys.intern(answers.text(row, "zoneid"))) if name else None


def _ended(found: list[Row], size: int, page: int, count: int | None) -> bool:
    """Tell the last page: an empty one, or a short one that the count agrees with."""
    if not found:
        return True
    if count is None:
        return len(found) < size
    # Some versions cut rows out of a page that the caller may not see: only the count ends it.
    return page * size >= count


def _whole(
    first: int | None, last: int | None, mine: set[tuple[str, str]], names: list[Any]
) -> bool:
    """Tell whether what was read is all that there was."""
    if first is None or last is None:
        # A page past the end may have no count; without one there is nothing to hold it against.
        return True
    if names and names[0] is None:
        return first == last
    return first == last == len(mine)
