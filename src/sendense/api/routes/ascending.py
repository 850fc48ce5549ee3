"""Restores into clouds: planned, and asked for."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from sendense.api.access import RUNNERS, caller_of, reads, writes
from sendense.api.ascend_requests import cloud_restore, cloud_restore_request
from sendense.api.ascend_shapes import AscendPlanShape, CloudRestoreAsked, plan_shape
from sendense.api.guard import GuardedRoute
from sendense.api.job_requests import submit
from sendense.api.job_shapes import JobShape
from sendense.api.services import ServicesHere
from sendense.model.access import Area
from sendense.model.job import Job

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])


@router.post("/restore/cloudstack/plan")
@reads(Area.JOBS, RUNNERS)
def plan_cloud_restore(
    services: ServicesHere, asked: CloudRestoreAsked, request: Request
) -> AscendPlanShape:
    """Show all that a restore into a cloud would do, or what is in its way; nothing is touched."""
    _, wanted = cloud_restore(services.catalog, asked, caller_of(request))
    return plan_shape(services.restores.plan(wanted))


@router.post("/restore/cloudstack", status_code=202, response_model=JobShape)
@writes(Area.JOBS, RUNNERS)
def ask_cloud_restore(
    services: ServicesHere, asked: CloudRestoreAsked, request: Request, out: Response
) -> Job:
    """Restore a point into a cloud; a tenant what is its own, to where it was."""
    wanted = cloud_restore_request(services.catalog, asked, caller_of(request))
    return submit(services, wanted, request, out)
