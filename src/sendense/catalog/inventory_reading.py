"""Looking at what clouds have, one by one and in pages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select

from sendense.catalog.cloud_rows import open_secrets, tag_pattern
from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import containing, equal, granted
from sendense.catalog.sealing import MasterKeys
from sendense.catalog.tables import CLOUD_INSTANCES, CLOUD_OBJECTS, INSTANCES
from sendense.catalog.tenancy import in_domain
from sendense.errors import NotFound
from sendense.model.access import Grant
from sendense.model.cloud import KINDS, CloudInstance, CloudKind, CloudObject, InstanceSecrets
from sendense.model.coding import decode
from sendense.model.page import FIRST, Page, Paging


@dataclass(frozen=True)
class InstanceEntry:
    """One instance of a cloud, and since when it is known."""

    instance: CloudInstance
    cloud_id: str
    first_seen: datetime
    seen_at: datetime
    gone_at: datetime | None = None
    """Since when the cloud has it no longer."""


@dataclass(frozen=True)
class ObjectEntry:
    """One object of a cloud, and since when it is known."""

    kind: CloudKind
    value: CloudObject
    cloud_id: str
    first_seen: datetime
    seen_at: datetime
    gone_at: datetime | None = None


@dataclass(frozen=True)
class CloudInstanceFilter:
    """Which instances are wanted; what is none does not count."""

    grant: Grant | None = None
    cloud_id: str | None = None
    search: str | None = None
    """A part of any of its names, or its UUID."""
    state: str | None = None
    zone: str | None = None
    """Name or id."""
    domain: str | None = None
    """A path, with all below it, or an id."""
    account: str | None = None
    project: str | None = None
    """Name or id."""
    tag: str | None = None
    """``key`` or ``key=value``."""
    offering: str | None = None
    """Its name."""
    host_id: str | None = None
    """CloudStack's."""
    gone: bool | None = None


ALL = CloudInstanceFilter()


