"""What CloudStack works on, asked once for all captures of a process.

A cloud lists its jobs whole, those that have ended too, and only from a day on; a hundred captures
that each read that list every few seconds would be its heaviest caller.
"""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from sendense import clock
from sendense.cloudstack import actions
from sendense.cloudstack.actions import BusyJob
from sendense.cloudstack.client import CloudClient
from sendense.model.cloud import CloudInstance
from sendense.model.readiness import CloudJob

FRESH_S = 3.0
"""So old may a list be for a look during a capture."""


class _Seen:
    """The last list of one cloud."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at = float("-inf")
        self.jobs: tuple[BusyJob, ...] = ()


class CloudJobs:
    """The jobs of clouds; for many threads."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._seen: WeakKeyDictionary[CloudClient, _Seen] = WeakKeyDictionary()

    def on(
        self, client: CloudClient, instance: CloudInstance, *, fresh_s: float = FRESH_S
    ) -> list[CloudJob]:
        """Give the jobs on an instance and its volumes; none where none are shown.

        A key that may not list jobs is told so by ``cloud check``; the states of the instance and
        of its volumes show most of them as well.
        """
        if not client.features().has("listAsyncJobs"):
            return []
        ids = {instance.id, *(volume.id for volume in instance.volumes)}
        return [
            CloudJob(job.id, job.command)
            for job in self._listed(client, fresh_s)
            if job.object_id in ids
        ]

    def _listed(self, client: CloudClient, fresh_s: float) -> tuple[BusyJob, ...]:
        asked_at = clock.monotonic()
        with self._lock:
            seen = self._seen.setdefault(client, _Seen())
        with seen.lock:
            # Whoever waited here takes the list that was begun meanwhile, if it is of after.
            if seen.at < asked_at - fresh_s:
                began = clock.monotonic()
                seen.jobs = tuple(actions.unfinished_jobs(client))
                seen.at = began
            return seen.jobs
