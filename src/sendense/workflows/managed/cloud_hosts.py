"""Hosts of a cloud and our hosts: the same machines, registered twice.

CloudStack and we each have an id for a hypervisor.  They are told to be the same by the address
that they are managed at, or by the name; two that fit are a doubt, and a doubt is no host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sendense import clock
from sendense.catalog.status import SILENT_AFTER
from sendense.errors import NotFound, Unavailable
from sendense.model.cloud import Cloud, CloudHost, CloudInstance, CloudKind, CloudPool
from sendense.model.fleet import Host, HostHealth
from sendense.model.places import Place, file_in, place_of
from sendense.workflows.managed.estate import Estate

_ANY = "any-volume"
"""A name to ask a pool for its folder with."""


@dataclass(frozen=True)
class KnownHost:
    """A hypervisor of a cloud, and what we have there."""

    cloud_host: CloudHost
    host: Host | None
    """None where it was not registered with us yet."""
    pools: tuple[str, ...]
    """Directories of its pools, for the agent's setting of that name."""


def hosts_of(estate: Estate, cloud_id: str) -> tuple[KnownHost, ...]:
    """Give the hypervisors of a cloud by name, also those that cannot be used now."""
    ours = estate.catalog.hosts.every()
    pools = pools_of(estate, cloud_id)
    found = [
        KnownHost(each, same_host(each, ours), folders_on(each, pools.values()))
        for each in estate.catalog.inventory.present(cloud_id, CloudKind.HOST)
        if isinstance(each, CloudHost) and each.kind == "Routing"
    ]
    return tuple(found)


def clouds_of_host(estate: Estate, host_id: str) -> tuple[Cloud, ...]:
    """Give the enabled clouds that a host of ours is a host of, or may be: they were never read."""
    host = estate.catalog.hosts.get(host_id)
    found = []
    for cloud in estate.catalog.clouds.every():
        theirs = estate.catalog.inventory.present(cloud.id, CloudKind.HOST)
        known = [each for each in theirs if isinstance(each, CloudHost)]
        same = any(host.address == each.address or host.name == each.name for each in known)
        if cloud.enabled and (same or not known):
            found.append(cloud)
    return tuple(found)


def pools_of(estate: Estate, cloud_id: str) -> Mapping[str, CloudPool]:
    """Give the primary storage of a cloud by id."""
    present = estate.catalog.inventory.present(cloud_id, CloudKind.POOL)
    return {each.id: each for each in present if isinstance(each, CloudPool)}


def same_host(cloud_host: CloudHost, ours: Iterable[Host]) -> Host | None:
    """Give our host that a hypervisor of a cloud is; none where none or two fit."""
    known = tuple(ours)
    for fits in (
        [host for host in known if host.address == cloud_host.address],
        [host for host in known if host.name == cloud_host.name],
    ):
        if fits:
            return fits[0] if len(fits) == 1 else None
    return None


def folders_on(cloud_host: CloudHost, pools: Iterable[CloudPool]) -> tuple[str, ...]:
    """Give the directories of the pools that a hypervisor opens; those without files are none."""
    found = []
    for pool in pools:
        place = file_in(pool, _ANY)
        if isinstance(place, Place) and _reaches(cloud_host, pool):
            found.append(place.path.removesuffix(f"/{_ANY}"))
    return tuple(sorted(set(found)))


def _reaches(cloud_host: CloudHost, pool: CloudPool) -> bool:
    if pool.zone_id and pool.zone_id != cloud_host.zone_id:
        return False
    if pool.scope == "HOST":
        # A pool of one host is named by its address.
        return pool.address in ("", cloud_host.address, cloud_host.name)
    return not pool.cluster_id or pool.cluster_id == cloud_host.cluster_id


def host_running(estate: Estate, cloud_id: str, instance: CloudInstance) -> str:
    """Give the id of our host that an instance runs on, as its cloud says at this moment."""
    known = {each.cloud_host.id: each for each in hosts_of(estate, cloud_id)}
    found = known.get(instance.host_id)
    if found is None:
        raise Unavailable(
            f"the cloud does not say on which host {instance.shown_name} runs, or the host is new",
            hint="read the cloud again (sendense cloud sync); its key has to be of type Admin",
        )
    if found.host is None or found.host.enrolled_at is None:
        raise NotFound(
            f"{instance.shown_name} runs on {found.cloud_host.name}, which has no agent",
            hint="sendense host deploy --cloud NAME brings agents to all hosts of the cloud",
        )
    return found.host.id


def host_reaching(estate: Estate, cloud_id: str, instance: CloudInstance) -> str:
    """Give the id of our host that is the best to reach the volumes of an instance that is off."""
    return hosts_reaching(estate, cloud_id, instance)[0]


def hosts_reaching(estate: Estate, cloud_id: str, instance: CloudInstance) -> tuple[str, ...]:
    """Give the ids of our hosts that can reach the volumes of an instance that is off.

    Its last host is before the others: there the storage is mounted for certain.
    """
    pools = pools_of(estate, cloud_id)
    wanted = [place_of(volume, pools.get(volume.pool_id)) for volume in instance.volumes]
    folders = {place.path.rpartition("/")[0] for place in wanted if isinstance(place, Place)}
    found = hosts_with(estate, cloud_id, folders, whose=instance.id, last=instance.last_host_id)
    if found:
        return found
    raise NotFound(
        f"no host with an agent reaches the storage of {instance.shown_name}",
        hint="sendense cloud hosts NAME shows which hosts have an agent, and their pools",
    )


def hosts_with(
    estate: Estate, cloud_id: str, folders: Collection[str], *, whose: str, last: str = ""
) -> tuple[str, ...]:
    """Give the ids of our hosts that have the directories of pools, the best first.

    Those whose agent is heard of come before those that are silent, and then the host with the
    cloud's id ``last``; the others in an order that each instance has its own of, so that not one
    host does it all.
    """
    wanted = set(folders)
    fitting = [
        each
        for each in hosts_of(estate, cloud_id)
        if each.host is not None
        and each.host.enrolled_at is not None
        and each.host.revoked_at is None
        and each.cloud_host.usable
        and wanted <= set(each.pools)
    ]
    now = clock.now()
    ranked = sorted(
        (
            _silent(each.host, now),
            each.cloud_host.id != last,
            hashlib.sha256(f"{whose} {each.host.id}".encode()).digest(),
            each.host.id,
        )
        for each in fitting
        if each.host is not None
    )
    return tuple(host_id for *_, host_id in ranked)


def _silent(host: Host, now: datetime) -> bool:
    paused = host.paused_until is not None and host.paused_until > now
    return paused or host.health(now, SILENT_AFTER) is HostHealth.SILENT
