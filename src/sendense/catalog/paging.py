"""Pages of long lists: a cursor is the place in the order of the list where the page before ended.

Pages are ranges of an index, not offsets: page 1,000 costs what page 1 does, and what is added or
removed meanwhile neither repeats nor hides other items.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Row, Select, bindparam, tuple_

from sendense.errors import Rejected
from sendense.model.coding import decode, encode
from sendense.model.page import LARGEST_LIMIT, Page, Paging

T = TypeVar("T")

_LONGEST = 2000


def read_page(
    connection: Connection,
    query: Select[Any],
    order: Sequence[Column[Any]],
    paging: Paging,
    make: Callable[[Row[Any]], T],
    *,
    newest_first: bool = False,
) -> Page[T]:
    """Read one page; the columns of ``order`` are selected, never null, and unique together."""
    limit = max(1, min(paging.limit, LARGEST_LIMIT))
    if paging.cursor is not None:
        place = tuple_(*_values(paging.cursor, order))
        here = tuple_(*order)
        query = query.where(here < place if newest_first else here > place)
    sorting = [column.desc() if newest_first else column.asc() for column in order]
    rows = connection.execute(query.order_by(*sorting).limit(limit + 1)).all()
    items = tuple(make(row) for row in rows[:limit])
    if len(rows) <= limit:
        return Page(items)
    last = rows[limit - 1]._mapping
    return Page(items, _cursor([last[column.name] for column in order]))


def page_of(items: Iterable[T], place: Callable[[T], tuple[str, ...]], paging: Paging) -> Page[T]:
    """Give a page of what is in memory; ``place`` says where an item stands, in ascending order."""
    limit = max(1, min(paging.limit, LARGEST_LIMIT))
    rest = iter(items)
    if paging.cursor is not None:
        behind = _texts(paging.cursor)
        rest = (item for item in rest if place(item) > behind)
    found = tuple(islice(rest, limit + 1))
    if len(found) <= limit:
        return Page(found)
    return Page(found[:limit], _cursor(list(place(found[limit - 1]))))


def _texts(cursor: str) -> tuple[str, ...]:
    found = _read(cursor)
    if not all(isinstance(value, str) for value in found):
        raise _refusal()
    return tuple(found)


def _cursor(values: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(encode(values)).encode()).decode().rstrip("=")


def _values(cursor: str, order: Sequence[Column[Any]]) -> list[Any]:
    """Read a cursor back, as values of the columns that it is compared with."""
    content = _read(cursor)
    if len(content) != len(order):
        raise _refusal()
    try:
        return [
            bindparam(None, decode(_kind(column), value), type_=column.type)
            for column, value in zip(order, content, strict=True)
        ]
    except Rejected:
        raise _refusal() from None


def _read(cursor: str) -> list[Any]:
    if len(cursor) > _LONGEST:
        raise _refusal()
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _refusal() from None
    if not isinstance(content, list):
        raise _refusal()
    return content


def _refusal() -> Rejected:
    return Rejected("the cursor is not one of this list", hint="begin without a cursor")


def _kind(column: Column[Any]) -> type[Any]:
    kind: type[Any] = column.type.python_type
    return kind if kind in (str, int) else datetime
