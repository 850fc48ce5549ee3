"""Repositories that the control plane uses, and their secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, delete, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import containing, given, require_row, value_of
from sendense.catalog.sealing import MasterKeys, Place
from sendense.catalog.tables import POLICIES, REPOSITORIES, TENANTS
from sendense.errors import Conflict, NotFound
from sendense.model.holdings import RepositoryEntry
from sendense.model.page import FIRST, Page, Paging
from sendense.model.secret import Secret


@dataclass(frozen=True)
class RepositorySecrets:
    """What opening a repository takes beside its URL."""

    passphrase: Secret | None = None
    credentials: Mapping[str, Secret] | None = None
    """For its store, by the names that :mod:`sendense.storage.urls` has."""


NO_SECRETS = RepositorySecrets()


class Repositories:
    """All repositories."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        """Use a database."""
        self._database = database
        self._keys = keys

    def add(
        self, entry: RepositoryEntry, secrets: RepositorySecrets = NO_SECRETS
    ) -> RepositoryEntry:
        """Remember a new one; its name is its own."""
        row = {
            "id": entry.id,
            "name": entry.name,
            "url": entry.url,
            "created_at": entry.created_at,
            **self._sealed(entry.id, secrets),
        }
        with self._database.write(taken=f"repository named {entry.name}") as connection:
            connection.execute(insert(REPOSITORIES), row)
        return self.get(entry.id)

    def get(self, repository_id: str) -> RepositoryEntry:
        """Give one."""
        return self._one(REPOSITORIES.c.id, repository_id, f"repository {repository_id}")

    def named(self, name: str) -> RepositoryEntry:
        """Give the one of a name."""
        return self._one(REPOSITORIES.c.name, name, f"repository named {name}")

    def page(self, paging: Paging = FIRST, *, search: str | None = None) -> Page[RepositoryEntry]:
        """List them by name."""
        query = _select().where(*containing(REPOSITORIES.c.name, search))
        with self._database.read() as connection:
            order = (REPOSITORIES.c.name, REPOSITORIES.c.id)
            return read_page(connection, query, order, paging, _entry)

    def every(self) -> tuple[RepositoryEntry, ...]:
        """Give all of them, by name."""
        with self._database.read() as connection:
            rows = connection.execute(_select().order_by(REPOSITORIES.c.name)).all()
        return tuple(_entry(row) for row in rows)

    def secrets(self, repository_id: str) -> RepositorySecrets:
        """Give its secrets."""
        columns = (REPOSITORIES.c.passphrase, REPOSITORIES.c.credentials)
        with self._database.read() as connection:
            query = select(*columns).where(REPOSITORIES.c.id == repository_id)
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"there is no repository {repository_id}")
        return RepositorySecrets(
            self._opened(repository_id, "passphrase", row.passphrase),
            _named(self._opened(repository_id, "credentials", row.credentials)),
        )

    def edit(
        self, repository_id: str, *, name: str | None = None, url: str | None = None,
        secrets: RepositorySecrets = NO_SECRETS,
    ) -> RepositoryEntry:  # fmt: skip
        """Change what is given."""
        changes = given(name=name, url=url, **self._sealed(repository_id, secrets))
        with self._database.write(taken=f"repository named {name}") as connection:
            if changes:
                where = REPOSITORIES.c.id == repository_id
                connection.execute(update(REPOSITORIES).where(where).values(changes))
        return self.get(repository_id)

    def remove(self, repository_id: str) -> None:
        """Forget one and its points here; in the repository itself nothing is changed.

        :class:`~sendense.errors.Conflict` if a policy uses it, or a tenant has it.
        """
        with self._database.write() as connection:
            _require_unused(connection, repository_id)
            where = REPOSITORIES.c.id == repository_id
            found = connection.execute(delete(REPOSITORIES).where(where))
            require_row(found.rowcount, f"repository {repository_id}")

    def _one(self, column: Column[Any], value: str, what: str) -> RepositoryEntry:
        with self._database.read() as connection:
            row = connection.execute(_select().where(column == value)).first()
        require_row(int(row is not None), what)
        return _entry(row)

    def _sealed(self, repository_id: str, secrets: RepositorySecrets) -> dict[str, bytes]:
        sealed = {}
        if secrets.passphrase is not None:
            place = _place(repository_id, "passphrase")
            sealed["passphrase"] = self._keys.seal(secrets.passphrase, place)
        if secrets.credentials is not None:
            shown = {name: each.reveal().decode() for name, each in secrets.credentials.items()}
            place = _place(repository_id, "credentials")
            sealed["credentials"] = self._keys.seal(Secret(json.dumps(shown)), place)
        return sealed

    def _opened(self, repository_id: str, column: str, sealed: bytes | None) -> Secret | None:
        return None if sealed is None else self._keys.open(sealed, _place(repository_id, column))


def _require_unused(connection: Connection, repository_id: str) -> None:
    query = select(POLICIES.c.name).where(POLICIES.c.repository_id == repository_id)
    names: list[str] = list(connection.execute(query.order_by(POLICIES.c.name)).scalars())
    if names:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise Conflict(
            f"this repository is used by the policy {names[0]}{others}",
            hint="first give them another repository (sendense policy edit POLICY --to REPOSITORY) "
            "or remove them (sendense policy remove POLICY)",
            policies=names,
        )
    _require_no_tenant(connection, repository_id)


def _require_no_tenant(connection: Connection, repository_id: str) -> None:
    query = select(TENANTS.c.name).where(TENANTS.c.repository_id == repository_id)
    name = connection.execute(query.order_by(TENANTS.c.name).limit(1)).scalar()
    if name is not None:
        raise Conflict(
            f"this repository is the tenant {name}'s",
            hint="first give the tenant another repository, or none",
        )


def _select() -> Select[Any]:
    columns = REPOSITORIES.c
    return select(
        columns.id,
        columns.name,
        columns.url,
        columns.created_at,
        columns.passphrase.is_not(None).label("has_passphrase"),
        columns.credentials.is_not(None).label("has_credentials"),
    )


def _entry(row: Any) -> RepositoryEntry:  # noqa: ANN401 - a row of any shape
    return value_of(RepositoryEntry, row)


def _named(text: Secret | None) -> dict[str, Secret] | None:
    if text is None:
        return None
    return {name: Secret(value) for name, value in json.loads(text.reveal()).items()}


def _place(repository_id: str, column: str) -> Place:
    return Place("repository", repository_id, column)
