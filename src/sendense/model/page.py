"""Long lists, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Generic, Optional, TypeVar

T = TypeVar("T")

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000


@dataclass(frozen=True)
class Paging:
    """Which part of a list is wanted."""

    limit: int = DEFAULT_LIMIT
    """At most so many, and never more than ``LARGEST_LIMIT``."""
    cursor: Optional[str] = None
    """Where the page before ended; opaque."""


FIRST = Paging()


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list."""

    items: tuple[T, ...]
    next_cursor: Optional[str] = None
    """Of the page after this one; none: there is none."""


def every(fetch: Callable[[Paging], Page[T]]) -> Iterator[T]:
    """Give all items of a list, one page at a time in memory."""
    paging = Paging(limit=LARGEST_LIMIT)
    while True:
        page = fetch(paging)
        yield from page.items
        if page.next_cursor is None:
            return
        paging = Paging(limit=LARGEST_LIMIT, cursor=page.next_cursor)


def next_fitting(
    fetch: Callable[[Paging], Page[T]], paging: Paging, fits: Callable[[T], bool]
) -> Page[T]:
    """Give the next page with what fits of it; one of which nothing is left is passed over.

    For what only we can tell, and no database: a page may have fewer items than there is room for.
    """
    while True:
        page = fetch(paging)
        fitting = tuple(item for item in page.items if fits(item))
        if fitting or page.next_cursor is None:
            return Page(fitting, page.next_cursor)
        paging = Paging(paging.limit, page.next_cursor)
