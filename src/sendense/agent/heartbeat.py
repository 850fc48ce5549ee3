"""The heartbeat: who the agent is, how it is, and what it does, in one answer.

It is asked for every few seconds, so nothing slow is done here.  What is watched is for health
sources to know; the plain ones of this module tell of libvirt and of the settings.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from sendense import __version__, clock
from sendense.agent.events import EventLog
from sendense.agent.faces import HealthSource
from sendense.agent.health import ClockHealth
from sendense.agent.marks import half_restored
from sendense.agent.settings import AgentSettings
from sendense.agent.work import Means
from sendense.agent.works import Works
from sendense.capture.host import Host
from sendense.errors import SendenseError
from sendense.model.agent_status import PROTOCOL, AgentFacts, HealthCheck, Heartbeat, Level

log = logging.getLogger(__name__)

_ASK_S = 5.0
_SILENT_S = 30.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HeartbeatSource:
    """Gives heartbeats."""

    def __init__(
        self,
        means: Means,
        works: Works,
        events: EventLog,
        libvirt: LibvirtHealth,
        *,
        sources: Iterable[HealthSource],
    ) -> None:
        """Bring the parts together; what ``sources`` say is told."""
        self._settings = means.settings
        self._host = means.host
        self._ledger = means.ledger
        self._works = works
        self._events = events
        self._libvirt = libvirt
        self.clock = ClockHealth()
        """To be told the time of those who ask."""
        self._sources: tuple[HealthSource, ...] = (libvirt, self.clock, *sources)
        self._metrics = means.metrics
        self._started_at = clock.now()
        self._boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""

    def beat(self) -> Heartbeat:
        """Give a heartbeat; what cannot be had now is told as bad health."""
        health = list(self.health())
        return Heartbeat(
            facts=self._facts(),
            health=tuple(health),
            running=self._ledger.open_ids(),
            queued=len(self._works.queued),
            last_event=self._events.last,
        )

    def health(self) -> tuple[HealthCheck, ...]:
        """Ask all sources how it is."""
        settings = self._settings()
        found: list[HealthCheck] = []
        for source in self._sources:
            try:
                found.extend(source.checks(settings))
            except Exception as error:
                log.exception("a health check failed")
                name = type(source).__name__.lower()
                found.append(HealthCheck(name, Level.FAILED, f"the check itself failed: {error}"))
        return tuple(found)

    def measure(self) -> None:
        """Set the gauges that nobody else sets."""
        self._metrics.gauge("sendense_agent_running", len(self._works.running))
        self._metrics.gauge("sendense_agent_queued", len(self._works.queued))
        for check in self.health():
            well = {Level.OK: 1.0, Level.WARNING: 0.5, Level.FAILED: 0.0}[check.level]
            self._metrics.gauge("sendense_agent_health", well, check=check.name)

    def _facts(self) -> AgentFacts:
        settings = self._settings()
        window = settings.performance.backup_window
        return AgentFacts(
            id=settings.id,
            host=self._host.name,
            version=__version__,
            versions=self._host.versions,
            protocol=PROTOCOL,
            boot_id=self._boot_id,
            started_at=self._started_at,
            now=clock.now(),
            incremental=self._libvirt.incremental,
            transport=settings.transport,
            max_concurrent_vms=settings.performance.max_concurrent_vms,
            max_concurrent_exports=settings.nbd_export.max_concurrent_exports,
            bandwidth_limit_mbps=settings.performance.bandwidth_limit_mbps,
            backup_window=None if window is None else str(window),
            pools=tuple(str(pool) for pool in settings.pools),
            block_size=settings.nbd_export.block_size,
        )


class LibvirtHealth:
    """Whether libvirt answers: asked in a thread of its own, as a libvirt that hangs never does."""

    def __init__(self, host: Host) -> None:
        """Ask the libvirt of ``host``, once started."""
        self._host = host
        self._answered = clock.boottime()
        self._asked_once = threading.Event()
        self._error: Optional[SendenseError] = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="libvirt-health", daemon=True)
        self.incremental = False
        """Whether this host can make checkpoints, as far as libvirt told."""

    def reached(self, *, within_s: float) -> bool:
        """Tell whether libvirt answered when it was asked last; waits for the first time."""
        return self._asked_once.wait(within_s) and self._error is None

    def start(self) -> None:
        """Ask every few seconds from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def checks(self, settings: AgentSettings) -> tuple[HealthCheck, ...]:
        """Tell the last answer, and how old it is."""
        error, silent_s = self._error, clock.boottime() - self._answered
        if silent_s > _SILENT_S:
            message = f"libvirt has not answered for {silent_s:.0f} s"
            hint = "look at the libvirt daemon: 'systemctl status libvirtd virtqemud'"
            return (HealthCheck("libvirt", Level.FAILED, message, hint),)
        if error is not None:
            return (HealthCheck("libvirt", Level.FAILED, error.message, error.hint),)
        return (HealthCheck("libvirt", Level.OK, self._host.versions),)

    def _ask(self) -> None:
        try:
            self.incremental = self._host.incremental()
            self._error = None
        except SendenseError as error:
            self._error = error
        self._answered = clock.boottime()
        self._asked_once.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask()
            except Exception:
                log.exception("asking libvirt failed")
            self._stop.wait(_ASK_S)


class RestoreHealth:
    """Whether disks of this host are half restored."""

    def checks(self, settings: AgentSettings) -> tuple[HealthCheck, ...]:
        """List the marks of restores that did not complete."""
        left = half_restored(settings.state_dir)
        if not left:
            return ()
        message = f"{len(left)} disks were being restored, which did not complete: {left[0]}"
        hint = "repeat the restore before their machine is started"
        return (HealthCheck("restores", Level.WARNING, message, hint),)
