"""Back one instance up, wherever it runs now."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Any

from sendense import clock
from sendense.errors import SendenseError
from sendense.fleet.remote_host import CaptureTerms
from sendense.model.coding import decode
from sendense.model.decision import RequestedMode
from sendense.model.fleet import Instance
from sendense.model.holdings import entry_of
from sendense.model.job import Job, Json
from sendense.model.point import Consistency, RecoveryPoint
from sendense.repository.protocol import Repository
from sendense.workflows.backup import BackupResult
from sendense.workflows.managed.cloud_guard import CloudCapture, Unguarded, guarded
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.quotas import quota_warnings
from sendense.workflows.managed.task import Task, text, texts
from sendense.workflows.planning import BackupRequest
from sendense.workflows.remote_backup import (
    Attempt,
    RemoteBackupOptions,
    back_up_remotely,
    settle,
)

log = logging.getLogger(__name__)

_ATTEMPT = "attempt"


def back_up(estate: Estate, task: Task) -> Json:
    """Carry out a job of the kind ``backup``; gives what is to be said of its point."""
    job = task.job
    if job.repository_id is None:
        raise TypeError("a backup has a repository")
    instance = estate.catalog.instances.get(job.subject)
    with estate.repository(job.repository_id) as repository:
        earlier = _settled(estate, task, repository)
        if earlier is not None:
            record(estate, job, repository, earlier)
            return {**_said(earlier), "resumed": True}
        result = _attempt(estate, task, repository, instance)
        if result.point is not None:
            record(estate, job, repository, result.point)
    return _described(result)


def _settled(estate: Estate, task: Task, repository: Repository) -> RecoveryPoint | None:
    """Bring the tries of this job that died to their ends, on the hosts where they ran."""
    made = None
    for fact in task.facts:
        attempt = decode(Attempt, fact[_ATTEMPT])
        with estate.agent(str(fact["host"])) as client:
            made = settle(client, repository, attempt) or made
    return made


def _attempt(
    estate: Estate, task: Task, repository: Repository, instance: Instance
) -> BackupResult:
    """Back it up as its cloud says, or where a host shows it."""
    warned = quota_warnings(estate.catalog, instance.uuid)
    beside = bool(task.job.content.get("beside_cloudstack", False))
    found = guarded(estate, instance.uuid, beside_cloudstack=beside)
    if isinstance(found, Unguarded):
        place = estate.place_of(instance)
        result = _captured(estate, task, repository, place, warnings=found.warnings)
    else:
        if found.host_id != task.job.host_id:
            estate.catalog.jobs.show_host(task.job.id, found.host_id)
        with found.watchman:
            result = _captured(estate, task, repository, found.host_id, found, found.warnings)
    return replace(result, warnings=(*warned, *result.warnings))


def _captured(
    estate: Estate,
    task: Task,
    repository: Repository,
    host_id: str,
    cloud: CloudCapture | None = None,
    warnings: tuple[str, ...] = (),
) -> BackupResult:
    job = task.job

    def remember(attempt: Attempt) -> None:
        task.remember({"host": host_id, _ATTEMPT: asdict(attempt)})

    def check() -> None:
        task.check()
        if cloud is not None:
            cloud.watchman.check()

    terms = CaptureTerms(
        id=f"{job.id}-{job.attempt}-{clock.now():%H%M%S%f}",
        job=job.id,
        waiting=task.waiting,
        check=check,
        confirm=cloud.watchman.confirm if cloud is not None else lambda: None,
    )
    with estate.agent(host_id) as client:
        return back_up_remotely(
            client,
            job.subject,
            repository,
            estate.engine,
            request_of(job.content),
            RemoteBackupOptions(
                terms,
                remember,
                task.report,
                domain_xml=cloud.domain_xml if cloud else None,
                attachments=cloud.attachments if cloud else {},
                warnings=warnings,
            ),
        )


def request_of(content: Json) -> BackupRequest:
    """Read what a request says of how the backup is made."""
    return BackupRequest(
        mode=RequestedMode(text(content, "mode", RequestedMode.AUTO.value)),
        consistency=Consistency(text(content, "consistency", Consistency.FILESYSTEM.value)),
        strict=bool(content.get("strict", False)),
        include=texts(content, "include"),
        exclude=texts(content, "exclude"),
        full_every=int(content.get("full_every") or 0),
        keep_bitmaps=bool(content.get("keep_bitmaps", True)),
        least_bytes=int(content.get("least_bytes") or 0),
    )


def record(estate: Estate, job: Job, repository: Repository, point: RecoveryPoint) -> None:
    """Enter a point into the catalogue: an index, so that what fails here is no failed backup."""
    try:
        entry = entry_of(
            point, str(job.repository_id), repository.holds(point.machine.uuid), job.id
        )
        estate.catalog.points.put([entry], clock.now())
    except SendenseError as error:
        log.warning("point %s is stored, and not listed yet: %s", point.id, error)


def _said(point: RecoveryPoint) -> dict[str, Any]:
    return {
        "point": point.id,
        "mode": point.mode.value,
        "consistency": point.consistency.value,
        "read_bytes": sum(image.read_bytes for image in point.disks),
        "stored_bytes": point.stored_bytes,
        "seconds": point.seconds,
        "frozen_s": point.frozen_s,
        "warnings": list(point.warnings),
        "disks": [
            {
                "target": image.disk.target,
                "mode": image.decision.mode.value,
                "reason": image.decision.reason.value,
                "read_bytes": image.read_bytes,
            }
            for image in point.disks
        ],
    }


def _described(result: BackupResult) -> Json:
    if result.point is None:
        return {"point": None, "skipped": result.skipped}
    said = _said(result.point)
    return {**said, "warnings": list(result.warnings), "repaired": list(result.repaired)}
