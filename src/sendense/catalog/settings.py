"""What the control plane keeps about itself: settings that change while it runs, and secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select

from sendense.catalog.database import Database
from sendense.catalog.rows import require_row
from sendense.catalog.sealing import MasterKeys, Place
from sendense.catalog.tables import SECRETS, SETTINGS
from sendense.errors import NotFound
from sendense.model.secret import Secret


class Settings:
    """Values of JSON by key."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def every(self) -> dict[str, Any]:
        """Give all of them."""
        query = select(SETTINGS.c.key, SETTINGS.c.value).order_by(SETTINGS.c.key)
        with self._database.read() as connection:
            return {row.key: row.value["value"] for row in connection.execute(query)}

    def get(self, key: str) -> Any:  # noqa: ANN401 - any JSON
        """Give one; :class:`~sendense.errors.NotFound` where it is not set."""
        with self._database.read() as connection:
            row = connection.execute(select(SETTINGS.c.value).where(SETTINGS.c.key == key)).first()
        if row is None:
            raise NotFound(f"there is no setting {key}")
        return row.value["value"]

    def put(self, key: str, value: Any, at: datetime) -> None:  # noqa: ANN401 - any JSON
        """Set one."""
        # Inside an object, because a JSON null alone is no value to the database.
        row = {"key": key, "value": {"value": value}, "updated_at": at}
        with self._database.write() as connection:
            connection.execute(self._database.upsert(SETTINGS, ("key",)), row)

    def remove(self, key: str) -> None:
        """Set it no longer."""
        with self._database.write() as connection:
            found = connection.execute(delete(SETTINGS).where(SETTINGS.c.key == key))
            require_row(found.rowcount, f"setting {key}")


class Secrets:
    """Secrets of the control plane itself by name, such as the key of its authority."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        """Use a database."""
        self._database = database
        self._keys = keys

    def find(self, name: str) -> Secret | None:
        """Give one; none where there is none."""
        with self._database.read() as connection:
            query = select(SECRETS.c.value).where(SECRETS.c.name == name)
            sealed = connection.execute(query).scalar()
        return None if sealed is None else self._keys.open(sealed, _place(name))

    def put(self, name: str, secret: Secret) -> None:
        """Keep one, in place of an older one."""
        row = {"name": name, "value": self._keys.seal(secret, _place(name))}
        with self._database.write() as connection:
            connection.execute(self._database.upsert(SECRETS, ("name",)), row)

    def first(self, name: str, secret: Secret) -> Secret:
        """Keep one unless there is one of the name; gives the one that is kept."""
        with self._database.write() as connection:
            self._database.alone(connection, SECRETS)
            query = select(SECRETS.c.value).where(SECRETS.c.name == name)
            sealed = connection.execute(query).scalar()
            if sealed is not None:
                return self._keys.open(sealed, _place(name))
            row = {"name": name, "value": self._keys.seal(secret, _place(name))}
            connection.execute(insert(SECRETS), row)
        return secret

    def remove(self, name: str) -> None:
        """Forget one."""
        with self._database.write() as connection:
            found = connection.execute(delete(SECRETS).where(SECRETS.c.name == name))
            require_row(found.rowcount, f"secret {name}")


def _place(name: str) -> Place:
    return Place("secret", name, "value")
