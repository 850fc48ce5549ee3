"""What rules match instances by: the name that the hypervisor has, and what a cloud says.

All are read for each round of a policy and for the state of everything, so only columns are read,
no whole value of an instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from sendense.catalog.cloud_rows import tags_of
from sendense.catalog.tables import CLOUD_INSTANCES, CLOUD_OBJECTS, CLOUDS, HOSTS, INSTANCES
from sendense.model.cloud import CloudFacts, CloudKind
from sendense.model.fleet import InstanceName
from sendense.model.matching import is_clouds_own


def names_query() -> Select[Any]:
    """Give the query whose rows :func:`read_names` reads."""
    theirs = CLOUD_INSTANCES.c
    return select(
        INSTANCES.c.uuid, INSTANCES.c.name, INSTANCES.c.host_id, INSTANCES.c.first_seen,
        theirs.cloud_id, theirs.name, theirs.display_name, theirs.zone, theirs.domain_path,
        theirs.account, theirs.project, theirs.offering, theirs.tags, theirs.domain_id,
        theirs.project_id, theirs.account_id, theirs.above,
    ).outerjoin_from(INSTANCES, CLOUD_INSTANCES, INSTANCES.c.uuid == theirs.uuid)  # fmt: skip


def read_names(connection: Connection, query: Select[Any]) -> tuple[InstanceName, ...]:
    """Read the rows of a query that began with :func:`names_query`."""
    clouds = {row.id: row.name for row in connection.execute(select(CLOUDS.c.id, CLOUDS.c.name))}
    rows = connection.execute(query).all()
    own = _own_machines(connection, rows)
    return tuple(
        InstanceName(
            row[0],
            row[1],
            row[2],
            row[3],
            None if row[4] is None else _facts(tuple(row)[4:], clouds),
            own.get(row[0], ""),
        )
        for row in rows
    )


def _own_machines(connection: Connection, rows: Sequence[Any]) -> dict[str, str]:
    """Give the machines that CloudStack makes for itself: by UUID, the cloud that does.

    The API does not list them among instances, and only their names tell: so only those on a host
    that a cloud is known to have are taken for such.  Of a cloud whose hosts are not known none is:
    it might be a customer's.  A backup of one that is CloudStack's after all is refused with words.
    """
    named = {row[0]: row[2] for row in rows if row[4] is None and is_clouds_own(row[1])}
    hosts = {host_id for host_id in named.values() if host_id is not None}
    if not hosts:
        return {}
    query = select(HOSTS.c.id, HOSTS.c.name, HOSTS.c.address).where(HOSTS.c.id.in_(hosts))
    ours = [tuple(map(str, row)) for row in connection.execute(query)]
    enabled = select(CLOUDS.c.id, CLOUDS.c.name).where(CLOUDS.c.enabled)
    clouds = [tuple(map(str, row)) for row in connection.execute(enabled.order_by(CLOUDS.c.name))]
    cloud_of: dict[str, str] = {}
    for cloud_id, cloud in clouds:
        known = _hosts_of(connection, cloud_id)
        for host_id, name, address in ours:
            if name in known or address in known:
                cloud_of.setdefault(host_id, cloud)
    return {uuid: cloud_of[host_id] for uuid, host_id in named.items() if host_id in cloud_of}


def _hosts_of(connection: Connection, cloud_id: str) -> frozenset[str]:
    """Give names and addresses of a cloud's hosts."""
    theirs = CLOUD_OBJECTS.c
    query = select(theirs.name, theirs.value).where(
        theirs.cloud_id == cloud_id, theirs.kind == CloudKind.HOST, theirs.gone_at.is_(None)
    )
    found: set[str] = set()
    for row in connection.execute(query):
        value: Any = row.value
        found |= {row.name, value["address"]}
    return frozenset(found - {""})


def _facts(columns: Sequence[Any], clouds: dict[str, str]) -> CloudFacts:
    (cloud_id, name, display_name, zone, domain, account, project, offering, tags, domain_id,
     project_id, account_id, above) = columns  # fmt: skip
    return CloudFacts(
        cloud_id=cloud_id,
        cloud=clouds.get(cloud_id, ""),
        name=display_name or name,
        zone=zone,
        domain=domain,
        account=account,
        project=project,
        offering=offering,
        tags=tags_of(tags) if tags else {},
        other_name=name if display_name else "",
        domain_id=domain_id,
        project_id=project_id,
        account_id=account_id,
        above=above,
    )
