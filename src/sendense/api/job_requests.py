"""From what somebody asks over the API to a request for a job."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from sendense.api.access import Caller
from sendense.api.job_shapes import BackupAsked, JobOptions, RestoreAsked
from sendense.api.services import PREFIX, Services
from sendense.catalog.catalog import Catalog
from sendense.catalog.inventory_reading import InstanceEntry
from sendense.errors import Conflict, NotAllowed, NotFound, Rejected
from sendense.model.ascend import Aim, AscendRequest
from sendense.model.ascend_order import CloudRestore
from sendense.model.fleet import Instance, InstanceName
from sendense.model.holdings import PointEntry
from sendense.model.job import Job, JobKind, JobRequest, Json
from sendense.model.policy import matching
from sendense.model.tenant import Destination, destination


def request_of(
    kind: JobKind, subject: str, content: Json, options: JobOptions, caller: Caller, **places: Any
) -> JobRequest:
    """Put a request together."""
    return JobRequest(
        kind=kind,
        subject=subject,
        content=content,
        requested_by=caller.name,
        priority=options.priority,
        not_before=options.not_before,
        **places,
    )


def submit(services: Services, wanted: JobRequest, request: Request, out: Response) -> Job:
    """Take a request for a job, and say in the answer where the job is."""
    job = services.queue.submit(wanted)
    request.state.subject = job.id
    out.headers["Location"] = f"{PREFIX}/jobs/{job.id}"
    return job


def backup_request(catalog: Catalog, asked: BackupAsked, caller: Caller) -> JobRequest:
    """Read what is asked for as the backup of one instance."""
    instance = catalog.instances.get(asked.vm_id)
    # One that is off in its cloud is on no host: which one reads it is found when the job begins.
    if instance.gone_at is not None or (
        instance.host_id is None and not _in_cloud(catalog, instance)
    ):
        raise Rejected(
            f"no host shows the instance {instance.name} now",
            hint="start it, or look at its host again (POST /jobs/discover)",
        )
    place = _place_for(catalog, instance, asked.repository_id)
    content = {
        "mode": asked.backup_type.value,
        "consistency": asked.consistency.value,
        "strict": asked.strict,
        "include": asked.include,
        "exclude": asked.exclude,
        **place.said,
    }
    return request_of(
        JobKind.BACKUP, instance.uuid, content, asked, caller,
        host_id=instance.host_id, repository_id=place.repository_id,
    )  # fmt: skip


def _in_cloud(catalog: Catalog, instance: Instance) -> bool:
    return catalog.instances.name(instance.uuid).cloud is not None


def restore_request(catalog: Catalog, asked: RestoreAsked, caller: Caller) -> JobRequest:
    """Read what is asked for as the restore of one point; a tenant restores in place only."""
    point = point_for(catalog, asked.point_id, asked.repository_id, caller)
    if caller.grant is not None:
        # The point may be of a time when the instance was the tenant's, or had a name of theirs.
        catalog.instances.get(point.machine_uuid, caller.grant)
    new = asked.pool is not None
    if caller.grant is not None and (new or asked.host_id is not None):
        raise NotAllowed("a tenant restores onto the instance itself", hint="leave out where to")
    if not new and (asked.name or asked.new_macs or asked.define or asked.format):
        raise Rejected(
            "a new machine needs a pool for its disks",
            hint="give the pool, or leave out name, new_macs, define and format",
        )
    entry = None if new else _in_a_cloud(catalog, point.machine_uuid)
    if entry is not None:
        return _through_cloud(entry, point, asked, caller)
    host_id = asked.host_id or _host_of(catalog, point)
    catalog.hosts.get(host_id)
    if not new:
        _ensure_not_elsewhere(catalog, point, host_id)
    content = asked.model_dump(
        include={
            "pool", "name", "new_macs", "define", "start", "format", "allow_larger",
            "include", "exclude",
        }
    ) | {"point": point.id}  # fmt: skip
    return request_of(
        JobKind.RESTORE, point.machine_uuid, content, asked, caller,
        host_id=host_id, repository_id=point.repository_id,
    )  # fmt: skip


def _in_a_cloud(catalog: Catalog, uuid: str) -> InstanceEntry | None:
    """Give an instance as its cloud showed it last; none where no cloud has it."""
    try:
        entry = catalog.inventory.instance(uuid)
    except NotFound:
        return None
    return entry if entry.gone_at is None else None


def _through_cloud(
    entry: InstanceEntry, point: PointEntry, asked: RestoreAsked, caller: Caller
) -> JobRequest:
    """Restore an instance of a cloud in place: the cloud alone knows what its disks are now."""
    instance = entry.instance
    if asked.host_id is not None or asked.include or asked.exclude:
        raise Rejected(
            f"{instance.shown_name} is an instance of a cloud, which knows where its disks lie",
            hint="leave host_id, include and exclude out; to restore some of its volumes: "
            "sendense cloud restore",
        )
    if instance.state != "Stopped":
        raise Conflict(
            f"{instance.shown_name} is {instance.state} in its cloud",
            hint="stop it there first; sendense cloud restore stops it by itself",
        )
    wanted = CloudRestore(
        repository_id=point.repository_id,
        point_id=point.id,
        request=AscendRequest(
            Aim.IN_PLACE, start=True if asked.start else None, allow_larger=asked.allow_larger
        ),
        cloud_id=entry.cloud_id,
        tenant=caller.grant is not None,
    )
    return request_of(
        JobKind.RESTORE, point.machine_uuid, wanted.to_content(), asked, caller,
        repository_id=point.repository_id,
    )  # fmt: skip


def _place_for(catalog: Catalog, instance: Instance, wanted: str | None) -> Destination:
    """Give where a backup goes: where its tenant's go, if that has a repository of its own."""
    name = catalog.instances.name(instance.uuid)
    own = destination(catalog.tenants.every(), name.cloud, "")
    if own.tenant is None:
        return Destination(_repository_for(catalog, name, wanted))
    if wanted not in (None, own.repository_id):
        raise Rejected(
            f"backups of {instance.name} go to the repository of the tenant {own.tenant.name}, "
            "under the tenant's own key",
            hint="leave repository_id out; 'sendense repository copy' copies points elsewhere",
            repository_id=own.repository_id,
        )
    return own


