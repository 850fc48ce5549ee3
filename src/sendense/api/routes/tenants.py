"""Tenants: accounts, domains and projects of clouds, with their repositories and quotas."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from sendense import clock
from sendense.api.access import ADMIN, OPERATORS, TENANTS, caller_of, reads, writes
from sendense.api.guard import GuardedRoute
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import (
    Asked,
    Id,
    IdAsked,
    IdInPath,
    Name,
    PageOf,
    Search,
    Shape,
    Text,
    paging,
)
from sendense.catalog.owners import Named, proposed, scope_of
from sendense.errors import NotFound
from sendense.model.access import Area, Grant
from sendense.model.cloud import CloudKind, CloudProject
from sendense.model.identity import new_id
from sendense.model.page import Paging
from sendense.model.tenant import Tenant, Usage

router = APIRouter(route_class=GuardedRoute, tags=["tenants"])

At = Annotated[Paging, Depends(paging)]
Quota = Annotated[int, Field(le=1 << 62)]


class NewTenant(Asked):
    """A domain, an account or a project of a cloud that is to be a tenant."""

    name: Name = Field(examples=["acme"])
    """Its own."""
    cloud_id: Id
    domain: Text = Field(default="", examples=["ROOT/customers/acme"])
    """Path or id; alone: all that is in it and below."""
    account: Text = ""
    """Name of one account; what projects own is not the account's."""
    project: Text = ""
    """Name or id of a project."""
    repository_id: Id | None = None
    """Where its points go, whatever policies say; with a passphrase of its own, under a key of its
    own."""
    quota_bytes: Annotated[Quota, Field(ge=0)] | None = None
    """What its points may store at most; none: any number."""


class TenantChange(Asked):
    """What is to be different; what is left out stays."""

    name: Name | None = None
    repository_id: Id | Literal[""] | None = None
    """Of the points to come; an empty text: where policies say."""
    quota_bytes: Annotated[Quota, Field(ge=-1)] | None = None
    """-1: any number."""


class AllAsked(Asked):
    """Whether to make tenants of all, or only to show them."""

    dry_run: bool = False
    """Make none."""


class TenantShape(Shape):
    """A tenant."""

    id: str
    name: str
    cloud_id: str
    cloud: str
    """Name of its cloud."""
    domain_path: str
    domain_id: str
    account: str
    account_id: str
    project_id: str
    project: str
    """Name of its project, where the cloud has it."""
    repository_id: str | None
    quota_bytes: int | None


class TenantInFull(TenantShape):
    """A tenant, and what it uses."""

    stored_bytes: int
    """By all points of its instances, in all repositories; also of those that are gone."""


class OwnTenant(Shape):
    """What is agreed with whoever asks, and what of it is used."""

    name: str
    domain_path: str
    """Of the domain, or of the account's."""
    account: str
    """Empty for a domain with all below it, and for a project."""
    project: str
    """Name of the project."""
    quota_bytes: int | None
    """What its points may store at most; null: any number."""
    stored_bytes: int
    left_bytes: int | None
    """What of the quota is left; null without one."""


class OwnUsage(Shape):
    """What somebody's instances have stored, and what they may."""

    instances: int
    """Those that have points, also those that are gone."""
    points: int
    stored_bytes: int
    """By all of these points, in all repositories."""
    tenants: list[OwnTenant]
    """The account, the domain and the projects of whoever asks, as far as something is agreed with
    them."""


class TenantsMade(Shape):
    """Tenants that were made, or would be."""

    dry_run: bool
    tenants: list[TenantShape]


@router.get("/tenants")
@reads(Area.TENANTS, OPERATORS)
def list_tenants(
    services: ServicesHere,
    at: At,
    search: Search = None,
    cloud_id: Annotated[IdAsked, Query(description="Only of this cloud.")] = None,
    repository_id: Annotated[IdAsked, Query(description="Only with this repository.")] = None,
) -> PageOf[TenantInFull]:
    """List tenants by name, with what each stores."""
    page = services.catalog.tenants.page(
        at, search=search, cloud_id=cloud_id, repository_id=repository_id
    )
    items = [_in_full(services, tenant) for tenant in page.items]
    return PageOf(items=items, next_cursor=page.next_cursor)


@router.post("/tenants", status_code=201)
@writes(Area.TENANTS, ADMIN)
def create_tenant(services: ServicesHere, asked: NewTenant, request: Request) -> TenantInFull:
    """Make a tenant of a domain, an account or a project that its cloud was seen to have."""
    catalog = services.catalog
    catalog.clouds.get(asked.cloud_id)
    named = Named(asked.domain, asked.account, asked.project)
    scope = scope_of(catalog.inventory, asked.cloud_id, named)
    if asked.repository_id is not None:
        catalog.repositories.get(asked.repository_id)
    tenant = Tenant(new_id(clock.now()), asked.name, scope, asked.repository_id, asked.quota_bytes)
    catalog.tenants.add(tenant)
    request.state.subject = tenant.id
    return _in_full(services, tenant)


