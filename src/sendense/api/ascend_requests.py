"""From what somebody asks over the API to a restore into a cloud, and what a tenant may ask for.

A tenant restores what is its own to where it was: its instance in place, one of its disks as a new
volume of one of its instances, or an instance that it lost, in the account and cloud that had it.
"""

from __future__ import annotations

from dataclasses import replace

from sendense.api.access import Caller
from sendense.api.ascend_shapes import CloudRestoreAsked
from sendense.api.job_requests import point_for, request_of
from sendense.catalog.catalog import Catalog
from sendense.errors import Conflict, NotAllowed, NotFound, Rejected
from sendense.model.access import Grant
from sendense.model.ascend import Aim
from sendense.model.ascend_order import CloudRestore
from sendense.model.holdings import PointEntry
from sendense.model.job import JobKind, JobRequest, JobState

_ELSEWHERE = (
    "onto", "cloud_id", "zone", "account", "domain", "project", "offering", "template", "networks",
    "disk_offerings", "pool", "allow_unencrypted",
    "with_secrets",
)  # fmt: skip
_ENDED_BADLY = (JobState.FAILED, JobState.CANCELLED)


def cloud_restore(
    catalog: Catalog, asked: CloudRestoreAsked, caller: Caller
) -> tuple[PointEntry, CloudRestore]:
    """Read what is asked for; gives the point too."""
    point = point_for(catalog, asked.point_id, asked.repository_id, caller)
    wanted = CloudRestore(
        repository_id=point.repository_id,
        point_id=point.id,
        request=asked.request,
        cloud_id=asked.cloud_id or "",
    )
    if caller.grant is not None:
        wanted = _for_tenant(catalog, asked, point, wanted, caller.grant)
    elif asked.cloud_id is not None:
        catalog.clouds.get(asked.cloud_id)
    if asked.continues is not None:
        _ensure_goes_on(catalog, asked.continues, wanted, caller)
        wanted = replace(wanted, continues=asked.continues)
    return point, wanted


def cloud_restore_request(catalog: Catalog, asked: CloudRestoreAsked, caller: Caller) -> JobRequest:
    """Read what is asked for as a job."""
    point, wanted = cloud_restore(catalog, asked, caller)
    return request_of(
        JobKind.RESTORE, point.machine_uuid, wanted.to_content(), asked, caller,
        repository_id=point.repository_id,
    )  # fmt: skip


def _for_tenant(
    catalog: Catalog,
    asked: CloudRestoreAsked,
    point: PointEntry,
    wanted: CloudRestore,
    grant: Grant,
) -> CloudRestore:
    named = [name for name in _ELSEWHERE if getattr(asked, name)]
    if named:
        raise NotAllowed("a tenant restores to where it was", hint=f"leave out {', '.join(named)}")
    # The point may be of a time when the instance was the tenant's; now it has to be.
    entry = catalog.inventory.instance(point.machine_uuid, grant)
    cloud_id, request = entry.cloud_id, wanted.request
    if request.aim is Aim.RECREATE:
        request = replace(request, owner=entry.instance.owner)
    if request.aim is Aim.DATA_DISK and request.instance_id:
        target = catalog.inventory.instance(request.instance_id, grant)
        if target.cloud_id != cloud_id:
            raise NotFound(f"there is no instance {request.instance_id}")
    return replace(wanted, request=request, cloud_id=cloud_id, tenant=True)


def _ensure_goes_on(catalog: Catalog, job_id: str, wanted: CloudRestore, caller: Caller) -> None:
    """Refuse to go on with what is no restore of this point into a cloud, or has not failed."""
    job = catalog.jobs.get(job_id, caller.grant)
    if job.kind is not JobKind.RESTORE or "cloud" not in job.content:
        raise Rejected(f"job {job_id} is no restore into a cloud")
    before = CloudRestore.of(str(job.repository_id), job.content)
    if (before.point_id, before.repository_id) != (wanted.point_id, wanted.repository_id):
        raise Rejected(
            f"job {job_id} restores point {before.point_id}", hint="name that point and repository"
        )
    if job.state not in _ENDED_BADLY:
        raise Conflict(f"job {job_id} is {job.state.value}", hint="only one that failed is gone on")
    if caller.grant is not None and not before.tenant:
        raise NotAllowed("a tenant goes on with what a tenant asked for")
