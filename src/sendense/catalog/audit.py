"""The audit log: who did what, or was kept from doing it.  Entries are added and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import columns_of, equal, value_of
from sendense.catalog.tables import AUDIT
from sendense.model.access import AuditEntry, AuditNote, Outcome
from sendense.model.page import FIRST, Page, Paging

_LONGEST = 255


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are wanted; what is none does not count."""

    who: str | None = None
    action: str | None = None
    subject: str | None = None
    outcome: Outcome | None = None
    after: datetime | None = None
    before: datetime | None = None


ALL = AuditFilter()


class Audit:
    """The audit log."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def add(self, note: AuditNote, at: datetime) -> None:
        """Add an entry."""
        row = {
            "at": at,
            # Some of it is what a stranger sent.
            "who": _cut(note.who),
            "origin": _cut(note.origin),
            "action": _cut(note.action),
            "subject": _cut(note.subject),
            "outcome": note.outcome,
            "detail": dict(note.detail),
        }
        with self._database.write() as connection:
            connection.execute(insert(AUDIT), row)

    def page(self, paging: Paging = FIRST, wanted: AuditFilter = ALL) -> Page[AuditEntry]:
        """List entries, newest first."""
        columns = AUDIT.c
        filters = {
            columns.who: wanted.who,
            columns.action: wanted.action,
            columns.subject: wanted.subject,
            columns.outcome: wanted.outcome,
        }
        query = select(*columns_of(AuditEntry, AUDIT)).where(*equal(filters))
        if wanted.after is not None:
            query = query.where(columns.at >= wanted.after)
        if wanted.before is not None:
            query = query.where(columns.at < wanted.before)
        with self._database.read() as connection:
            return read_page(
                connection, query, (columns.id,), paging,
                lambda row: value_of(AuditEntry, row), newest_first=True,
            )  # fmt: skip

    def forget(self, before: datetime) -> int:
        """Forget entries older than a moment; gives how many."""
        with self._database.write() as connection:
            return connection.execute(delete(AUDIT).where(AUDIT.c.at < before)).rowcount


def _cut(text: str) -> str:
    return text.replace("\x00", "?")[:_LONGEST]
