"""An instance that is written over has to stay stopped in CloudStack too, and keep its disks.

CloudStack has no lock that we could take.  Its files are locked by the agent, and a start fails on
them; but it may be tried on any host, and block devices have no locks.  So the state is asked for
all the while, and the writing ends when it is not Stopped any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from sendense.cloudstack import actions, inventory
from sendense.cloudstack.client import CloudClient
from sendense.errors import Conflict, SendenseError
from sendense.model.cloud import CloudInstance, CloudVolume

log = logging.getLogger(__name__)

_EVERY_S = 3.0
STEADY = frozenset({"Ready", "Snapshotting"})
"""States of volumes whose files stay: a snapshot fails on the agent's lock, and harms nothing."""


class KeptStopped:
    """The watch over one instance, in a ``with`` block; a thread of its own asks."""

    def __init__(
        self,
        client: CloudClient,
        instance: CloudInstance,
        volumes: Iterable[CloudVolume] = (),
        *,
        every_s: float = _EVERY_S,
    ) -> None:
        """Ask nothing yet."""
        self._client = client
        self._instance = instance
        self._volumes = {volume.id: volume.name for volume in volumes}
        self._every_s = every_s
        self._seen = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kept-stopped", daemon=True)

    def __enter__(self) -> Self:
        """Look, and go on looking."""
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no longer; a question that is under way is left to end by itself."""
        self._end.set()

    def look(self) -> None:
        """Ask now; raises where it is not stopped, or was seen not to be."""
        self._seen = self._seen or self._other_state()
        self.check()

    def check(self) -> None:
        """Raise where it was seen not to be stopped, or without a disk of its own."""
        if self._seen:
            raise Conflict(
                f"{self._instance.shown_name} did not stay as it was while its disks were"
                f" written: {self._seen}",
                hint="stop it in CloudStack, with its disks attached",
                instance=self._instance.id,
            )

    def _watch(self) -> None:
        while not self._seen and not self._end.wait(self._every_s):
            try:
                self._seen = self._other_state()
            except SendenseError as error:
                # The agent's own watch, and its locks, go on.
                log.warning("%s cannot be asked for: %s", self._instance.shown_name, error)

    def _other_state(self) -> str:
        found = actions.state(self._client, self._instance.id)
        if found != "Stopped":
            return f"it is {found or 'not there any more'}"
        if not self._volumes:
            return ""
        # One that is attached elsewhere would be opened by another guest.
        there = {
            each.id: each.state for each in inventory.volumes_of(self._client, self._instance.id)
        }
        for key, name in self._volumes.items():
            if there.get(key) not in STEADY:
                return f"{name} is {there.get(key, 'not its disk any more')}"
        return ""
