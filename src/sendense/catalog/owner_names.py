"""Names of owners, as their cloud has them now, for what is known by ids.

Whose something is, is told by ids; a path and a name beside them are what people read, and what
those scopes go by that have no id.  So a path that another domain has now is nobody else's here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select, type_coerce, update

from sendense.catalog.columns import Encoded
from sendense.catalog.database import Database
from sendense.catalog.tables import CLOUD_INSTANCES, CLOUD_OBJECTS, TENANTS, USERS
from sendense.model.access import Grant, Role, TenantScope
from sendense.model.cloud import KINDS, CloudAccount, CloudDomain, CloudKind, CloudObject
from sendense.model.coding import decode


@dataclass(frozen=True)
class _Names:
    """What a cloud has now, by ids."""

    cloud_id: str
    paths: Mapping[str, str]
    accounts: Mapping[str, str]

    def of(self, scope: TenantScope) -> TenantScope:
        if scope.cloud_id != self.cloud_id:
            return scope
        return replace(
            scope,
            domain_path=self.paths.get(scope.domain_id, scope.domain_path),
            account=self.accounts.get(scope.account_id, scope.account),
        )


def refresh_names(database: Database, cloud_id: str) -> None:
    """Write the names that changed: of tenants, in grants, and of what the cloud has no longer."""
    with database.read() as connection:
        names = _names(connection, cloud_id)
    # One after the other: no other transaction locks all of these at once.
    with database.write() as connection:
        database.alone(connection, CLOUD_INSTANCES)
        _instances(connection, names)
    with database.write() as connection:
        _tenants(connection, names)
    with database.write() as connection:
        database.alone(connection, USERS)
        _users(connection, names)


def _names(connection: Connection, cloud_id: str) -> _Names:
    domains = _present(connection, cloud_id, CloudKind.DOMAIN)
    accounts = _present(connection, cloud_id, CloudKind.ACCOUNT)
    return _Names(
        cloud_id,
        {each.id: each.path for each in domains if isinstance(each, CloudDomain)},
        {each.id: each.name for each in accounts if isinstance(each, CloudAccount)},
    )


def _instances(connection: Connection, names: _Names) -> None:
    columns = CLOUD_INSTANCES.c
    here = columns.cloud_id == names.cloud_id
    query = select(columns.domain_id, columns.domain_path).where(here).distinct()
    for row in connection.execute(query).all():
        path = names.paths.get(row.domain_id, row.domain_path)
        if path != row.domain_path:
            where = here & (columns.domain_id == row.domain_id)
            connection.execute(update(CLOUD_INSTANCES).where(where).values(domain_path=path))


def _tenants(connection: Connection, names: _Names) -> None:
    columns = TENANTS.c
    kept = [columns[name] for name in TenantScope.__dataclass_fields__]
    query = select(columns.id, *kept).where(columns.cloud_id == names.cloud_id)
    for row in connection.execute(query).all():
        scope = TenantScope(**{column.name: row._mapping[column.name] for column in kept})
        if (now := names.of(scope)) != scope:
            where = columns.id == row.id
            connection.execute(update(TENANTS).where(where).values(vars(now)))


def _users(connection: Connection, names: _Names) -> None:
    query = select(USERS.c.name, USERS.c.grant).where(USERS.c.role == Role.TENANT)
    for row in connection.execute(query).all():
        grant: Grant = row.grant
        now = replace(grant, tenants=tuple(names.of(scope) for scope in grant.tenants))
        if now != grant:
            where = USERS.c.name == row.name
            connection.execute(update(USERS).where(where).values(grant=now))


def _present(connection: Connection, cloud_id: str, kind: CloudKind) -> list[CloudObject]:
    columns = CLOUD_OBJECTS.c
    query = select(type_coerce(columns.value, Encoded()).label("value")).where(
        columns.cloud_id == cloud_id, columns.kind == kind, columns.gone_at.is_(None)
    )
    return [decode(KINDS[kind], row.value) for row in connection.execute(query)]
