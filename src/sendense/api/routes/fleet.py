"""Hosts, their agents, and the instances on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from sendense import clock
from sendense.api.access import ADMIN, EVERYBODY, caller_of, reads, writes
from sendense.api.fleet_shapes import (
    AgentShape,
    HostChange,
    HostShape,
    InstanceInFull,
    InstanceShape,
    NewHost,
    agent_shape,
    host_shape,
    instance_shape,
    protection_shape,
)
from sendense.api.guard import GuardedRoute
from sendense.api.services import ServicesHere
from sendense.api.shapes import IdAsked, IdInPath, PageOf, Search, paging
from sendense.catalog.status import judge_one
from sendense.model.access import Area
from sendense.model.fleet import Host, Instance, Transport
from sendense.model.identity import new_id
from sendense.model.machine import PowerState
from sendense.model.page import Page, Paging, next_fitting
from sendense.model.protection import Protection

router = APIRouter(route_class=GuardedRoute, tags=["hosts and instances"])

At = Annotated[Paging, Depends(paging)]


@router.get("/hosts")
@reads(Area.HOSTS)
def list_hosts(
    services: ServicesHere,
    at: At,
    search: Search = None,
    transport: Annotated[Transport | None, Query()] = None,
    revoked: Annotated[bool | None, Query()] = None,
) -> PageOf[HostShape]:
    """List hosts by name."""
    page = services.catalog.hosts.page(at, search=search, transport=transport, revoked=revoked)
    now = clock.now()
    return PageOf(
        items=[host_shape(host, now) for host in page.items], next_cursor=page.next_cursor
    )


@router.post("/hosts", status_code=201)
@writes(Area.HOSTS)
def create_host(services: ServicesHere, asked: NewHost, request: Request) -> HostShape:
    """Register a host. Deploying its agent enrols it."""
    now = clock.now()
    host = Host(new_id(now), asked.name, asked.address, asked.transport, now)
    services.catalog.hosts.add(host)
    request.state.subject = host.id
    return host_shape(host, now)


@router.get("/hosts/{host_id}")
@reads(Area.HOSTS)
def show_host(services: ServicesHere, host_id: IdInPath) -> HostShape:
    """Show a host."""
    return host_shape(services.catalog.hosts.get(host_id), clock.now())


@router.patch("/hosts/{host_id}")
@writes(Area.HOSTS)
def change_host(services: ServicesHere, host_id: IdInPath, asked: HostChange) -> HostShape:
    """Change a host."""
    host = services.catalog.hosts.edit(host_id, **asked.model_dump())
    return host_shape(host, clock.now())


@router.delete("/hosts/{host_id}", status_code=204)
@writes(Area.HOSTS, ADMIN)
def remove_host(services: ServicesHere, host_id: IdInPath) -> Response:
    """Forget a host. Its instances and their points stay; remove its agent first."""
    services.catalog.hosts.remove(host_id)
    services.hosts.changed()
    return Response(status_code=204)


@router.post("/hosts/{host_id}/revoke")
@writes(Area.HOSTS, ADMIN)
def revoke_host(services: ServicesHere, host_id: IdInPath) -> HostShape:
    """Revoke the key of a host's agent: from now on it opens nothing."""
    host = services.catalog.hosts.revoke(host_id, clock.now())
    services.hosts.changed()
    return host_shape(host, clock.now())


@router.get("/agents")
@reads(Area.HOSTS)
def list_agents(services: ServicesHere, at: At, search: Search = None) -> PageOf[AgentShape]:
    """List agents with their health, as they described themselves last."""
    page = services.catalog.hosts.page(at, search=search)
    now = clock.now()
    agents = [agent_shape(host, now) for host in page.items]
    return PageOf(items=agents, next_cursor=page.next_cursor)


@router.get("/agents/cloudstack")
@reads(Area.HOSTS)
def list_agents_cloudstack(
    services: ServicesHere, at: At, search: Search = None
) -> PageOf[AgentShape]:
    """List the agents on CloudStack's KVM hosts: the same as `/agents`."""
    return list_agents(services, at, search)


@router.get("/instances")
@reads(Area.INSTANCES, EVERYBODY)
def list_instances(
    services: ServicesHere,
    at: At,
    request: Request,
    search: Search = None,
    host_id: IdAsked = None,
    power: Annotated[PowerState | None, Query()] = None,
    gone: Annotated[bool | None, Query(description="Only those that no host shows now.")] = None,
    protection: Annotated[Protection | None, Query()] = None,
) -> PageOf[InstanceShape]:
    """List instances by name; a tenant sees its own.

    With `protection` a part may have fewer items than `limit` while there are more.
    """
    verdicts = {each.instance.uuid: each for each in services.summaries.get().verdicts}
    grant = caller_of(request).grant

    def read(paging: Paging) -> Page[Instance]:
        return services.catalog.instances.page(
            paging, search=search, host_id=host_id, power=power, gone=gone, grant=grant
        )

    def stands_so(instance: Instance) -> bool:
        verdict = verdicts.get(instance.uuid)
        return verdict is not None and verdict.protection is protection

    page = read(at) if protection is None else next_fitting(read, at, stands_so)
    items = [
        instance_shape(each, verdicts[each.uuid].instance.cloud if each.uuid in verdicts else None)
        for each in page.items
    ]
    return PageOf(items=items, next_cursor=page.next_cursor)


@router.get("/instances/{uuid}")
@reads(Area.INSTANCES, EVERYBODY)
def show_instance(services: ServicesHere, uuid: IdInPath, request: Request) -> InstanceInFull:
    """Show an instance, and how well it is protected."""
    grant = caller_of(request).grant
    instance = services.catalog.instances.get(uuid, grant)
    verdict = judge_one(services.catalog, instance, clock.now())
    return InstanceInFull(
        **instance_shape(instance, verdict.instance.cloud).model_dump(),
        protection=protection_shape(verdict, for_tenant=grant is not None),
    )
