"""How values of the domain stand in columns: times, enumerations, dataclasses as JSON.

The same on both databases: a time comes back as UTC with its zone, an enumeration as its member, a
dataclass as itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import JSON, DateTime, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from sendense.model.coding import decode, encode


class UtcTime(TypeDecorator[datetime]):
    """A moment.  SQLite keeps it as text that sorts as the moments do."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give what the database keeps."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the moment."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Member(TypeDecorator[Enum]):
    """A member of an enumeration, as its value."""

    impl = String(32)
    cache_ok = True

    def __init__(self, kind: type[Enum]) -> None:
        """Keep the enumeration."""
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Enum | None, dialect: Dialect) -> str | None:
        """Give what the database keeps."""
        return None if value is None else str(self.kind(value).value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Enum | None:
        """Give the member."""
        return None if value is None else self.kind(value)


class Encoded(TypeDecorator[Any]):
    """A value of the domain, as :mod:`sendense.model.coding` writes it."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: Any = Any) -> None:
        """Keep the type to read it as."""
        super().__init__()
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Give PostgreSQL its own kind of JSON."""
        found: TypeEngine[Any] = (
            JSONB(none_as_null=True) if dialect.name == "postgresql" else JSON(none_as_null=True)
        )
        return dialect.type_descriptor(found)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Give what the database keeps."""
        return None if value is None else encode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Give the value."""
        return None if value is None else decode(self.kind, value)
