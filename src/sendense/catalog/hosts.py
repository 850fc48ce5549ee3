"""Hosts and their agents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

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
from sendense.catalog.sealing import MasterKeys, Place
from sendense.catalog.tables import HOSTS
from sendense.errors import Conflict, NotFound, OutOfSpace
from sendense.model.agent_status import Heartbeat
from sendense.model.fleet import Host, Transport
from sendense.model.page import FIRST, Page, Paging
from sendense.model.secret import Secret


class Hosts:
    """All hosts; a host and its agent have one id."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        """Use a database."""
        self._database = database
        self._keys = keys

    def add(self, host: Host, ticket_secret: Secret | None = None) -> None:
        """Remember a new one; its name and its control port are its own."""
        row = row_of(host, HOSTS) | {"ticket_secret": self._sealed(host.id, ticket_secret)}
        with self._database.write(taken=f"host named {host.name}") as connection:
            connection.execute(insert(HOSTS), row)

    def get(self, host_id: str) -> Host:
        """Give one."""
        with self._database.read() as connection:
            where = HOSTS.c.id == host_id
            return read_one(connection, Host, HOSTS, where, what=f"host {host_id}")

    def named(self, name: str) -> Host:
        """Give the one of a name."""
        with self._database.read() as connection:
            where = HOSTS.c.name == name
            return read_one(connection, Host, HOSTS, where, what=f"host named {name}")

    def page(
        self, paging: Paging = FIRST, *, search: str | None = None,
        transport: Transport | None = None, revoked: bool | None = None,
    ) -> Page[Host]:  # fmt: skip
        """List them by name."""
        query = _select().where(*containing(HOSTS.c.name, search))
        query = query.where(*equal({HOSTS.c.transport: transport}))
        if revoked is not None:
            query = query.where((HOSTS.c.revoked_at.is_not(None)) == revoked)
        with self._database.read() as connection:
            order = (HOSTS.c.name, HOSTS.c.id)
            return read_page(connection, query, order, paging, lambda row: value_of(Host, row))

    def every(self) -> tuple[Host, ...]:
        """Give all of them, by name."""
        with self._database.read() as connection:
            rows = connection.execute(_select().order_by(HOSTS.c.name)).all()
        return tuple(value_of(Host, row) for row in rows)

    def enrolled(self) -> tuple[Host, ...]:
        """Give those whose agents may be called and may call: enrolled, and not revoked."""
        query = _select().where(HOSTS.c.enrolled_at.is_not(None), HOSTS.c.revoked_at.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(HOSTS.c.name)).all()
        return tuple(value_of(Host, row) for row in rows)

    def edit(
        self, host_id: str, *, name: str | None = None, address: str | None = None,
        transport: Transport | None = None, version: str | None = None,
    ) -> Host:  # fmt: skip
        """Change what is given."""
        changes = given(name=name, address=address, transport=transport, version=version)
        return self._change(host_id, changes)

    def enrol(self, host_id: str, *, public_key: str, ticket_secret: Secret, at: datetime) -> Host:
        """Remember the key and the secret of its agent; what was revoked counts again.

        Raises ``Conflict`` where the key is the one of another host that is enrolled.
        """
        with self._database.write() as connection:
            self._database.alone(connection, HOSTS)
            self._require_own_key(connection, host_id, public_key)
            self._let_in(connection, host_id, public_key, ticket_secret, at)
        return self.get(host_id)

    def take_enrolment_back(
        self, host_id: str, ours: Secret, before: tuple[str, Secret] | None, at: datetime
    ) -> bool:
        """Give a host the key and the secret from before it was enrolled with ``ours``, or none.

        Does nothing, and says so, where ``ours`` is not what it has now: who revoked it or enrolled
        it anew in the meantime meant it.
        """
        with self._database.write() as connection:
            self._database.alone(connection, HOSTS)
            query = select(HOSTS.c.ticket_secret).where(HOSTS.c.id == host_id)
            sealed = connection.execute(query).scalar()
            if sealed is None or self._keys.open(sealed, _place(host_id)) != ours:
                return False
            if before is not None:
                self._let_in(connection, host_id, *before, at)
            else:
                change = {"revoked_at": at, "ticket_secret": None}
                connection.execute(update(HOSTS).where(HOSTS.c.id == host_id).values(change))
            return True

    def revoke(self, host_id: str, at: datetime) -> Host:
        """Let its key and its tickets open nothing from now on."""
        return self._change(host_id, {"revoked_at": at, "ticket_secret": None})

    def pause(self, host_id: str, until: datetime | None) -> Host:
        """Give it no new work until a moment, however long that is; none: give it work again."""
        return self._change(host_id, {"paused_until": until})

    def paused(self, now: datetime) -> frozenset[str]:
        """Give the ids of those that get no new work now."""
        query = select(HOSTS.c.id).where(HOSTS.c.paused_until > now)
        with self._database.read() as connection:
            return frozenset(connection.scalars(query))

    def assign_ports(self, host_id: str, ports: Sequence[int], data_ports: int) -> Host:
        """Give it a control port and so many data ports of ``ports``, which no other host has.

        A host that has as many keeps them.
        """
        with self._database.write() as connection:
            self._database.alone(connection, HOSTS)
            rows = connection.execute(select(HOSTS.c.id, HOSTS.c.control_port, HOSTS.c.data_ports))
            taken = {row.id: (row.control_port, tuple(row.data_ports)) for row in rows}
            require_row(int(host_id in taken), f"host {host_id}")
            mine = taken.pop(host_id)
            if mine[0] is None or len(mine[1]) != data_ports:
                used = {port for control, data in taken.values() for port in (control, *data)}
                free = [port for port in ports if port not in used][: 1 + data_ports]
                if len(free) <= data_ports:
                    raise OutOfSpace("the gateway has no free ports left for another host")
                change = {"control_port": free[0], "data_ports": tuple(free[1:])}
                connection.execute(update(HOSTS).where(HOSTS.c.id == host_id).values(change))
        return self.get(host_id)

    def heard(self, host_id: str, heartbeat: Heartbeat, at: datetime) -> None:
        """Remember what its agent said of itself."""
        change = {"heartbeat": heartbeat, "last_seen": at, "version": heartbeat.facts.version}
        with self._database.write() as connection:
            found = connection.execute(update(HOSTS).where(HOSTS.c.id == host_id).values(change))
            require_row(found.rowcount, f"host {host_id}")

    def ticket_secret(self, host_id: str) -> Secret:
        """Give the secret that tickets for its agent are signed with."""
        with self._database.read() as connection:
            query = select(HOSTS.c.ticket_secret).where(HOSTS.c.id == host_id)
            sealed = connection.execute(query).scalar()
        if sealed is None:
            raise NotFound(
                f"host {host_id} has no ticket secret", hint="it is not enrolled, or was revoked"
            )
        return self._keys.open(sealed, _place(host_id))

    def remove(self, host_id: str) -> None:
        """Forget one; its instances stay, without a host."""
        with self._database.write() as connection:
            found = connection.execute(delete(HOSTS).where(HOSTS.c.id == host_id))
            require_row(found.rowcount, f"host {host_id}")

    def _change(self, host_id: str, changes: dict[str, Any]) -> Host:
        with self._database.write() as connection:
            if changes:
                connection.execute(update(HOSTS).where(HOSTS.c.id == host_id).values(changes))
            where = HOSTS.c.id == host_id
            return read_one(connection, Host, HOSTS, where, what=f"host {host_id}")

    def _let_in(
        self, connection: Connection, host_id: str, key: str, secret: Secret, at: datetime
    ) -> None:
        change = {
            "public_key": key,
            "ticket_secret": self._sealed(host_id, secret),
            "enrolled_at": at,
            "revoked_at": None,
        }
        found = connection.execute(update(HOSTS).where(HOSTS.c.id == host_id).values(change))
        require_row(found.rowcount, f"host {host_id}")

    def _require_own_key(self, connection: Connection, host_id: str, key: str) -> None:
        query = select(HOSTS.c.name).where(
            HOSTS.c.id != host_id,
            HOSTS.c.public_key == key,
            HOSTS.c.enrolled_at.is_not(None),
            HOSTS.c.revoked_at.is_(None),
        )
        other = connection.execute(query).scalar()
        if other is not None:
            raise Conflict(
                f"this key is the one of host {other} already",
                hint="each host has a key of its own: make a new one there",
            )

    def _sealed(self, host_id: str, secret: Secret | None) -> bytes | None:
        return None if secret is None else self._keys.seal(secret, _place(host_id))


def _select() -> Select[Any]:
    return select(*columns_of(Host, HOSTS))


def _place(host_id: str) -> Place:
    return Place("host", host_id, "ticket_secret")
