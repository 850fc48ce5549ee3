"""Instances of clouds: as CloudStack has them, and how they are protected here."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from sendense import clock
from sendense.api.access import EVERYBODY, caller_of, reads
from sendense.api.cloud_shapes import ChangeShape
from sendense.api.cloud_sight import Sight
from sendense.api.cloud_vm_shapes import PolicyReason, VmInFull, VmPoints, VmShape, vm_shape
from sendense.api.guard import GuardedRoute
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import IdAsked, IdInPath, PageOf, TextAsked, paging
from sendense.catalog.catalog import Catalog
from sendense.catalog.cloud_changes import INSTANCE
from sendense.catalog.inventory_reading import CloudInstanceFilter, InstanceEntry
from sendense.catalog.points import PointFilter
from sendense.catalog.status import judge_one
from sendense.model.access import Area
from sendense.model.fleet import InstanceName
from sendense.model.page import LARGEST_LIMIT, Page, Paging, next_fitting
from sendense.model.point import PointState
from sendense.model.protection import Protection, ProtectionVerdict

router = APIRouter(route_class=GuardedRoute, tags=["instances of clouds"])

At = Annotated[Paging, Depends(paging)]
_HISTORY = 20


def _filter(
    cloud_id: Annotated[IdAsked, Query(description="Only of this cloud.")] = None,
    search: Annotated[TextAsked, Query(description="A part of any of its names; its id.")] = None,
    state: Annotated[TextAsked, Query(description="CloudStack's: `Running`, `Stopped`.")] = None,
    zone: Annotated[TextAsked, Query(description="Name or id of its zone.")] = None,
    domain: Annotated[
        TextAsked, Query(description="Path of the owner's domain, with all below it; or its id.")
    ] = None,
    account: Annotated[TextAsked, Query(description="Name of the owner's account.")] = None,
    project: Annotated[TextAsked, Query(description="Name or id of the owner's project.")] = None,
    tag: Annotated[TextAsked, Query(description="`key`, or `key=value`.")] = None,
    offering: Annotated[TextAsked, Query(description="Name of its offering.")] = None,
    host: Annotated[IdAsked, Query(description="CloudStack's id of the host.")] = None,
    gone: Annotated[
        bool | None, Query(description="Only what its cloud has no longer, or still has.")
    ] = None,
) -> CloudInstanceFilter:
    return CloudInstanceFilter(
        cloud_id=cloud_id, search=search, state=state, zone=zone, domain=domain, account=account,
        project=project, tag=tag, offering=offering, host_id=host, gone=gone,
    )  # fmt: skip


@router.get("/cloudstack/vms")
@reads(Area.INSTANCES, EVERYBODY)
def list_vms(
    services: ServicesHere,
    at: At,
    request: Request,
    wanted: Annotated[CloudInstanceFilter, Depends(_filter)],
    protection: Annotated[Protection | None, Query()] = None,
) -> PageOf[VmShape]:
    """List the instances of clouds by name; a tenant sees its own.

    With `protection` a part may have fewer items than `limit` while there are more.
    """
    grant = caller_of(request).grant
    wanted = replace(wanted, grant=grant, host_id=None if grant is not None else wanted.host_id)
    verdicts = {each.instance.uuid: each for each in services.summaries.get().verdicts}
    page = _part(services, at, wanted, protection, verdicts)
    sight, for_tenant = Sight(services.catalog, clock.now()), grant is not None
    items = [
        vm_shape(
            entry,
            sight.clouds.get(entry.cloud_id, ""),
            None if entry.gone_at is not None else verdicts.get(entry.instance.id),
            sight.flags(entry, for_tenant=for_tenant),
            for_tenant=for_tenant,
        )
        for entry in page.items
    ]
    return PageOf(items=items, next_cursor=page.next_cursor)


@router.get("/cloudstack/vms/{vm_id}")
@reads(Area.INSTANCES, EVERYBODY)
def show_vm(services: ServicesHere, vm_id: IdInPath, request: Request) -> VmInFull:
    """Show an instance of a cloud: its flags, which policies take it and why, its points."""
    catalog, grant, now = services.catalog, caller_of(request).grant, clock.now()
    entry = catalog.inventory.instance(vm_id, grant)
    known = catalog.instances.get(vm_id, grant)
    verdict = None if known.gone_at is not None else judge_one(catalog, known, now)
    sight, for_tenant = Sight(catalog, now), grant is not None
    shape = vm_shape(
        entry,
        sight.clouds.get(entry.cloud_id, ""),
        verdict,
        sight.flags(entry, for_tenant=for_tenant),
        for_tenant=for_tenant,
    )
    return VmInFull(
        **shape.model_dump(),
        matched=[] if for_tenant else _reasons(catalog, catalog.instances.name(vm_id)),
        points=_points(catalog, PointFilter(machine_uuid=vm_id, grant=grant)),
        history=[] if for_tenant else _history(catalog, entry),
    )


def _part(
    services: Services,
    at: Paging,
    wanted: CloudInstanceFilter,
    protection: Protection | None,
    verdicts: dict[str, ProtectionVerdict],
) -> Page[InstanceEntry]:
    """Read a part of the list; one that a filter left nothing of is passed over."""

    def read(paging: Paging) -> Page[InstanceEntry]:
        return services.catalog.inventory.page(paging, wanted)

    def stands_so(entry: InstanceEntry) -> bool:
        verdict = verdicts.get(entry.instance.id) if entry.gone_at is None else None
        return verdict is not None and verdict.protection is protection

    return read(at) if protection is None else next_fitting(read, at, stands_so)


def _reasons(catalog: Catalog, name: InstanceName) -> list[PolicyReason]:
    policies = catalog.policies.page(Paging(LARGEST_LIMIT)).items
    reasons = [
        PolicyReason(
            id=each.id,
            name=each.name,
            enabled=each.enabled,
            taken=each.rules.match.match(name),
            why=each.rules.match.explain(name),
        )
        for each in policies
    ]
    return sorted(reasons, key=lambda each: (not each.taken, not each.enabled, each.name))


def _points(catalog: Catalog, wanted: PointFilter) -> VmPoints:
    newest = catalog.points.page(Paging(1), wanted).items
    trusted = replace(wanted, state=PointState.COMPLETE, safety=False)
    good = catalog.points.page(Paging(1), trusted).items
    return VmPoints(
        count=catalog.points.count(wanted),
        newest=newest[0].taken_at if newest else None,
        newest_good=good[0].taken_at if good else None,
    )


def _history(catalog: Catalog, entry: InstanceEntry) -> list[ChangeShape]:
    page = catalog.cloud_changes.page(
        Paging(_HISTORY), cloud_id=entry.cloud_id, kind=INSTANCE, object_id=entry.instance.id
    )
    return [ChangeShape.model_validate(each) for each in page.items]
