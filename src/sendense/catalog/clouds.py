"""Clouds that are protected, and the keys that requests to them are signed with.

The keys are sealed, each pair for itself: whoever reads clouds never opens them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, delete, insert, select, update

from sendense.catalog.cloud_seen import forget_cloud
from sendense.catalog.cloud_users import forget_users
from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import columns_of, containing, equal, given, require_row, value_of
from sendense.catalog.sealing import MasterKeys, Place
from sendense.catalog.tables import CLOUDS
from sendense.errors import NotFound
from sendense.model.cloud import Cloud, CloudKeys, CloudState
from sendense.model.page import FIRST, Page, Paging
from sendense.model.secret import Secret


class Clouds:
    """All clouds."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        """Use a database."""
        self._database = database
        self._keys = keys

    def add(self, cloud: Cloud, keys: CloudKeys) -> Cloud:
        """Remember a new one; its name is its own."""
        row = {
            "id": cloud.id,
            "name": cloud.name,
            "endpoint": cloud.endpoint,
            "created_at": cloud.created_at,
            "ca_pem": cloud.ca_pem,
            "enabled": cloud.enabled,
            "state": cloud.state,
            **self._sealed(cloud.id, keys),
        }
        with self._database.write(taken=f"cloud named {cloud.name}") as connection:
            connection.execute(insert(CLOUDS), row)
        return self.get(cloud.id)

    def get(self, cloud_id: str) -> Cloud:
        """Give one."""
        return self._one(CLOUDS.c.id, cloud_id, f"cloud {cloud_id}")

    def named(self, name: str) -> Cloud:
        """Give the one of a name."""
        return self._one(CLOUDS.c.name, name, f"cloud named {name}")

    def page(
        self, paging: Paging = FIRST, *, search: str | None = None, enabled: bool | None = None
    ) -> Page[Cloud]:
        """List them by name."""
        query = _select().where(*containing(CLOUDS.c.name, search))
        query = query.where(*equal({CLOUDS.c.enabled: enabled}))
        with self._database.read() as connection:
            order = (CLOUDS.c.name, CLOUDS.c.id)
            return read_page(connection, query, order, paging, lambda row: value_of(Cloud, row))

    def every(self) -> tuple[Cloud, ...]:
        """Give all of them, by name."""
        with self._database.read() as connection:
            rows = connection.execute(_select().order_by(CLOUDS.c.name)).all()
        return tuple(value_of(Cloud, row) for row in rows)

    def edit(
        self, cloud_id: str, *, name: str | None = None, endpoint: str | None = None,
        ca_pem: str | None = None, enabled: bool | None = None,
    ) -> Cloud:  # fmt: skip
        """Change what is given."""
        changes = given(name=name, endpoint=endpoint, ca_pem=ca_pem, enabled=enabled)
        return self._change(cloud_id, changes, taken=f"cloud named {name}")

    def note(self, cloud_id: str, state: CloudState) -> None:
        """Remember how it answered."""
        self._change(cloud_id, {"state": state})

    def keys(self, cloud_id: str) -> CloudKeys:
        """Give its keys."""
        columns = (CLOUDS.c.signing_keys, CLOUDS.c.restore_keys, CLOUDS.c.webhook_secret)
        with self._database.read() as connection:
            row = connection.execute(select(*columns).where(CLOUDS.c.id == cloud_id)).first()
        if row is None:
            raise NotFound(f"there is no cloud {cloud_id}")
        api_key, secret = _pair(self._keys.open(row[0], _place(cloud_id, "signing_keys")))
        keys = CloudKeys(api_key, secret)
        if row[1] is not None:
            pair = _pair(self._keys.open(row[1], _place(cloud_id, "restore_keys")))
            keys = replace(keys, restore_api_key=pair[0], restore_secret=pair[1])
        if row[2] is not None:
            webhook = self._keys.open(row[2], _place(cloud_id, "webhook_secret"))
            keys = replace(keys, webhook_secret=webhook)
        return keys

    def set_keys(self, cloud_id: str, keys: CloudKeys) -> Cloud:
        """Have exactly these keys: those of a kind that is none are forgotten."""
        return self._change(cloud_id, self._sealed(cloud_id, keys))

    def remove(self, cloud_id: str, at: datetime) -> None:
        """Forget one with its inventory, its tenants and the users that came by it.

        Instances stay, and so do their points.

        Those that no host shows are gone from ``at`` on.  In the cloud itself nothing is changed.
        """
        with self._database.write() as connection:
            forget_cloud(self._database, connection, cloud_id, at)
            forget_users(connection, cloud_id)
            found = connection.execute(delete(CLOUDS).where(CLOUDS.c.id == cloud_id))
            require_row(found.rowcount, f"cloud {cloud_id}")

    def _one(self, column: Column[Any], value: str, what: str) -> Cloud:
        with self._database.read() as connection:
            row = connection.execute(_select().where(column == value)).first()
        if row is None:
            raise NotFound(f"there is no {what}")
        return value_of(Cloud, row)

    def _change(self, cloud_id: str, changes: dict[str, Any], taken: str | None = None) -> Cloud:
        if changes:
            with self._database.write(taken=taken) as connection:
                where = CLOUDS.c.id == cloud_id
                found = connection.execute(update(CLOUDS).where(where).values(changes))
                require_row(found.rowcount, f"cloud {cloud_id}")
        return self.get(cloud_id)

    def _sealed(self, cloud_id: str, keys: CloudKeys) -> dict[str, bytes | None]:
        restore = (
            None
            if keys.restore_api_key is None or keys.restore_secret is None
            else _together(keys.restore_api_key, keys.restore_secret)
        )
        wanted = {
            "signing_keys": _together(keys.api_key, keys.secret),
            "restore_keys": restore,
            "webhook_secret": keys.webhook_secret,
        }
        return {
            column: None if secret is None else self._keys.seal(secret, _place(cloud_id, column))
            for column, secret in wanted.items()
        }


def _together(api_key: str, secret: Secret) -> Secret:
    return Secret(json.dumps([api_key, secret.reveal().decode()]))


def _pair(text: Secret) -> tuple[str, Secret]:
    api_key, secret = json.loads(text.reveal())
    return api_key, Secret(secret)


def _select() -> Select[Any]:
    return select(
        *columns_of(Cloud, CLOUDS),
        CLOUDS.c.restore_keys.is_not(None).label("has_restore_key"),
        CLOUDS.c.webhook_secret.is_not(None).label("has_webhook"),
    )


def _place(cloud_id: str, column: str) -> Place:
    return Place("cloud", cloud_id, column)
