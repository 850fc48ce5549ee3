"""The state of everything, the audit log, settings; and what monitoring asks for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy import text

import sendense
from sendense import clock
from sendense.api.access import ADMIN, EVERYBODY, READERS, caller_of, public, reads, writes
from sendense.api.fleet_shapes import ProtectionShape, protection_shape
from sendense.api.gauges import MEDIA_TYPE
from sendense.api.guard import GuardedRoute
from sendense.api.services import ServicesHere
from sendense.api.shapes import Moment, PageOf, TextAsked, paging
from sendense.api.user_shapes import (
    AuditShape,
    GrowthShape,
    HealthShape,
    Resealed,
    SettingValue,
    StatusShape,
)
from sendense.catalog.audit import AuditFilter
from sendense.catalog.paging import page_of
from sendense.catalog.tidying import require_setting
from sendense.model.access import Area, AuditEntry, Grant, Outcome
from sendense.model.fleet import InstanceName
from sendense.model.page import Page, Paging
from sendense.model.protection import Protection

router = APIRouter(route_class=GuardedRoute, tags=["status"])
beside = APIRouter(route_class=GuardedRoute, tags=["monitoring"])
"""Not under the version of the API."""

At = Annotated[Paging, Depends(paging)]
Key = Annotated[str, Path(pattern=r"^[a-z0-9._-]{1,100}$")]


@router.get("/status")
@reads(Area.STATUS)
def show_status(services: ServicesHere) -> StatusShape:
    """Show how well everything is protected, and what needs attention."""
    summary = services.summaries.get()
    return StatusShape(
        at=summary.at,
        instances={each.value: count for each, count in summary.counts.items()},
        clouds_own=summary.clouds_own,
        attention=[protection_shape(verdict) for verdict in summary.attention],
        hosts=summary.hosts,
        jobs={state.value: count for state, count in summary.jobs.items()},
        points=summary.points,
        stored_bytes=summary.stored_bytes,
        growth=GrowthShape.model_validate(summary.growth),
    )


@router.get("/protection")
@reads(Area.STATUS, EVERYBODY)
def list_protection(
    services: ServicesHere,
    at: At,
    request: Request,
    protection: Annotated[Protection | None, Query()] = None,
) -> PageOf[ProtectionShape]:
    """List how well instances are protected, by name; a minute old at most."""
    grant = caller_of(request).grant
    found = [
        verdict
        for verdict in services.summaries.get().verdicts
        if protection in (None, verdict.protection)
        and (grant is None or _covered(grant, verdict.instance))
    ]
    page = page_of(found, lambda each: (each.instance.name, each.instance.uuid), at)
    items = [protection_shape(each, for_tenant=grant is not None) for each in page.items]
    return PageOf(items=items, next_cursor=page.next_cursor)


def _covered(grant: Grant, instance: InstanceName) -> bool:
    return grant.covers(instance.uuid, instance.name, instance.cloud)


def _audit_filter(
    who: TextAsked = None,
    action: TextAsked = None,
    subject: TextAsked = None,
    outcome: Annotated[Outcome | None, Query()] = None,
    after: Moment = None,
    before: Moment = None,
) -> AuditFilter:
    return AuditFilter(who, action, subject, outcome, after, before)


@router.get("/audit", response_model=PageOf[AuditShape])
@reads(Area.AUDIT, ADMIN)
def list_audit(
    services: ServicesHere, at: At, wanted: Annotated[AuditFilter, Depends(_audit_filter)]
) -> Page[AuditEntry]:
    """List who did what, or was kept from it; newest first."""
    return services.catalog.audit.page(at, wanted)


@router.get("/settings")
@reads(Area.SETTINGS)
def list_settings(services: ServicesHere) -> dict[str, Any]:
    """Show all settings that are changed while the server runs."""
    return services.catalog.settings.every()


@router.get("/settings/{key}")
@reads(Area.SETTINGS)
def show_setting(services: ServicesHere, key: Key) -> SettingValue:
    """Show a setting."""
    return SettingValue(value=services.catalog.settings.get(key))


@router.put("/settings/{key}")
@writes(Area.SETTINGS, ADMIN)
def change_setting(services: ServicesHere, key: Key, asked: SettingValue) -> SettingValue:
    """Set a setting."""
    require_setting(key, asked.value)
    services.catalog.settings.put(key, asked.value, clock.now())
    return asked


@router.delete("/settings/{key}", status_code=204)
@writes(Area.SETTINGS, ADMIN)
def remove_setting(services: ServicesHere, key: Key) -> Response:
    """Set a setting no longer."""
    services.catalog.settings.remove(key)
    return Response(status_code=204)


@router.post("/secrets/reseal")
@writes(Area.SETTINGS, ADMIN)
def reseal_secrets(services: ServicesHere) -> Resealed:
    """Seal every secret anew under the newest master key, so that older keys can be removed."""
    return Resealed(resealed=services.catalog.reseal())


@beside.get("/healthz")
@public
def show_health(services: ServicesHere) -> HealthShape:
    """Tell whether the server lives and reaches its database; for everybody."""
    with services.catalog.database.read() as connection:
        connection.execute(text("SELECT 1"))
    return HealthShape(
        status="ok", version=sendense.__version__, database=services.catalog.database.kind
    )


@beside.get("/metrics", response_class=PlainTextResponse)
@reads(Area.STATUS, READERS)
def show_metrics(services: ServicesHere) -> Response:
    """Show figures for Prometheus."""
    return Response(services.gauges.text(), media_type=MEDIA_TYPE)
