"""Clouds: which are protected, how they answer, and what is in them save for instances."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import SecretStr

from sendense import clock
from sendense.api.access import ADMIN, caller_of, reads, writes
from sendense.api.cloud_shapes import (
    ChangeShape,
    CloudChange,
    CloudCheckShape,
    CloudHostShape,
    CloudShape,
    NewCloud,
    ObjectShape,
    RoleShape,
    WebhookAsked,
    cloud_host_shape,
    cloud_shape,
    object_shape,
)
from sendense.api.guard import GuardedRoute
from sendense.api.job_requests import request_of, submit
from sendense.api.job_shapes import JobOptions, JobShape
from sendense.api.services import ServicesHere
from sendense.api.shapes import IdAsked, IdInPath, PageOf, Search, TextAsked, paging
from sendense.errors import Rejected
from sendense.model.access import Area
from sendense.model.cloud import Cloud, CloudHost, CloudKeys, CloudKind, CloudPool
from sendense.model.cloud import CloudChange as Change
from sendense.model.cloud_check import CloudCheck
from sendense.model.identity import new_id
from sendense.model.job import Job, JobKind
from sendense.model.page import Page, Paging
from sendense.model.secret import Secret

router = APIRouter(route_class=GuardedRoute, tags=["clouds"])

At = Annotated[Paging, Depends(paging)]
RoleName = Annotated[
    str, Query(pattern=r"^[A-Za-z0-9._ -]{1,100}$", description="What the role is to be called.")
]
ForRestores = Annotated[bool, Query(description="With what restores need.")]
ForWebhooks = Annotated[bool, Query(description="With what webhooks need.")]
AcceptGone = Annotated[bool, Query(description="What it does not show is gone indeed.")]
_ROLE = "sendense"


@router.get("/clouds")
@reads(Area.CLOUDS)
def list_clouds(
    services: ServicesHere,
    at: At,
    search: Search = None,
    enabled: Annotated[bool | None, Query()] = None,
) -> PageOf[CloudShape]:
    """List clouds by name."""
    page = services.catalog.clouds.page(at, search=search, enabled=enabled)
    items = [cloud_shape(cloud) for cloud in page.items]
    return PageOf(items=items, next_cursor=page.next_cursor)


@router.post("/clouds", status_code=201)
@writes(Area.CLOUDS, ADMIN)
def create_cloud(services: ServicesHere, asked: NewCloud, request: Request) -> CloudShape:
    """Know a cloud. It is asked for nothing yet; `/clouds/{cloud_id}/check` does."""
    now = clock.now()
    endpoint = services.clouds.place(asked.endpoint, asked.ca_pem)
    cloud = Cloud(new_id(now), asked.name, endpoint, now, asked.ca_pem, enabled=asked.enabled)
    keys = CloudKeys(asked.api_key, _secret(asked.secret_key))
    keys = _with_restore_key(keys, asked.restore_api_key, asked.restore_secret_key)
    cloud = services.catalog.clouds.add(cloud, keys)
    request.state.subject = cloud.id
    return cloud_shape(cloud)


@router.get("/clouds/{cloud_id}")
@reads(Area.CLOUDS)
def show_cloud(services: ServicesHere, cloud_id: IdInPath) -> CloudShape:
    """Show a cloud, and how it answered last."""
    return cloud_shape(services.catalog.clouds.get(cloud_id))


@router.patch("/clouds/{cloud_id}")
@writes(Area.CLOUDS, ADMIN)
def change_cloud(services: ServicesHere, cloud_id: IdInPath, asked: CloudChange) -> CloudShape:
    """Change a cloud, or its keys."""
    clouds = services.catalog.clouds
    known = clouds.get(cloud_id)
    endpoint, ca_pem = asked.endpoint, asked.ca_pem
    if endpoint is not None or ca_pem is not None:
        ca = known.ca_pem if ca_pem is None else ca_pem
        endpoint = services.clouds.place(endpoint or known.endpoint, ca)
    before = clouds.keys(cloud_id)
    after = _keys_after(before, asked)
    clouds.edit(cloud_id, name=asked.name, endpoint=endpoint, ca_pem=ca_pem, enabled=asked.enabled)
    if after != before:
        clouds.set_keys(cloud_id, after)
    return cloud_shape(clouds.get(cloud_id))


@router.delete("/clouds/{cloud_id}", status_code=204)
@writes(Area.CLOUDS, ADMIN)
def remove_cloud(services: ServicesHere, cloud_id: IdInPath) -> Response:
    """Forget a cloud, its inventory and its tenants. In it nothing is changed; points stay."""
    services.catalog.clouds.remove(cloud_id, clock.now())
    return Response(status_code=204)


@router.post("/clouds/{cloud_id}/check", response_model=CloudCheckShape)
@reads(Area.CLOUDS)
def check_cloud(services: ServicesHere, cloud_id: IdInPath) -> CloudCheck:
    """Ask a cloud how it is, and what its keys may; what is missing is named, with what for."""
    services.catalog.clouds.get(cloud_id)
    return services.clouds.check(cloud_id)


@router.post("/clouds/{cloud_id}/sync", status_code=202, response_model=JobShape)
@writes(Area.CLOUDS)
def sync_cloud(
    services: ServicesHere,
    cloud_id: IdInPath,
    request: Request,
    out: Response,
    accept_gone: AcceptGone = False,
) -> Job:
    """Read a cloud whole, now. It is a job; without it, clouds are read by themselves."""
    cloud = services.catalog.clouds.get(cloud_id)
    content: dict[str, object] = {"cloud": cloud.id}
    if accept_gone:
        content["accept_gone"] = True
    wanted = request_of(JobKind.DISCOVER, cloud.id, content, JobOptions(), caller_of(request))
    return submit(services, wanted, request, out)


@router.get("/cloudstack/role")
@reads(Area.CLOUDS)
def show_role(
    services: ServicesHere,
    name: RoleName = _ROLE,
    restore: ForRestores = False,
    webhooks: ForWebhooks = False,
) -> RoleShape:
    """Show the commands that make a role for our keys in any cloud."""
    commands = services.clouds.role(name, restore=restore, webhooks=webhooks)
    return RoleShape(name=name, commands=commands)


@router.get("/clouds/{cloud_id}/role")
@reads(Area.CLOUDS)
def show_cloud_role(
    services: ServicesHere,
    cloud_id: IdInPath,
    name: RoleName = _ROLE,
    restore: ForRestores = False,
    webhooks: ForWebhooks = False,
) -> RoleShape:
    """Show the commands that make a role for our keys, without what this cloud does not have."""
    services.catalog.clouds.get(cloud_id)
    commands = services.clouds.role(name, restore=restore, webhooks=webhooks, cloud_id=cloud_id)
    return RoleShape(name=name, commands=commands)


@router.post("/clouds/{cloud_id}/webhook")
@writes(Area.CLOUDS, ADMIN)
def set_webhook(services: ServicesHere, cloud_id: IdInPath, asked: WebhookAsked) -> CloudShape:
    """Have a cloud send its events here, signed: changes are then seen at once."""
    services.catalog.clouds.get(cloud_id)
    services.clouds.webhook(cloud_id, asked.url)
    return cloud_shape(services.catalog.clouds.get(cloud_id))


@router.delete("/clouds/{cloud_id}/webhook", status_code=204)
@writes(Area.CLOUDS, ADMIN)
def remove_webhook(services: ServicesHere, cloud_id: IdInPath) -> Response:
    """Have a cloud send its events here no longer."""
    services.catalog.clouds.get(cloud_id)
    services.clouds.webhook(cloud_id, None)
    return Response(status_code=204)


@router.get("/clouds/{cloud_id}/objects")
@reads(Area.CLOUDS)
def list_objects(
    services: ServicesHere,
    cloud_id: IdInPath,
    at: At,
    kind: Annotated[CloudKind, Query(description="Which: `zone`, `pool`, `network` and so on.")],
    search: Search = None,
    zone_id: Annotated[IdAsked, Query(description="Only in this zone.")] = None,
    gone: Annotated[bool | None, Query(description="Only what the cloud has no longer.")] = None,
) -> PageOf[ObjectShape]:
    """List what is around the instances of a cloud, by name: zones, pools, networks and so on."""
    services.catalog.clouds.get(cloud_id)
    page = services.catalog.inventory.objects(
        cloud_id, kind, at, search=search, zone_id=zone_id, gone=gone
    )
    items = [object_shape(entry) for entry in page.items]
    return PageOf(items=items, next_cursor=page.next_cursor)


@router.get("/clouds/{cloud_id}/hosts")
@reads(Area.CLOUDS)
def list_cloud_hosts(
    services: ServicesHere, cloud_id: IdInPath, at: At, search: Search = None
) -> PageOf[CloudHostShape]:
    """List the hosts of a cloud by name, whether they can be used, and which have an agent."""
    services.catalog.clouds.get(cloud_id)
    inventory = services.catalog.inventory
    page = inventory.objects(cloud_id, CloudKind.HOST, at, search=search, gone=False)
    present = inventory.present(cloud_id, CloudKind.POOL)
    pools = [pool for pool in present if isinstance(pool, CloudPool)]
    ours, now = services.catalog.hosts.every(), clock.now()
    items = [
        cloud_host_shape(entry.value, ours, pools, now)
        for entry in page.items
        if isinstance(entry.value, CloudHost)
    ]
    return PageOf(items=items, next_cursor=page.next_cursor)


@router.get("/clouds/{cloud_id}/changes", response_model=PageOf[ChangeShape])
@reads(Area.CLOUDS)
def list_changes(
    services: ServicesHere,
    cloud_id: IdInPath,
    at: At,
    kind: Annotated[TextAsked, Query(description="`instance`, or a kind of object.")] = None,
    object_id: Annotated[IdAsked, Query(description="Only of this.")] = None,
    what: Annotated[TextAsked, Query(description="`appeared`, `changed` or `gone`.")] = None,
) -> Page[Change]:
    """List what appeared in a cloud, changed and went, newest first."""
    services.catalog.clouds.get(cloud_id)
    return services.catalog.cloud_changes.page(
        at, cloud_id=cloud_id, kind=kind, object_id=object_id, what=what
    )


def _keys_after(keys: CloudKeys, asked: CloudChange) -> CloudKeys:
    """Give the keys that a cloud is to have; each is given with its secret or not at all."""
    if (asked.api_key is None) != (asked.secret_key is None):
        raise Rejected("a key and its secret are changed together", hint="give both")
    if asked.api_key is not None and asked.secret_key is not None:
        keys = replace(keys, api_key=asked.api_key, secret=_secret(asked.secret_key))
    if asked.forget_restore_key:
        if asked.restore_api_key is not None:
            raise Rejected("the key for restores cannot be set and forgotten at once")
        return replace(keys, restore_api_key=None, restore_secret=None)
    return _with_restore_key(keys, asked.restore_api_key, asked.restore_secret_key)


def _with_restore_key(keys: CloudKeys, api_key: str | None, secret: SecretStr | None) -> CloudKeys:
    if (api_key is None) != (secret is None):
        raise Rejected("the key for restores and its secret are given together", hint="give both")
    if api_key is None or secret is None:
        return keys
    return replace(keys, restore_api_key=api_key, restore_secret=_secret(secret))


def _secret(text: SecretStr) -> Secret:
    return Secret(text.get_secret_value())
