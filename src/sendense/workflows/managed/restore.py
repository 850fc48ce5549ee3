"""Restore a point to a host: onto the disks of its machine, or as new files of a pool."""

from __future__ import annotations

from typing import Any

from sendense import clock
from sendense.errors import Conflict, NotFound, Rejected
from sendense.fleet.agent_client import AgentClient
from sendense.model.job import Json
from sendense.model.point import RecoveryPoint
from sendense.model.restoring import RestorePlan
from sendense.targets.domainxml import Identity
from sendense.workflows.managed.ascend import restore_into_cloud
from sendense.workflows.managed.cloud_guard import cloud_having
from sendense.workflows.managed.cloud_hosts import clouds_of_host
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.task import Task, optional, text, texts
from sendense.workflows.remote_destinations import (
    OntoMachine,
    RemoteDestination,
    ToPool,
    plan_remote_restore,
)
from sendense.workflows.remote_restore import RemoteRestoreOptions, run_remote_restore, settle

_SAID = "said"


def restore(estate: Estate, task: Task) -> Json:
    """Carry out a job of the kind ``restore``."""
    job = task.job
    if "cloud" in job.content:
        return restore_into_cloud(estate, task)
    if job.repository_id is None or job.host_id is None:
        raise TypeError("a restore has a repository and a host")
    done = _settled(estate, task)
    if done is not None:
        return done
    with estate.repository(job.repository_id) as repository, estate.agent(job.host_id) as client:
        point = repository.point(text(job.content, "point"))
        if point.machine.uuid != job.subject:
            raise Rejected(f"point {point.id} is not one of {job.subject}")
        if optional(job.content, "pool") is None:
            _ensure_no_clouds(estate, job.subject, job.host_id, client)
        destination = destination_of(job.content, client, point)
        plan = plan_remote_restore(
            point,
            destination,
            include=texts(job.content, "include"),
            exclude=texts(job.content, "exclude"),
        )
        options = _options(task, f"{job.id}-{job.attempt}-{clock.now():%H%M%S%f}")
        said = _said(task, plan, client.address.name)
        task.remember({"host": job.host_id, "work": options.id, _SAID: said})
        result = run_remote_restore(client, plan, destination, repository, options)
    written = {item.target: item.data_bytes for item in result.disks}
    return {
        **said,
        "disks": [{**disk, "data_bytes": written[disk["target"]]} for disk in said["disks"]],
        "warnings": list(result.warnings),
        "seconds": result.seconds,
    }


def _ensure_no_clouds(estate: Estate, uuid: str, host_id: str, client: AgentClient) -> None:
    """Refuse to write over disks that a cloud has, or that may be another instance's by now.

    Of an instance that is off, libvirt knows nothing, and what lies at the paths of a point may be
    attached elsewhere, or be what a snapshot builds on.  CloudStack knows; so it is restored there.
    """
    cloud = cloud_having(estate, uuid)
    if cloud is not None:
        raise Conflict(
            f"the cloud {cloud.name} has the instance, and knows alone where its disks lie",
            hint="restore it through the cloud: sendense cloud restore POINT",
        )
    if not clouds_of_host(estate, host_id):
        return
    try:
        client.machine(uuid)
    except NotFound:
        raise Conflict(
            "no cloud has the instance, and its host does not know it: what lies where its disks "
            "were may be another's by now",
            hint="restore it into new files of a pool, or make it again in the cloud: "
            "sendense cloud restore POINT",
        ) from None


def _settled(estate: Estate, task: Task) -> Json | None:
    """Bring the tries of this job that died to their ends; gives what one that succeeded did."""
    done = None
    for fact in task.facts:
        work = str(fact["work"])
        with estate.agent(str(fact["host"])) as client:
            status = settle(client, work, _options(task, work))
        if status is not None:
            done = {**fact[_SAID], "warnings": list(status.warnings), "resumed": True}
    return done


def _options(task: Task, work: str) -> RemoteRestoreOptions:
    return RemoteRestoreOptions(
        id=work,
        job=task.job.id,
        waiting=task.waiting,
        listener=task.report,
        check=task.check,
        changed_only=bool(task.job.content.get("changed_only", False)),
        verify=bool(task.job.content.get("verify", False)),
    )


def _said(task: Task, plan: RestorePlan, host: str) -> dict[str, Any]:
    """Give what is to be said of a restore that succeeds, as far as it is known beforehand."""
    content = task.job.content
    start = bool(content.get("start", False))
    makes = start or (optional(content, "pool") is not None and bool(content.get("define", False)))
    return {
        "point": plan.point.id,
        "host": host,
        "disks": [
            {"target": item.image.disk.target, "path": item.destination.path} for item in plan.disks
        ],
        "machine": (optional(content, "name") or plan.point.machine.name) if makes else None,
        "started": start,
    }


def destination_of(content: Json, client: AgentClient, point: RecoveryPoint) -> RemoteDestination:
    """Read where a request wants a point."""
    start = bool(content.get("start", False))
    pool = optional(content, "pool")
    if pool is not None:
        return ToPool(
            pool=str(pool),
            identity=Identity(
                name=optional(content, "name"), new_macs=bool(content.get("new_macs", False))
            ),
            image_format=optional(content, "format"),
            define=bool(content.get("define", False)),
            start=start,
        )
    try:
        survey = client.survey(point.machine.uuid)
    except NotFound:
        survey = None  # libvirt forgets a transient machine that stops
    allow_larger = bool(content.get("allow_larger", False))
    return OntoMachine(survey, allow_larger=allow_larger, start=start)