class InventoryReading:
    """All that clouds have, and had."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        """Use a database."""
        self._database = database
        self._keys = keys

    def instance(self, uuid: str, grant: Grant | None = None) -> InstanceEntry:
        """Give one instance; with a grant only one that it covers."""
        where = [CLOUD_INSTANCES.c.uuid == uuid, *self._granted(grant)]
        with self._database.read() as connection:
            row = connection.execute(_instances().where(*where)).first()
        if row is None:
            raise NotFound(f"there is no instance {uuid} in any cloud")
        return _instance_entry(row)

    def has_owner(self, cloud_id: str, instance: CloudInstance) -> bool:
        """Tell whether an instance is known, and as the same owner's."""
        columns, owner = CLOUD_INSTANCES.c, instance.owner
        query = select(columns.uuid).where(
            columns.uuid == instance.id, columns.cloud_id == cloud_id,
            columns.domain_id == owner.domain_id, columns.account == owner.account,
            columns.project_id == owner.project_id,
        )  # fmt: skip
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def secrets(self, uuid: str) -> InstanceSecrets:
        """Give what may hold passwords of an instance."""
        query = select(CLOUD_INSTANCES.c.secrets).where(CLOUD_INSTANCES.c.uuid == uuid)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"there is no instance {uuid} in any cloud")
        return open_secrets(self._keys, uuid, row.secrets)

    def page(
        self, paging: Paging = FIRST, wanted: CloudInstanceFilter = ALL
    ) -> Page[InstanceEntry]:
        """List instances by name."""
        query = _instances().where(*self._conditions(wanted))
        order = (CLOUD_INSTANCES.c.name, CLOUD_INSTANCES.c.uuid)
        with self._database.read() as connection:
            return read_page(connection, query, order, paging, _instance_entry)

    def object(self, cloud_id: str, kind: CloudKind, object_id: str) -> ObjectEntry:
        """Give one object; of one that is in several zones any, one that is there before others."""
        columns = CLOUD_OBJECTS.c
        query = _objects(cloud_id, kind).where(columns.id == object_id)
        order = (columns.gone_at.is_not(None), columns.zone_id)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(*order)).first()
        if row is None:
            raise NotFound(f"there is no {kind.value} {object_id} in this cloud")
        return _object_entry(row)

    def objects(
        self, cloud_id: str, kind: CloudKind, paging: Paging = FIRST, *,
        search: str | None = None, zone_id: str | None = None, gone: bool | None = None,
    ) -> Page[ObjectEntry]:  # fmt: skip
        """List objects of a kind by name."""
        columns = CLOUD_OBJECTS.c
        query = _objects(cloud_id, kind).where(*containing(columns.name, search))
        query = query.where(*equal({columns.zone_id: zone_id}), *_gone(columns.gone_at, gone))
        order = (columns.name, columns.id, columns.zone_id)
        with self._database.read() as connection:
            return read_page(connection, query, order, paging, _object_entry)

    def present(self, cloud_id: str, kind: CloudKind) -> tuple[CloudObject, ...]:
        """Give all objects of a kind that the cloud has now, by name."""
        columns = CLOUD_OBJECTS.c
        query = _objects(cloud_id, kind).where(columns.gone_at.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(columns.name, columns.id, columns.zone_id))
            return tuple(_object_entry(row).value for row in rows)

    def absent(self, cloud_id: str, kind: CloudKind) -> tuple[CloudObject, ...]:
        """Give all objects of a kind that the cloud had once, and has no longer."""
        columns = CLOUD_OBJECTS.c
        query = _objects(cloud_id, kind).where(columns.gone_at.is_not(None))
        with self._database.read() as connection:
            return tuple(_object_entry(row).value for row in connection.execute(query))

    def count(self, cloud_id: str) -> int:
        """Count the instances that a cloud has now."""
        columns = CLOUD_INSTANCES.c
        query = select(func.count()).where(columns.cloud_id == cloud_id, columns.gone_at.is_(None))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def has_projects(self, cloud_id: str) -> bool:
        """Tell whether instances of a cloud are owned by projects."""
        columns = CLOUD_INSTANCES.c
        theirs = (columns.cloud_id == cloud_id) & columns.gone_at.is_(None)
        query = select(columns.uuid).where(theirs, columns.project_id != "").limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def states(self, uuids: Collection[str]) -> dict[str, str]:
        """Give the states that instances were seen in last."""
        columns = CLOUD_INSTANCES.c
        query = select(columns.uuid, columns.state).where(columns.uuid.in_(list(uuids)))
        with self._database.read() as connection:
            return {row.uuid: row.state for row in connection.execute(query)}

    def _conditions(self, wanted: CloudInstanceFilter) -> list[ColumnElement[bool]]:
        columns = CLOUD_INSTANCES.c
        conditions = equal(
            {
                columns.cloud_id: wanted.cloud_id,
                columns.state: wanted.state,
                columns.account: wanted.account,
                columns.offering: wanted.offering,
                columns.host_id: wanted.host_id,
            }
        )
        if wanted.search:
            names = (columns.name, columns.display_name, columns.domain_name)
            parts = [part for name in names for part in containing(name, wanted.search)]
            conditions.append(or_(*parts, columns.uuid == wanted.search))
        if wanted.zone is not None:
            conditions.append(or_(columns.zone == wanted.zone, columns.zone_id == wanted.zone))
        if wanted.project is not None:
            project = wanted.project
            conditions.append(or_(columns.project == project, columns.project_id == project))
        if wanted.domain is not None:
            below = in_domain(columns.domain_path, wanted.domain)
            conditions.append(or_(below, columns.domain_id == wanted.domain))
        if wanted.tag:
            conditions.append(self._database.fits(columns.tags, tag_pattern(wanted.tag)))
        return [*conditions, *_gone(columns.gone_at, wanted.gone), *self._granted(wanted.grant)]

    def _granted(self, grant: Grant | None) -> list[ColumnElement[bool]]:
        if grant is None:
            return []
        # By the names there: those in the cloud are chosen by whoever owns an instance.
        covered = granted(self._database, grant, INSTANCES.c.uuid, INSTANCES.c.name)
        return [CLOUD_INSTANCES.c.uuid.in_(select(INSTANCES.c.uuid).where(*covered))]


def _gone(column: ColumnElement[Any], gone: bool | None) -> list[ColumnElement[bool]]:
    return [] if gone is None else [column.is_not(None) if gone else column.is_(None)]


def _instances() -> Any:  # noqa: ANN401 - a Select of many columns
    columns = CLOUD_INSTANCES.c
    return select(
        columns.uuid, columns.name, columns.value, columns.cloud_id, columns.first_seen,
        columns.seen_at, columns.gone_at,
    )  # fmt: skip


def _objects(cloud_id: str, kind: CloudKind) -> Any:  # noqa: ANN401 - a Select of many columns
    columns = CLOUD_OBJECTS.c
    return select(*columns).where(columns.cloud_id == cloud_id, columns.kind == kind)


def _instance_entry(row: Row[Any]) -> InstanceEntry:
    return InstanceEntry(row.value, row.cloud_id, row.first_seen, row.seen_at, row.gone_at)


def _object_entry(row: Row[Any]) -> ObjectEntry:
    value: CloudObject = decode(KINDS[row.kind], row.value)
    return ObjectEntry(row.kind, value, row.cloud_id, row.first_seen, row.seen_at, row.gone_at)
