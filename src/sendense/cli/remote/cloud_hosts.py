"""The hosts of a cloud that an agent is to be brought to, registered where they are not yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import Remote
from sendense.errors import AlreadyExists, NotFound, Rejected
from sendense.model.fleet import HostHealth

_HAVE_ONE = frozenset({HostHealth.OK.value, HostHealth.WARNING.value, HostHealth.FAILED.value})


@dataclass(frozen=True)
class HostsOfCloud:
    """Hosts as the server knows them, and the folders of their pools by id."""

    hosts: tuple[Doc, ...]
    pools: Mapping[str, tuple[str, ...]]


def hosts_of_cloud(remote: Remote, cloud: str, *, register: bool) -> HostsOfCloud:
    """Give the usable hosts of a cloud on which no agent answers, and say why others are not."""
    found = remote.names.cloud(cloud)
    known = list(remote.client.every(f"/clouds/{found['id']}/hosts"))
    if not any(each["usable"] for each in known):
        raise NotFound(
            f"no usable host of the cloud {found['name']} is known",
            hint="'sendense cloud sync' reads it, and 'sendense cloud hosts' lists them",
        )
    hosts, pools = [], {}
    for each in known:
        if not each["usable"]:
            remote.note(f"{each['name']}: left out, {each['why_not']}")
            continue
        if each["health"] in _HAVE_ONE:
            remote.note(f"{each['name']}: has an agent; 'sendense host upgrade' replaces it")
            continue
        host = _registered(remote, each, register=register)
        hosts.append(host)
        pools[str(host["id"])] = tuple(str(pool) for pool in each["pools"])
    return HostsOfCloud(tuple(hosts), {key: value for key, value in pools.items() if value})


def _registered(remote: Remote, host: Doc, *, register: bool) -> Doc:
    if host["host_id"] is not None:
        return remote.client.get(f"/hosts/{host['host_id']}")
    body = {"name": host["name"], "address": host["address"] or host["name"]}
    if not register:
        # Only to be looked at: it gets an id when it is deployed.
        return Doc(body, id=f"not-registered-{host['id']}"[:64])
    try:
        made = remote.client.post("/hosts", body)
    except AlreadyExists:
        raise Rejected(
            f"another host is called {host['name']}, with an address that the cloud does not have",
            hint="give that host the address that the cloud names: 'sendense cloud hosts' shows it",
        ) from None
    remote.note(f"{host['name']}: registered as {made['id']}")
    return made
