"""Instances: what hosts show and clouds have, brought together by UUID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, insert, or_, select, update

from sendense.catalog.cloud_seen import lose
from sendense.catalog.database import Database
from sendense.catalog.instance_names import names_query, read_names
from sendense.catalog.paging import read_page
from sendense.catalog.rows import (
    columns_of,
    containing,
    equal,
    granted,
    read_one,
    require_row,
    value_of,
)
from sendense.catalog.tables import INSTANCES
from sendense.model.access import Grant
from sendense.model.fleet import Instance, InstanceName, may_take_over
from sendense.model.machine import Machine, PowerState
from sendense.model.page import FIRST, Page, Paging


@dataclass(frozen=True)
class Seen:
    """What one look at a host changed."""

    new: tuple[str, ...]
    moved: tuple[str, ...]
    """Known, and on another host before."""
    gone: tuple[str, ...]
    """On this host before, and no longer; a cloud may have it still."""


class Instances:
    """All instances, also those that no host shows and no cloud has any more."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def see(self, host_id: str, machines: Sequence[Machine], at: datetime) -> Seen:
        """Take over what a host shows now: all of its machines."""
        with self._database.write() as connection:
            self._database.alone(connection, INSTANCES)
            known = {
                row.uuid: value_of(Instance, row)
                for row in connection.execute(
                    _select().where(
                        or_(
                            INSTANCES.c.uuid.in_([machine.uuid for machine in machines]),
                            INSTANCES.c.host_id == host_id,
                        )
                    )
                )
            }
            taken = [
                machine
                for machine in machines
                if machine.uuid not in known
                or may_take_over(known[machine.uuid], host_id, machine.power, at)
            ]
            rows = [_row(host_id, machine, at) for machine in taken]
            new = [row for row in rows if row["uuid"] not in known]
            old = [row for row in rows if row["uuid"] in known]
            if new:
                connection.execute(insert(INSTANCES), [row | {"first_seen": at} for row in new])
            if old:
                connection.execute(_update_by_uuid(), [_renamed(row) for row in old])
            shown = {machine.uuid for machine in machines}
            gone = _gone(known, host_id, shown)
            if gone:
                lose(connection, gone, at)
        moved = tuple(
            machine.uuid
            for machine in taken
            if machine.uuid in known and known[machine.uuid].host_id != host_id
        )
        return Seen(tuple(row["uuid"] for row in new), moved, gone)

    def get(self, uuid: str, grant: Grant | None = None) -> Instance:
        """Give one; with a grant only one that it covers."""
        where = [INSTANCES.c.uuid == uuid, *self._granted(grant)]
        with self._database.read() as connection:
            return read_one(connection, Instance, INSTANCES, *where, what=f"instance {uuid}")

    def find(self, name: str) -> tuple[Instance, ...]:
        """Give those of a name; it may be on more than one host."""
        with self._database.read() as connection:
            query = _select().where(INSTANCES.c.name == name).order_by(INSTANCES.c.uuid)
            return tuple(value_of(Instance, row) for row in connection.execute(query))

    def page(
        self, paging: Paging = FIRST, *, search: str | None = None, host_id: str | None = None,
        power: PowerState | None = None, gone: bool | None = None, grant: Grant | None = None,
    ) -> Page[Instance]:  # fmt: skip
        """List them by name."""
        query = _select().where(*containing(INSTANCES.c.name, search), *self._granted(grant))
        query = query.where(*equal({INSTANCES.c.host_id: host_id, INSTANCES.c.power: power}))
        if gone is not None:
            query = query.where((INSTANCES.c.gone_at.is_not(None)) == gone)
        with self._database.read() as connection:
            order = (INSTANCES.c.name, INSTANCES.c.uuid)
            return read_page(connection, query, order, paging, lambda row: value_of(Instance, row))

    def names(self, grant: Grant | None = None) -> tuple[InstanceName, ...]:
        """Give what rules match all present ones by, in order of their names."""
        query = names_query().where(INSTANCES.c.gone_at.is_(None), *self._granted(grant))
        with self._database.read() as connection:
            return read_names(connection, query.order_by(INSTANCES.c.name, INSTANCES.c.uuid))

    def name(self, uuid: str) -> InstanceName:
        """Give what rules match one by, whether it is present or not."""
        with self._database.read() as connection:
            found = read_names(connection, names_query().where(INSTANCES.c.uuid == uuid))
        require_row(len(found), f"instance {uuid}")
        return found[0]

    def _granted(self, grant: Grant | None) -> list[ColumnElement[bool]]:
        return granted(self._database, grant, INSTANCES.c.uuid, INSTANCES.c.name)


def _select() -> Select[Any]:
    return select(*columns_of(Instance, INSTANCES))


def _row(host_id: str, machine: Machine, at: datetime) -> dict[str, Any]:
    return {
        "uuid": machine.uuid,
        "name": machine.name,
        "host_id": host_id,
        "power": machine.power,
        "machine": machine,
        "seen_at": at,
        "gone_at": None,
        "from_cloud": False,
    }


def _update_by_uuid() -> Any:  # noqa: ANN401 - an Update whose parameters come with its rows
    changed = ("name", "host_id", "power", "machine", "seen_at", "gone_at", "from_cloud")
    values = {name: bindparam(f"new_{name}", type_=INSTANCES.c[name].type) for name in changed}
    return update(INSTANCES).where(INSTANCES.c.uuid == bindparam("new_uuid")).values(values)


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    # A parameter may not have the name of a column that it changes.
    return {f"new_{name}": value for name, value in row.items()}


def _gone(known: dict[str, Instance], host_id: str, shown: set[str]) -> tuple[str, ...]:
    return tuple(
        uuid
        for uuid, each in known.items()
        if each.host_id == host_id and each.gone_at is None and uuid not in shown
    )