@router.post("/clouds/{cloud_id}/tenants")
@writes(Area.TENANTS, ADMIN)
def create_all_tenants(services: ServicesHere, cloud_id: IdInPath, asked: AllAsked) -> TenantsMade:
    """Make a tenant of each account and each project of a cloud that is none yet.

    Accounts of root administrators are left out. With `dry_run` they are shown, and not made.
    """
    catalog, now = services.catalog, clock.now()
    cloud = catalog.clouds.get(cloud_id)
    found = proposed(catalog.inventory, cloud, catalog.tenants.every())
    made = found if asked.dry_run else [replace(each, id=new_id(now)) for each in found]
    if not asked.dry_run:
        catalog.tenants.add_all(made)
    names = _project_names(services, cloud_id)
    shapes = [_shape(each, cloud.name, names.get(each.scope.project_id, "")) for each in made]
    return TenantsMade(dry_run=asked.dry_run, tenants=shapes)


@router.get("/tenants/{tenant_id}")
@reads(Area.TENANTS, OPERATORS)
def show_tenant(services: ServicesHere, tenant_id: IdInPath) -> TenantInFull:
    """Show a tenant, and what it stores."""
    return _in_full(services, services.catalog.tenants.get(tenant_id))


@router.get("/usage")
@reads(Area.TENANTS, TENANTS)
def show_usage(services: ServicesHere, request: Request) -> OwnUsage:
    """Show a tenant its own quotas, and what it stores."""
    grant = caller_of(request).grant or Grant()
    catalog = services.catalog
    holding = catalog.points.holding(grant=grant)
    return OwnUsage(
        instances=holding.machines,
        points=holding.points,
        stored_bytes=holding.stored_bytes,
        tenants=[_own(services, usage) for usage in catalog.tenants.own(grant)],
    )


def _own(services: Services, usage: Usage) -> OwnTenant:
    tenant = usage.tenant
    return OwnTenant(
        name=tenant.name,
        domain_path=tenant.scope.domain_path,
        account=tenant.scope.account,
        project=_project_name(services, tenant),
        quota_bytes=tenant.quota_bytes,
        stored_bytes=usage.stored_bytes,
        left_bytes=usage.left_bytes,
    )


@router.patch("/tenants/{tenant_id}")
@writes(Area.TENANTS, ADMIN)
def change_tenant(services: ServicesHere, tenant_id: IdInPath, asked: TenantChange) -> TenantInFull:
    """Change a tenant's name, repository or quota. Points that are stored stay where they are."""
    services.catalog.tenants.get(tenant_id)
    if asked.repository_id:
        services.catalog.repositories.get(asked.repository_id)
    return _in_full(services, services.catalog.tenants.edit(tenant_id, **asked.model_dump()))


@router.delete("/tenants/{tenant_id}", status_code=204)
@writes(Area.TENANTS, ADMIN)
def remove_tenant(services: ServicesHere, tenant_id: IdInPath) -> Response:
    """Have a tenant be none. Its instances, its points and its users stay."""
    services.catalog.tenants.remove(tenant_id)
    return Response(status_code=204)


def _in_full(services: Services, tenant: Tenant) -> TenantInFull:
    catalog = services.catalog
    cloud = catalog.clouds.get(tenant.scope.cloud_id).name
    shape = _shape(tenant, cloud, _project_name(services, tenant))
    return TenantInFull(**shape.model_dump(), stored_bytes=catalog.tenants.stored_bytes(tenant))


def _project_name(services: Services, tenant: Tenant) -> str:
    scope = tenant.scope
    if not scope.project_id:
        return ""
    inventory = services.catalog.inventory
    try:
        return inventory.object(scope.cloud_id, CloudKind.PROJECT, scope.project_id).value.name
    except NotFound:
        return ""  # The cloud was never seen to have it.


def _project_names(services: Services, cloud_id: str) -> dict[str, str]:
    found = services.catalog.inventory.present(cloud_id, CloudKind.PROJECT)
    return {each.id: each.name for each in found if isinstance(each, CloudProject)}


def _shape(tenant: Tenant, cloud: str, project: str) -> TenantShape:
    return TenantShape(
        id=tenant.id,
        name=tenant.name,
        cloud=cloud,
        project=project,
        repository_id=tenant.repository_id,
        quota_bytes=tenant.quota_bytes,
        **vars(tenant.scope),
    )
