"""What rules match instances by: the name that the hypervisor has, and what a cloud says.

All are read for each round of a policy and for the state of everything, so only columns are read,
no whole value of an instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from sendense.catalog.cloud_rows import tags_of
from sendense.catalog.tables import CLOUD_INSTANCES, CLOUDS, INSTANCES
from sendense.model.cloud import CloudFacts
from sendense.model.fleet import InstanceName


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
    return tuple(
        InstanceName(
            row[0],
            row[1],
            row[2],
            row[3],
            None if row[4] is None else _facts(tuple(row)[4:], clouds),
        )
        for row in connection.execute(query)
    )


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
