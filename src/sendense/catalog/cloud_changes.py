"""The history of a cloud: what appeared there, changed and went.

A row says what a person would want to know of the change, before and after, and never a secret.
What moves with each look, such as the bytes that a pool has in use, makes no history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import columns_of, equal, value_of
from sendense.catalog.tables import CLOUD_CHANGES
from sendense.model.cloud import CloudChange
from sendense.model.page import FIRST, Page, Paging

INSTANCE = "instance"
APPEARED, CHANGED, GONE = "appeared", "changed", "gone"
_VOLATILE = frozenset({"used", "last_host_id", "host_id", "has_snapshots"})
"""Fields that make no history: counters, and ids of what has a name beside it."""
_LONGEST = 2000

Fields = dict[str, tuple[str, str]]
"""Before and after, by the name of a field."""


class CloudChanges:
    """All of the history of all clouds."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def page(
        self, paging: Paging = FIRST, *, cloud_id: str | None = None, kind: str | None = None,
        object_id: str | None = None, what: str | None = None,
    ) -> Page[CloudChange]:  # fmt: skip
        """List them, newest first."""
        columns = CLOUD_CHANGES.c
        wanted = {
            columns.cloud_id: cloud_id,
            columns.kind: kind,
            columns.object_id: object_id,
            columns.what: what,
        }
        query = select(*columns_of(CloudChange, CLOUD_CHANGES)).where(*equal(wanted))
        with self._database.read() as connection:
            return read_page(
                connection, query, (columns.id,), paging,
                lambda row: value_of(CloudChange, row), newest_first=True,
            )  # fmt: skip

    def forget(self, before: datetime) -> int:
        """Forget what is older than a moment; gives how many."""
        with self._database.write() as connection:
            old = CLOUD_CHANGES.c.at < before
            return connection.execute(delete(CLOUD_CHANGES).where(old)).rowcount


def note_changes(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of :class:`Look`."""
    if rows:
        connection.execute(insert(CLOUD_CHANGES), list(rows))


@dataclass(frozen=True)
class Look:
    """A look at things of one kind in a cloud, whose findings are rows of the history."""

    cloud_id: str
    kind: str
    at: datetime

    def row(
        self, object_id: str, name: str, what: str, fields: Fields | None = None
    ) -> dict[str, Any]:
        """Give what was found of one thing."""
        return {
            "cloud_id": self.cloud_id,
            "at": self.at,
            "kind": self.kind,
            "object_id": object_id,
            "name": name,
            "what": what,
            "fields": fields or {},
        }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Fields:
    """Compare two encoded values, save for what is volatile in them."""
    found = {}
    for name in sorted({*before, *after} - _VOLATILE):
        tell = _pairs if name == "tags" else _text
        was, now = tell(before.get(name)), tell(after.get(name))
        if was != now:
            found[name] = (was[:_LONGEST], now[:_LONGEST])
    return found


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Write a value for people; lists of objects by what names these."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        told = (value[name] for name in _TELLING if value.get(name))
        return " ".join(_text(item) for item in told)
    return value if isinstance(value, str) else json.dumps(value)


def _pairs(value: Mapping[str, str] | None) -> str:
    return ", ".join(f"{name}={item}" for name, item in sorted((value or {}).items()))


_TELLING = ("name", "network", "ip", "mac", "size", "state", "pool", "domain", "account", "project")
"""What names a volume, a card or an owner for a person."""
