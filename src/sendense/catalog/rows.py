"""Rows as values: what all kinds of entries have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Row, Table, func, or_, select

from sendense.catalog.database import Database
from sendense.catalog.tenancy import uuids_of
from sendense.errors import NotFound
from sendense.model.access import Grant

T = TypeVar("T")


def columns_of(kind: type[Any], table: Table) -> list[Column[Any]]:
    """Give the columns that a dataclass has a field for: not its secrets."""
    return [table.c[field.name] for field in fields(kind) if field.name in table.c]


def value_of(kind: type[T], row: Row[Any]) -> T:
    """Give the value that a row of :func:`columns_of` holds."""
    return kind(**row._mapping)


def row_of(value: Any, table: Table) -> dict[str, Any]:  # noqa: ANN401 - any dataclass of the model
    """Give a value as a row of its table."""
    return {
        field.name: getattr(value, field.name) for field in fields(value) if field.name in table.c
    }


def given(**changes: Any) -> dict[str, Any]:
    """Leave out what is not to be changed."""
    return {name: value for name, value in changes.items() if value is not None}


def read_one(
    connection: Connection, kind: type[T], table: Table, *where: ColumnElement[bool], what: str
) -> T:
    """Read one value; :class:`~sendense.errors.NotFound` where there is none."""
    row = connection.execute(select(*columns_of(kind, table)).where(*where)).first()
    if row is None:
        raise NotFound(f"there is no {what}")
    return value_of(kind, row)


def require_row(count: int, what: str) -> None:
    """Raise :class:`~sendense.errors.NotFound` if a change found no row."""
    if count == 0:
        raise NotFound(f"there is no {what}")


def equal(filters: Mapping[Column[Any], Any]) -> list[ColumnElement[bool]]:
    """Give the conditions for those filters that are set."""
    return [column == value for column, value in filters.items() if value is not None]


def containing(column: Column[Any], part: str | None) -> list[ColumnElement[bool]]:
    """Give the condition that a name has a part, in letters of any case."""
    if not part:
        return []
    return [func.lower(column).contains(part.lower(), autoescape=True)]


def granted(
    database: Database, grant: Grant | None, uuid: Column[Any], name: Column[Any]
) -> list[ColumnElement[bool]]:
    """Give the condition that a grant covers an instance; none where there is no grant."""
    if grant is None:
        return []
    fitting = [database.fits(name, pattern) for pattern in grant.names]
    if grant.tenants:
        fitting.append(uuid.in_(uuids_of(grant.tenants)))
    return [or_(uuid.in_(grant.instances), *fitting)]
