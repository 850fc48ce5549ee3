"""All work of this agent that is not over: the queue, and what runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Optional

from sendense import clock
from sendense.agent.admission import HostLimits, admit, ensure_possible
from sendense.agent.settings import AgentSettings
from sendense.agent.work import Verdict, Work
from sendense.errors import Busy, Unavailable
from sendense.model.agent_status import WorkState

log = logging.getLogger(__name__)

_QUEUE_MOST = 1000
_END_S = 70.0
"""For works to end when the agent is stopped: within the 90 s that its unit gives it.  A guest is
freed in seconds, where libvirt answers."""


class Works:
    """The works; safe for several threads."""

    def __init__(self, settings: Callable[[], AgentSettings]) -> None:
        """Hold none yet."""
        self._settings = settings
        self._lock = threading.RLock()
        self._queue: list[Work] = []
        self._running: dict[str, Work] = {}
        self._stopping = False

    def submit(self, work: Work) -> None:
        """Take a work; it begins when the host's limits allow."""
        with self._lock:
            ensure_possible(work.claim, self._limits())
            if self._stopping:
                raise Unavailable("the agent is being stopped")
            if len(self._queue) >= _QUEUE_MOST:
                raise Busy(f"{_QUEUE_MOST} works wait already")
            work.on_over = self.schedule
            self._queue.append(work)
        self.schedule()

    def get(self, identity: str) -> Optional[Work]:
        """Give a work that is not over."""
        with self._lock:
            found = self._running.get(identity)
            if found is None:
                found = next((item for item in self._queue if item.id == identity), None)
            return None if found is None or found.over else found

    def abort(self, work: Work) -> None:
        """Have a work given up, also one that waits."""
        with self._lock:
            waiting = work in self._queue
            if waiting:
                self._queue.remove(work)
        if waiting:
            work.give_up_waiting(None)
        else:
            work.decide(Verdict.ABORT)

    @property
    def running(self) -> tuple[str, ...]:
        """Name what is under way."""
        with self._lock:
            return tuple(item.id for item in self._running.values() if not item.over)

    @property
    def queued(self) -> tuple[str, ...]:
        """Name what waits."""
        with self._lock:
            return tuple(item.id for item in self._queue)

    def schedule(self) -> None:
        """Begin what may begin, and say of the rest why it waits."""
        with self._lock:
            self._running = {key: item for key, item in self._running.items() if not item.over}
            if self._stopping or not self._queue:
                return
            admission = admit(
                [item.claim for item in self._queue],
                [item.claim for item in self._running.values()],
                self._limits(),
                clock.now().astimezone(),
            )
            for item in tuple(self._queue):
                if item.id in admission.begin:
                    self._queue.remove(item)
                    self._running[item.id] = item
                    item.start()
                else:
                    item.hold(admission.waiting[item.id])

    def tick(self) -> None:
        """Drop what waits and nobody wants any more, and look whether the window opened."""
        with self._lock:
            lapsed = [item for item in self._queue if item.lapsed()]
            for item in lapsed:
                self._queue.remove(item)
        for item in lapsed:
            lease = self._settings().lease_s
            item.give_up_waiting(Unavailable(f"nobody asked for it for {lease} s while it waited"))
        self.schedule()

    def stop(self) -> None:
        """End all: what can be read is parked, the rest taken back."""
        stopped = Unavailable("the agent is being stopped", hint="begin it again with a new ticket")
        with self._lock:
            self._stopping = True
            waiting, self._queue = self._queue, []
            running = tuple(self._running.values())
        for item in waiting:
            item.give_up_waiting(stopped)
        for item in running:
            ready = item.state is WorkState.READY
            reason = None if ready and item.kind == "capture" else stopped
            item.decide(Verdict.PARK if ready else Verdict.ABORT, reason=reason, wait_s=0)
        deadline = clock.monotonic() + _END_S
        for item in running:
            item.wait_over(max(deadline - clock.monotonic(), 0))

    def _limits(self) -> HostLimits:
        settings = self._settings()
        return HostLimits(
            vms=settings.performance.max_concurrent_vms,
            exports=settings.nbd_export.max_concurrent_exports,
            window=settings.performance.backup_window,
        )
