"""What clouds have: instances, and the zones, hosts, pools, networks and the like around them.

A look at a cloud comes in pages; each is one transaction.  Only what changed is written, the rest
is marked as seen.  After a whole look a sweep marks what was not seen in it as gone: nothing is
ever deleted, because the points of an instance outlive it, and so does the question whose it was.
Servers have clocks of their own, so the moment at which something was seen last is never set back.

An instance belongs to one cloud at a time.  One that two clouds show stays with the one that had it
first, and the look at the other says so; it moves as soon as the first has it no longer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    func,
    literal,
    select,
    tuple_,
    type_coerce,
    update,
)

from sendense.catalog.cloud_changes import (
    APPEARED,
    CHANGED,
    GONE,
    INSTANCE,
    Fields,
    Look,
    differences,
    note_changes,
)
from sendense.catalog.cloud_rows import (
    digest_of,
    instance_row,
    object_row,
    same_secrets,
    seal_secrets,
    zone_of,
)
from sendense.catalog.cloud_seen import gone_from_cloud, see_cloud
from sendense.catalog.columns import Encoded
from sendense.catalog.database import Database, later
from sendense.catalog.inventory_reading import InventoryReading
from sendense.catalog.owner_ids import OwnerIds, owner_ids
from sendense.catalog.owner_names import refresh_names
from sendense.catalog.sealing import MasterKeys
from sendense.catalog.tables import CLOUD_INSTANCES, CLOUD_OBJECTS, INSTANCES
from sendense.model.cloud import CloudInstance, CloudKind, CloudObject, InstanceSecrets, Owner
from sendense.model.coding import encode

_BATCH = 500
_SEEN = ("seen_at",)


@dataclass(frozen=True)
class Taken:
    """What a page of a look brought."""

    new: tuple[str, ...] = ()
    """Ids of what was not there before, or was gone."""
    changed: tuple[str, ...] = ()
    """Ids of what has a new row in the history."""
    elsewhere: tuple[str, ...] = ()
    """Ids of instances that another cloud has, and that were left with it."""


@dataclass(frozen=True)
class _Page:
    """What is to be written of a page."""

    rows: Sequence[dict[str, Any]]
    """Of what is new or another than it was."""
    taken: Taken
    changes: Sequence[dict[str, Any]]


class Inventory(InventoryReading):
    """All that clouds have, and had."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        """Use a database."""
        super().__init__(database, keys)
        self._database = database
        self._keys = keys

    def take_instances(
        self,
        cloud_id: str,
        found: Sequence[tuple[CloudInstance, InstanceSecrets]],
        at: datetime,
    ) -> Taken:
        """Take over a page of a cloud's instances, also among those that hosts show."""
        here = {instance.id: (instance, secrets) for instance, secrets in found}
        if not here:
            return Taken()
        columns = CLOUD_INSTANCES.c
        with self._database.write() as connection:
            self._database.alone(connection, CLOUD_INSTANCES)
            query = select(
                columns.uuid, columns.cloud_id, columns.digest, columns.secrets,
                columns.first_seen, columns.gone_at, columns.domain_id, columns.account,
                columns.account_id, columns.above,
            ).where(columns.uuid.in_(list(here)))  # fmt: skip
            known = {row.uuid: row for row in connection.execute(query)}
            page = self._page(connection, cloud_id, here, known, at)
            if page.rows:
                upsert = self._database.upsert(CLOUD_INSTANCES, ("uuid",), keep_later=_SEEN)
                connection.execute(upsert, page.rows)
            same = here.keys() - {row["uuid"] for row in page.rows} - {*page.taken.elsewhere}
            touched = update(CLOUD_INSTANCES).where(columns.uuid.in_(sorted(same)))
            connection.execute(touched.values(seen_at=_not_before(columns.seen_at, at)))
            note_changes(connection, page.changes)
            ours = [each for uuid, (each, _) in here.items() if uuid not in page.taken.elsewhere]
            written = {row["uuid"] for row in page.rows}
            see_cloud(self._database, connection, ours, written, at)
        return page.taken

    def take(
        self, cloud_id: str, kind: CloudKind, found: Sequence[CloudObject], at: datetime
    ) -> Taken:
        """Take over a page of objects of one kind."""
        here = {(value.id, zone_of(value)): value for value in found}
        if not here:
            return Taken()
        columns = CLOUD_OBJECTS.c
        with self._database.write() as connection:
            self._database.alone(connection, CLOUD_OBJECTS)
            theirs = (columns.cloud_id == cloud_id) & (columns.kind == kind)
            wanted = tuple_(columns.id, columns.zone_id).in_(list(here))
            query = select(
                columns.id, columns.zone_id, columns.digest, columns.first_seen, columns.gone_at,
                type_coerce(columns.value, Encoded()).label("value"),
            ).where(theirs, wanted)  # fmt: skip
            known = {(row.id, row.zone_id): row for row in connection.execute(query)}
            page = _objects_page(cloud_id, kind, here, known, at)
            if page.rows:
                keys = ("cloud_id", "kind", "id", "zone_id")
                upsert = self._database.upsert(CLOUD_OBJECTS, keys, keep_later=_SEEN)
                connection.execute(upsert, page.rows)
            same = here.keys() - {(row["id"], row["zone_id"]) for row in page.rows}
            if same:
                those = tuple_(columns.id, columns.zone_id).in_(sorted(same))
                touched = update(CLOUD_OBJECTS).where(theirs, those)
                connection.execute(touched.values(seen_at=_not_before(columns.seen_at, at)))
            note_changes(connection, page.changes)
        return page.taken

    def refresh_owners(self, cloud_id: str) -> None:
        """Have tenants, grants and what is gone call domains and accounts as the cloud does now."""
        refresh_names(self._database, cloud_id)

    def unseen(self, cloud_id: str, before: datetime) -> tuple[str, ...]:
        """Give the instances that a look that began at ``before`` did not see."""
        columns = CLOUD_INSTANCES.c
        there = (columns.cloud_id == cloud_id) & columns.gone_at.is_(None)
        query = select(columns.uuid).where(there, columns.seen_at < before).order_by(columns.uuid)
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def unseen_objects(self, cloud_id: str, kind: CloudKind, before: datetime) -> int:
        """Count the objects of a kind that a look that began at ``before`` did not see."""
        columns = CLOUD_OBJECTS.c
        theirs = (columns.cloud_id == cloud_id) & (columns.kind == kind)
        query = select(func.count()).where(
            theirs, columns.gone_at.is_(None), columns.seen_at < before
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def sweep(
        self,
        cloud_id: str,
        kind: CloudKind | None,
        before: datetime,
        at: datetime,
        *,
        only: Collection[str] | None = None,
    ) -> tuple[str, ...]:
        """Mark as gone what a look that began at ``before`` did not see; gives the ids.

        Of a kind of objects, or of instances where it is none; of those only some if so given.
        """
        with self._database.write() as connection:
            if kind is None:
                return self._sweep_instances(connection, cloud_id, before, at, only)
            return self._sweep_objects(connection, cloud_id, kind, before, at)

    def _sweep_instances(
        self,
        connection: Connection,
        cloud_id: str,
        before: datetime,
        at: datetime,
        only: Collection[str] | None,
    ) -> tuple[str, ...]:
        self._database.alone(connection, CLOUD_INSTANCES)
        self._database.alone(connection, INSTANCES)
        columns = CLOUD_INSTANCES.c
        unseen = (columns.cloud_id == cloud_id) & columns.gone_at.is_(None)
        query = select(columns.uuid, columns.name).where(unseen, columns.seen_at < before)
        gone = connection.execute(query).all()
        if only is not None:
            gone = [row for row in gone if row.uuid in only]
        for start in range(0, len(gone), _BATCH):
            ids = [row.uuid for row in gone[start : start + _BATCH]]
            where = columns.uuid.in_(ids)
            connection.execute(update(CLOUD_INSTANCES).where(where).values(gone_at=at))
            gone_from_cloud(connection, INSTANCES.c.uuid.in_(ids), at)
        look = Look(cloud_id, INSTANCE, at)
        note_changes(connection, [look.row(row.uuid, row.name, GONE) for row in gone])
        return tuple(row.uuid for row in gone)

    def _sweep_objects(
        self, connection: Connection, cloud_id: str, kind: CloudKind, before: datetime, at: datetime
    ) -> tuple[str, ...]:
        self._database.alone(connection, CLOUD_OBJECTS)
        columns = CLOUD_OBJECTS.c
        unseen = (
            (columns.cloud_id == cloud_id) & (columns.kind == kind)
            & columns.gone_at.is_(None) & (columns.seen_at < before)
        )  # fmt: skip
        gone = connection.execute(select(columns.id, columns.name).where(unseen)).all()
        connection.execute(update(CLOUD_OBJECTS).where(unseen).values(gone_at=at))
        look = Look(cloud_id, kind.value, at)
        note_changes(connection, [look.row(row.id, row.name, GONE) for row in gone])
        return tuple(row.id for row in gone)

    def _page(
        self,
        connection: Connection,
        cloud_id: str,
        here: Mapping[str, tuple[CloudInstance, InstanceSecrets]],
        known: Mapping[str, Row[Any]],
        at: datetime,
    ) -> _Page:
        elsewhere = tuple(
            uuid
            for uuid, row in known.items()
            if row.cloud_id != cloud_id and row.gone_at is None
        )  # fmt: skip
        rows, before = [], {}
        owners = {instance.owner for instance, _ in here.values()}
        ids = owner_ids(connection, cloud_id, owners, (row.account_id for row in known.values()))
        for uuid, (instance, secrets) in here.items():
            if uuid in elsewhere:
                continue
            row, was = self._row(cloud_id, instance, secrets, known.get(uuid), ids, at)
            if row is not None:
                rows.append(row)
                before[uuid] = was
        old = _values(connection, [uuid for uuid, was in before.items() if was is not None])
        look = Look(cloud_id, INSTANCE, at)
        changes, new, changed = [], [], []
        for row in rows:
            uuid, was = row["uuid"], before[row["uuid"]]
            if was is None:
                new.append(uuid)
                changes.append(_change(look, row["value"], APPEARED))
                continue
            fields = differences(old[uuid], encode(row["value"]))
            if not was:
                fields["details"] = ("", "changed")
            if fields:
                changed.append(uuid)
                changes.append(_change(look, row["value"], CHANGED, fields))
        return _Page(rows, Taken(tuple(new), tuple(changed), elsewhere), changes)

    def _row(
        self,
        cloud_id: str,
        instance: CloudInstance,
        secrets: InstanceSecrets,
        known: Row[Any] | None,
        ids: OwnerIds,
        at: datetime,
    ) -> tuple[dict[str, Any] | None, bool | None]:
        """Give what is to be written, and whether its secrets are as before; none: it is new."""
        digest = digest_of(encode(instance))
        there = known is not None and known.cloud_id == cloud_id
        owner = _owner_columns(instance.owner, known if there else None, ids)
        same = None
        first_seen = known.first_seen if known is not None and there else at
        sealed = known.secrets if known is not None else None
        if known is not None and there and known.gone_at is None:
            same = same_secrets(self._keys, instance.id, sealed, secrets)
            if same and known.digest == digest and owner.items() <= known._mapping.items():
                return None, True
        if not same:
            sealed = seal_secrets(self._keys, instance.id, secrets)
        own = {"digest": digest, "secrets": sealed, "first_seen": first_seen}
        return instance_row(cloud_id, instance, at) | own | owner, same


def _owner_columns(owner: Owner, known: Row[Any] | None, ids: OwnerIds) -> dict[str, str]:
    """Give what tells owners apart that have one name after another."""
    kept = ""
    if known is not None and (known.domain_id, known.account) == (owner.domain_id, owner.account):
        kept = known.account_id
    return {"above": ids.above(owner.domain_id), "account_id": ids.account_id(owner, kept)}


def _not_before(column: ColumnElement[Any], at: datetime) -> ColumnElement[Any]:
    return later(column, literal(at, column.type))


def _objects_page(
    cloud_id: str,
    kind: CloudKind,
    here: Mapping[tuple[str, str], CloudObject],
    known: Mapping[tuple[str, str], Row[Any]],
    at: datetime,
) -> _Page:
    look = Look(cloud_id, kind.value, at)
    rows, changes, new, changed = [], [], [], []
    for key, value in here.items():
        was, encoded = known.get(key), encode(value)
        digest = digest_of(encoded)
        if was is not None and was.gone_at is None and was.digest == digest:
            continue
        first_seen = at if was is None else was.first_seen
        own = {"digest": digest, "first_seen": first_seen}
        rows.append(object_row(cloud_id, kind, value, at) | own)
        name = rows[-1]["name"]
        if was is None or was.gone_at is not None:
            new.append(value.id)
            changes.append(look.row(value.id, name, APPEARED))
        elif fields := differences(was.value, encoded):
            changed.append(value.id)
            changes.append(look.row(value.id, name, CHANGED, fields))
    return _Page(rows, Taken(tuple(new), tuple(changed)), changes)


def _values(connection: Connection, uuids: Sequence[str]) -> dict[str, Any]:
    """Give the values of instances as they were, encoded."""
    if not uuids:
        return {}
    columns = CLOUD_INSTANCES.c
    query = select(columns.uuid, type_coerce(columns.value, Encoded()).label("value"))
    rows = connection.execute(query.where(columns.uuid.in_(uuids)))
    return {row.uuid: row.value for row in rows}


def _change(
    look: Look, instance: CloudInstance, what: str, fields: Fields | None = None
) -> dict[str, Any]:
    return look.row(instance.id, instance.shown_name[:255], what, fields)
