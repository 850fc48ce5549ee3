"""Tenants, and what they store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.owner_ids import owner_ids
from sendense.catalog.paging import read_page
from sendense.catalog.rows import containing, equal, given, require_row
from sendense.catalog.tables import POINTS, TENANTS
from sendense.catalog.tenancy import uuids_of
from sendense.errors import NotFound
from sendense.model.access import Grant, TenantScope
from sendense.model.cloud import CloudFacts, Owner
from sendense.model.page import FIRST, Page, Paging
from sendense.model.tenant import Tenant, Usage, closest


class Tenants:
    """All tenants of all clouds."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def add(self, tenant: Tenant) -> None:
        """Remember a new one; its name is its own."""
        with self._database.write(taken=f"tenant named {tenant.name}") as connection:
            connection.execute(insert(TENANTS), _row_of(tenant))

    def add_all(self, tenants: Sequence[Tenant]) -> None:
        """Remember several, or none of them."""
        if tenants:
            with self._database.write(taken="one of these tenants") as connection:
                connection.execute(insert(TENANTS), [_row_of(tenant) for tenant in tenants])

    def get(self, tenant_id: str) -> Tenant:
        """Give one."""
        with self._database.read() as connection:
            row = connection.execute(_select().where(TENANTS.c.id == tenant_id)).first()
        if row is None:
            raise NotFound(f"there is no tenant {tenant_id}")
        return _tenant(row)

    def named(self, name: str) -> Tenant:
        """Give the one of a name."""
        with self._database.read() as connection:
            row = connection.execute(_select().where(TENANTS.c.name == name)).first()
        if row is None:
            raise NotFound(f"there is no tenant named {name}")
        return _tenant(row)

    def page(
        self, paging: Paging = FIRST, *, search: str | None = None, cloud_id: str | None = None,
        repository_id: str | None = None,
    ) -> Page[Tenant]:  # fmt: skip
        """List them by name."""
        query = _select().where(*containing(TENANTS.c.name, search))
        wanted = {TENANTS.c.cloud_id: cloud_id, TENANTS.c.repository_id: repository_id}
        order = (TENANTS.c.name, TENANTS.c.id)
        with self._database.read() as connection:
            return read_page(connection, query.where(*equal(wanted)), order, paging, _tenant)

    def every(self, cloud_id: str | None = None) -> tuple[Tenant, ...]:
        """Give all of them, or all of a cloud, by name."""
        query = _select().where(*equal({TENANTS.c.cloud_id: cloud_id})).order_by(TENANTS.c.name)
        with self._database.read() as connection:
            return tuple(_tenant(row) for row in connection.execute(query))

    def edit(
        self, tenant_id: str, *, name: str | None = None, scope: TenantScope | None = None,
        repository_id: str | None = None, quota_bytes: int | None = None,
    ) -> Tenant:  # fmt: skip
        """Change what is given; an empty repository and a quota below 0 take these away."""
        changes: dict[str, Any] = given(name=name) | (vars(scope) if scope is not None else {})
        if repository_id is not None:
            changes["repository_id"] = repository_id or None
        if quota_bytes is not None:
            changes["quota_bytes"] = quota_bytes if quota_bytes >= 0 else None
        if changes:
            with self._database.write(taken=f"tenant named {name}") as connection:
                where = TENANTS.c.id == tenant_id
                connection.execute(update(TENANTS).where(where).values(changes))
        return self.get(tenant_id)

    def remove(self, tenant_id: str) -> None:
        """Forget one; its instances and points stay."""
        with self._database.write() as connection:
            found = connection.execute(delete(TENANTS).where(TENANTS.c.id == tenant_id))
            require_row(found.rowcount, f"tenant {tenant_id}")

    def of(self, owner: Owner, cloud_id: str) -> Tenant | None:
        """Give the tenant that is closest to an owner: its project or account, else its domain."""
        with self._database.read() as connection:
            ids = owner_ids(connection, cloud_id, [owner])
        facts = CloudFacts(
            cloud_id=cloud_id, cloud="", name="", domain=owner.domain, account=owner.account,
            project=owner.project, domain_id=owner.domain_id, project_id=owner.project_id,
            account_id=ids.account_id(owner), above=ids.above(owner.domain_id),
        )  # fmt: skip
        return closest(self.every(cloud_id), facts)

    def own(self, grant: Grant) -> tuple[Usage, ...]:
        """Give those that a grant is for, with what they store; not those above or below them."""
        clouds = sorted({scope.cloud_id for scope in grant.tenants})
        theirs = [
            tenant
            for cloud_id in clouds
            for tenant in self.every(cloud_id)
            if any(tenant.scope.same_owner(scope) for scope in grant.tenants)
        ]
        return tuple(Usage(tenant, self.stored_bytes(tenant)) for tenant in theirs)

    def usages(self, cloud: CloudFacts) -> tuple[Usage, ...]:
        """Give what those tenants of an instance store that have a quota: account and domain."""
        theirs = [
            tenant
            for tenant in self.every(cloud.cloud_id)
            if tenant.quota_bytes is not None and tenant.scope.covers(cloud)
        ]
        return tuple(Usage(tenant, self.stored_bytes(tenant)) for tenant in theirs)

    def stored_bytes(self, tenant: Tenant) -> int:
        """Sum what the points of all of its instances store, in all repositories.

        Also those of instances that the cloud has no longer.
        """
        theirs = POINTS.c.machine_uuid.in_(uuids_of((tenant.scope,)))
        query = select(func.coalesce(func.sum(POINTS.c.stored_bytes), 0)).where(theirs)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def those_with_repository(connection: Connection) -> tuple[Tenant, ...]:
    """Give those whose points go to a repository of their own."""
    query = _select().where(TENANTS.c.repository_id.is_not(None))
    return tuple(_tenant(row) for row in connection.execute(query))


def _row_of(tenant: Tenant) -> dict[str, Any]:
    row = {"id": tenant.id, "name": tenant.name, "repository_id": tenant.repository_id}
    return {**row, "quota_bytes": tenant.quota_bytes, **vars(tenant.scope)}


def _select() -> Select[Any]:
    return select(*TENANTS.c)


def _tenant(row: Row[Any]) -> Tenant:
    scope = TenantScope(
        row.cloud_id, row.domain_path, row.domain_id, row.account, row.project_id, row.account_id
    )  # fmt: skip
    return Tenant(row.id, row.name, scope, row.repository_id, row.quota_bytes)
