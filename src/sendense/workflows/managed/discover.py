"""Looking at hosts and clouds: how agents are, which machines they have, what a cloud has."""

from __future__ import annotations

from sendense import clock
from sendense.model.job import Json
from sendense.workflows.managed.cloud_sync import look_at_cloud
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.task import Task, optional


def discover(estate: Estate, task: Task) -> Json:
    """Carry out a job of the kind ``discover``: a cloud, one host, or all hosts."""
    cloud_id = optional(task.job.content, "cloud")
    if cloud_id is not None:
        accept_gone = bool(task.job.content.get("accept_gone", False))
        looked = look_at_cloud(estate, str(cloud_id), check=task.check, accept_gone=accept_gone)
        return {"cloud": looked.said}
    hosts = [task.job.host_id] if task.job.host_id else [
        host.id for host in estate.catalog.hosts.enrolled()
    ]  # fmt: skip
    return {"hosts": {host_id: look_at(estate, host_id) for host_id in hosts}}


def look_at(estate: Estate, host_id: str) -> Json:
    """Take over what one agent says of itself and its machines."""
    with estate.agent(host_id) as client:
        heartbeat = client.heartbeat()
        estate.catalog.hosts.heard(host_id, heartbeat, clock.now())
        at = clock.now()
        seen = estate.catalog.instances.see(host_id, client.machines(), at)
    return {"new": list(seen.new), "moved": list(seen.moved), "gone": list(seen.gone)}
