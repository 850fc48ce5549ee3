"""Whose an instance is, as conditions: what :meth:`TenantScope.covers` says, in SQL.

Both have to say the same of every instance; a property test holds them together.  What the cloud
has no longer stays whose it was last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select

from sendense.catalog.tables import CLOUD_INSTANCES
from sendense.model.access import TenantScope


def in_domain(column: ColumnElement[str], path: str) -> ColumnElement[bool]:
    """Give the condition that a path is a domain or below it."""
    return or_(column == path, _below(column, path))


def _below(column: ColumnElement[str], path: str) -> ColumnElement[bool]:
    # No pattern: names of domains may have the letters of patterns in them, and case matters.
    start = f"{path}/"
    return func.substr(column, 1, len(start)) == start


def owned_by(scope: TenantScope) -> ColumnElement[bool]:
    """Give the condition that an instance of a cloud is in a scope."""
    columns = CLOUD_INSTANCES.c
    here = columns.cloud_id == scope.cloud_id
    if scope.project_id:
        return and_(here, columns.project_id == scope.project_id)
    # By its id where that is known: another domain may have got its name since.
    itself = (
        columns.domain_id == scope.domain_id
        if scope.domain_id
        else columns.domain_path == scope.domain_path
    )
    if scope.account:
        return and_(here, itself, columns.project_id == "", _is_account(scope))
    return and_(here, or_(itself, _is_above(scope)))


def _is_account(scope: TenantScope) -> ColumnElement[bool]:
    columns = CLOUD_INSTANCES.c
    named = columns.account == scope.account
    if not scope.account_id:
        return named
    return or_(columns.account_id == scope.account_id, and_(columns.account_id == "", named))


def _is_above(scope: TenantScope) -> ColumnElement[bool]:
    columns = CLOUD_INSTANCES.c
    if scope.domain_id:
        # Without its id another text; a pattern would not mind the case of letters on SQLite.
        return func.replace(columns.above, f"/{scope.domain_id}/", "") != columns.above
    if scope.domain_path:
        return _below(columns.domain_path, scope.domain_path)
    return false()


def uuids_of(scopes: Sequence[TenantScope]) -> Select[Any]:
    """Give the UUIDs of all instances in any of some scopes."""
    return select(CLOUD_INSTANCES.c.uuid).where(or_(*(owned_by(scope) for scope in scopes)))
