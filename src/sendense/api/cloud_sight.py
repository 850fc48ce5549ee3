"""What is known around the instances of clouds, read once for a part of a list.

Flags need pools and hosts, protection needs the state of everything: neither is asked for once per
instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from sendense.catalog.catalog import Catalog
from sendense.catalog.inventory_reading import InstanceEntry
from sendense.catalog.status import SILENT_AFTER
from sendense.model.agent_status import AgentFacts
from sendense.model.capability import Flag, FlagCode, HostSight, flags_of
from sendense.model.cloud import CloudHost, CloudKind, CloudPool
from sendense.model.fleet import Host, HostHealth
from sendense.workflows.managed.cloud_hosts import same_host

_ANSWERS = frozenset({HostHealth.OK, HostHealth.WARNING, HostHealth.FAILED})
_NOT_FOR_TENANTS = frozenset(
    {FlagCode.PATHS_UNKNOWN, FlagCode.NO_AGENT, FlagCode.OLD_HOST, FlagCode.UNSUPPORTED_HOST}
)
"""What names hosts, and is for operators to mend."""


@dataclass(frozen=True)
class _Around:
    """What one cloud has around its instances."""

    pools: Mapping[str, CloudPool]
    hosts: Mapping[str, CloudHost]


class Sight:
    """What is around instances, as of now."""

    def __init__(self, catalog: Catalog, now: datetime) -> None:
        """Read nothing yet."""
        self._catalog = catalog
        self._now = now
        self._around: dict[str, _Around] = {}

    @cached_property
    def clouds(self) -> Mapping[str, str]:
        """Give the names of clouds."""
        return {cloud.id: cloud.name for cloud in self._catalog.clouds.every()}

    @cached_property
    def _ours(self) -> tuple[Host, ...]:
        return self._catalog.hosts.every()

    def flags(self, entry: InstanceEntry, *, for_tenant: bool = False) -> tuple[Flag, ...]:
        """Give the flags of an instance; none of one that is gone."""
        if entry.gone_at is not None:
            return ()
        around = self._of(entry.cloud_id)
        instance = entry.instance
        host = around.hosts.get(instance.host_id or instance.last_host_id)
        sight = None if host is None else HostSight(host, self._agent(host))
        flags = flags_of(instance, around.pools, sight=sight)
        if for_tenant:
            return tuple(flag for flag in flags if flag.code not in _NOT_FOR_TENANTS)
        return flags

    def _agent(self, host: CloudHost) -> AgentFacts | None:
        """Give what the agent on a host says of itself, if it is heard."""
        ours = same_host(host, self._ours)
        if ours is None or ours.heartbeat is None:
            return None
        heard = ours.health(self._now, SILENT_AFTER) in _ANSWERS
        return ours.heartbeat.facts if heard else None

    def _of(self, cloud_id: str) -> _Around:
        if cloud_id not in self._around:
            inventory = self._catalog.inventory
            pools = inventory.present(cloud_id, CloudKind.POOL)
            hosts = inventory.present(cloud_id, CloudKind.HOST)
            self._around[cloud_id] = _Around(
                {pool.id: pool for pool in pools if isinstance(pool, CloudPool)},
                {host.id: host for host in hosts if isinstance(host, CloudHost)},
            )
        return self._around[cloud_id]
