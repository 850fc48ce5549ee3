"""While a capture runs, CloudStack is asked whether it wants the instance; then it goes first.

CloudStack has no lock that we could take.  So the instance is asked for every few seconds, and when
CloudStack begins to stop, move, snapshot or change it, the capture ends as *busy*.  The guest is
free within seconds, and the backup is made later.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from sendense.cloudstack import actions, inventory
from sendense.cloudstack.client import CloudClient
from sendense.errors import Busy, SendenseError
from sendense.model.cloud import CloudInstance
from sendense.model.readiness import CloudJob

log = logging.getLogger(__name__)

Jobs = Callable[[CloudInstance], Iterable[CloudJob]]
"""Gives the jobs that CloudStack has on an instance and its volumes."""


class CloudWatchman:
    """Asks for one instance again and again while its block lasts; a thread of its own.

    The reading must not wait for an API that is slow.
    """

    def __init__(
        self,
        client: Callable[[], CloudClient],
        instance: CloudInstance,
        jobs: Jobs,
        every_s: float,
    ) -> None:
        """Ask nothing yet; the client is fetched for each question, because keys change."""
        self._client = client
        self._instance = instance
        self._jobs = jobs
        self._every_s = every_s
        self._wanted: str | None = None
        self._away = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cloud-watchman", daemon=True)

    def __enter__(self) -> Self:
        """Watch from now on."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Watch no longer; a question that is under way is left to end by itself."""
        self._end.set()

    def check(self) -> None:
        """Raise :class:`~sendense.errors.Busy` where CloudStack was seen to want the instance."""
        if self._wanted is not None:
            raise Busy(
                f"CloudStack wants {self._instance.shown_name}: {self._wanted}",
                hint="the capture was taken back, and the backup is made later",
            )

    def confirm(self) -> None:
        """Ask once more, before the point of an instance that is off is stored.

        It may have been started since the last question, on a host that shares no locks with ours.
        Silence confirms nothing.  One that runs is the agent's to confirm: its QEMU is there.
        """
        if not self._instance.running:
            self._wanted = self._wanted or self._look()
        self.check()

    def _watch(self) -> None:
        while self._wanted is None and not self._end.wait(self._every_s):
            try:
                self._wanted = self._look()
            except Exception as error:
                # What it wants cannot be known then; its own calls fail as well.
                if not self._away:
                    name = self._instance.shown_name
                    log.warning("%s cannot be asked for: %s", name, error, exc_info=_odd(error))
                self._away = True
            else:
                self._away = False

    def _look(self) -> str | None:
        was, client = self._instance, self._client()
        now = actions.state(client, was.id)
        if not now:
            return "it has it no longer"
        if now != was.state:
            return f"it is {now} now"
        jobs = [job.words for job in self._jobs(was)]
        if jobs:
            return f"it works on it: {', '.join(jobs)}"
        # A snapshot of a volume is a job on the snapshot, whose id nobody knows beforehand.
        disks = {volume.id for volume in was.volumes if volume.state == "Ready"}
        moving = [
            f"volume {volume.name} is {volume.state}"
            for volume in inventory.volumes_of(client, was.id)
            if volume.id in disks and volume.state != "Ready"
        ]
        return ", ".join(moving) or None


def _odd(error: Exception) -> Exception | None:
    """Give what deserves its trace: nobody raised it on purpose."""
    return None if isinstance(error, SendenseError) else error
