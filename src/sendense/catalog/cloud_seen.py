"""Instances that a cloud has, among those that hosts show.

What a host shows now is never changed from here.  A machine that no host shows is made up from what
its cloud says of it, or is what a host showed last, with the power that the cloud says.  An
instance is gone when neither a host shows it nor a cloud has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.tables import CLOUD_INSTANCES, CLOUD_OBJECTS, INSTANCES
from sendense.model.cloud import CloudInstance, CloudVolume
from sendense.model.machine import Disk, Machine, NetworkCard, PowerState, SourceKind

_OFF = frozenset({"Stopped", "Shutdown", "Error", "Destroyed", "Expunging"})
"""States in which no disk is in use; a word that is not known counts as running."""
_NO_MORE = frozenset({"Error", "Destroyed", "Expunging"})
"""States in which there is nothing to ask for, though the cloud still lists it."""


def power_in(state: str) -> PowerState:
    """Say whether a guest may use its disks, by its state in the cloud."""
    return PowerState.STOPPED if state in _OFF else PowerState.RUNNING


def machine_of(instance: CloudInstance) -> Machine:
    """Make up the machine of an instance that no host has shown."""
    volumes = sorted(instance.volumes, key=lambda each: (each.device_id or 0, each.id))
    return Machine(
        uuid=instance.id,
        name=instance.domain_name or instance.name,
        power=power_in(instance.state),
        persistent=False,
        disks=tuple(_disk(place, volume) for place, volume in enumerate(volumes)),
        vcpus=instance.cpus,
        memory_bytes=instance.memory_bytes,
        cards=tuple(NetworkCard(nic.mac, "virtio", nic.network) for nic in instance.nics),
    )


def _disk(place: int, volume: CloudVolume) -> Disk:
    # Where it really is only a host tells; the serial is what it will be known by there.
    return Disk(
        target=_target(place),
        path=volume.path or volume.id,
        format="qcow2",
        kind=SourceKind.FILE,
        serial=volume.serial,
    )


def _target(place: int) -> str:
    letters = ""
    while place >= 0:
        place, letter = divmod(place, 26)
        letters, place = chr(ord("a") + letter) + letters, place - 1
    return f"vd{letters}"


def see_cloud(
    database: Database,
    connection: Connection,
    instances: Sequence[CloudInstance],
    changed: Collection[str],
    at: datetime,
) -> None:
    """Have the instances of a cloud among all; ``changed`` are those whose value is another."""
    database.alone(connection, INSTANCES)
    columns = [column for column in INSTANCES.c if column is not INSTANCES.c.machine]
    where = INSTANCES.c.uuid.in_([each.id for each in instances])
    known = {row.uuid: row for row in connection.execute(select(*columns).where(where))}
    new = [_new(each, at) for each in instances if each.id not in known]
    if new:
        connection.execute(insert(INSTANCES), new)
    wrong = [
        each
        for each in instances
        if each.id in known and _differs(known[each.id], each, each.id in changed)
    ]
    if not wrong:
        return
    machines = _machines(connection, [each.id for each in wrong])
    rows = [_corrected(known[each.id], each, machines[each.id], at) for each in wrong]
    connection.execute(_update_by_uuid(), rows)


def lose(connection: Connection, uuids: Sequence[str], at: datetime) -> None:
    """Take from a host what it shows no longer: what a cloud has stays, without a host."""
    where = CLOUD_INSTANCES.c.uuid.in_(uuids)
    query = select(CLOUD_INSTANCES.c.uuid, CLOUD_INSTANCES.c.state).where(
        where, CLOUD_INSTANCES.c.gone_at.is_(None), CLOUD_INSTANCES.c.state.not_in(_NO_MORE)
    )
    states = {row.uuid: row.state for row in connection.execute(query)}
    gone = [uuid for uuid in uuids if uuid not in states]
    if gone:
        here = INSTANCES.c.uuid.in_(gone)
        connection.execute(update(INSTANCES).where(here).values(gone_at=at))
    if states:
        machines = _machines(connection, list(states))
        rows = [_without_host(machines[uuid], state, at) for uuid, state in states.items()]
        connection.execute(_update_by_uuid(), rows)


def gone_from_cloud(connection: Connection, where: ColumnElement[bool], at: datetime) -> None:
    """Let instances be gone that a cloud has no longer, and no host shows."""
    alone = INSTANCES.c.host_id.is_(None) & INSTANCES.c.gone_at.is_(None)
    connection.execute(update(INSTANCES).where(where, alone).values(gone_at=at))


def forget_cloud(database: Database, connection: Connection, cloud_id: str, at: datetime) -> None:
    """Let all instances of a cloud be gone that no host shows."""
    for table in (CLOUD_OBJECTS, CLOUD_INSTANCES, INSTANCES):
        database.alone(connection, table)
    theirs = select(CLOUD_INSTANCES.c.uuid).where(CLOUD_INSTANCES.c.cloud_id == cloud_id)
    gone_from_cloud(connection, INSTANCES.c.uuid.in_(theirs), at)


def _new(instance: CloudInstance, at: datetime) -> dict[str, Any]:
    machine = machine_of(instance)
    return {
        "uuid": instance.id,
        "name": machine.name,
        "host_id": None,
        "power": machine.power,
        "machine": machine,
        "first_seen": at,
        "seen_at": at,
        "gone_at": at if instance.state in _NO_MORE else None,
        "from_cloud": True,
    }


def _differs(row: Row[Any], instance: CloudInstance, changed: bool) -> bool:
    if row.host_id is not None and row.gone_at is None:
        return False  # a host shows it: that is newer than what the cloud says
    if (row.gone_at is not None) != (instance.state in _NO_MORE):
        return True
    return bool(row.power is not power_in(instance.state) or (changed and row.from_cloud))


def _corrected(
    row: Row[Any], instance: CloudInstance, machine: Machine, at: datetime
) -> dict[str, Any]:
    now = machine_of(instance) if row.from_cloud else machine
    gone_at = (row.gone_at or at) if instance.state in _NO_MORE else None
    return _without_host(now, instance.state, at) | {"new_gone_at": gone_at}


def _without_host(machine: Machine, state: str, at: datetime) -> dict[str, Any]:
    now = replace(machine, power=power_in(state))
    return {
        "new_uuid": now.uuid,
        "new_name": now.name,
        "new_power": now.power,
        "new_machine": now,
        "new_seen_at": at,
        "new_gone_at": None,
    }


def _machines(connection: Connection, uuids: Iterable[str]) -> Mapping[str, Machine]:
    query = select(INSTANCES.c.uuid, INSTANCES.c.machine).where(INSTANCES.c.uuid.in_(list(uuids)))
    return {row.uuid: row.machine for row in connection.execute(query)}


def _update_by_uuid() -> Any:  # noqa: ANN401 - an Update whose parameters come with its rows
    changed = ("name", "power", "machine", "seen_at", "gone_at")
    values = {name: bindparam(f"new_{name}", type_=INSTANCES.c[name].type) for name in changed}
    where = INSTANCES.c.uuid == bindparam("new_uuid")
    return update(INSTANCES).where(where).values(host_id=None, **values)
