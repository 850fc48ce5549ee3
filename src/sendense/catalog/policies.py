"""Policies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import (
    columns_of,
    containing,
    equal,
    given,
    read_one,
    require_row,
    row_of,
    value_of,
)
from sendense.catalog.tables import POLICIES
from sendense.model.page import FIRST, Page, Paging
from sendense.model.policy import Policy, PolicyRules


class Policies:
    """All policies."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def add(self, policy: Policy) -> None:
        """Remember a new one; its name is its own."""
        row = row_of(policy, POLICIES) | {"repository_id": policy.rules.repository_id}
        with self._database.write(taken=f"policy named {policy.name}") as connection:
            connection.execute(insert(POLICIES), row)

    def get(self, policy_id: str) -> Policy:
        """Give one."""
        with self._database.read() as connection:
            where = POLICIES.c.id == policy_id
            return read_one(connection, Policy, POLICIES, where, what=f"policy {policy_id}")

    def named(self, name: str) -> Policy:
        """Give the one of a name."""
        with self._database.read() as connection:
            where = POLICIES.c.name == name
            return read_one(connection, Policy, POLICIES, where, what=f"policy named {name}")

    def page(
        self, paging: Paging = FIRST, *, search: str | None = None,
        enabled: bool | None = None, repository_id: str | None = None,
    ) -> Page[Policy]:  # fmt: skip
        """List them by name."""
        query = _select().where(*containing(POLICIES.c.name, search))
        filters = {POLICIES.c.enabled: enabled, POLICIES.c.repository_id: repository_id}
        with self._database.read() as connection:
            order = (POLICIES.c.name, POLICIES.c.id)
            query = query.where(*equal(filters))
            return read_page(connection, query, order, paging, lambda row: value_of(Policy, row))

    def enabled(self) -> tuple[Policy, ...]:
        """Give all that are on, by name."""
        query = _select().where(POLICIES.c.enabled).order_by(POLICIES.c.name)
        with self._database.read() as connection:
            return tuple(value_of(Policy, row) for row in connection.execute(query))

    def edit(
        self, policy_id: str, at: datetime, *, name: str | None = None,
        enabled: bool | None = None, rules: PolicyRules | None = None,
    ) -> Policy:  # fmt: skip
        """Change what is given."""
        changes = given(name=name, enabled=enabled, rules=rules, updated_at=at)
        if rules is not None:
            changes["repository_id"] = rules.repository_id
        with self._database.write(taken=f"policy named {name}") as connection:
            connection.execute(update(POLICIES).where(POLICIES.c.id == policy_id).values(changes))
            where = POLICIES.c.id == policy_id
            return read_one(connection, Policy, POLICIES, where, what=f"policy {policy_id}")

    def remove(self, policy_id: str) -> None:
        """Forget one; what it made stays."""
        with self._database.write() as connection:
            found = connection.execute(delete(POLICIES).where(POLICIES.c.id == policy_id))
            require_row(found.rowcount, f"policy {policy_id}")


def _select() -> Select[Any]:
    return select(*columns_of(Policy, POLICIES))