def _repository_for(catalog: Catalog, name: InstanceName, wanted: str | None) -> str:
    if wanted is not None:
        return catalog.repositories.get(wanted).id
    taking = matching(catalog.policies.enabled(), name)
    if taking:
        return taking[0].rules.repository_id
    known = catalog.repositories.every()
    if len(known) == 1:
        return known[0].id
    raise Rejected(
        "no policy takes this instance, so its backup needs a repository",
        hint="give repository_id; GET /repositories lists them",
    )


def point_for(catalog: Catalog, point_id: str, wanted: str | None, caller: Caller) -> PointEntry:
    """Find a point that a caller may see, in a repository where that is said."""
    copies = catalog.points.copies(point_id, caller.grant)
    found = [copy for copy in copies if wanted in (None, copy.repository_id)]
    if not found:
        raise NotFound(f"there is no point {point_id}")
    if len(found) > 1:
        raise Rejected(
            f"{len(found)} repositories have the point {point_id}",
            hint="give repository_id",
            repositories=", ".join(copy.repository_id for copy in found),
        )
    return found[0]


def _host_of(catalog: Catalog, point: PointEntry) -> str:
    try:
        host_id = catalog.instances.get(point.machine_uuid).host_id
    except NotFound:
        host_id = None
    if host_id is None:
        raise Rejected(
            f"no host is known to have {point.machine_name}", hint="give host_id"
        ) from None
    return host_id


def _ensure_not_elsewhere(catalog: Catalog, point: PointEntry, host_id: str) -> None:
    """Refuse to overwrite, from one host, shared disks that an instance of another host uses."""
    try:
        instance = catalog.instances.get(point.machine_uuid)
    except NotFound:
        return
    if instance.gone_at is None and instance.host_id not in (None, host_id):
        raise Rejected(
            f"the instance {instance.name} is on another host, which its disks belong to",
            hint="leave host_id out, or restore to a pool of that host",
            host_id=instance.host_id,
        )
