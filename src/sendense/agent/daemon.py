"""The agent as one process: its parts, brought together, started and ended in order.

The start is the order in which nothing can go wrong twice: one agent for each state directory;
what a dead one left is settled before anybody can ask for more; then the gate, the API, and
last the tunnel that leads to them.  The end is the reverse, and first of all frees guests.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Optional

from sendense import __version__, clock
from sendense import log as logs
from sendense.agent.api import AgentApi
from sendense.agent.api_server import ApiServer
from sendense.agent.counting import PlainMetrics
from sendense.agent.events import EventLog
from sendense.agent.faces import (
    GateFace,
    HealthSource,
    Metrics,
    NoGate,
    NoNotifier,
    Notifier,
    NoTunnel,
    Tunnel,
)
from sendense.agent.heartbeat import HeartbeatSource, LibvirtHealth, RestoreHealth
from sendense.agent.ledger import Ledger
from sendense.agent.leftovers import close_orphans, park_records, sweep
from sendense.agent.reloading import LiveSettings
from sendense.agent.settings import AgentSettings, load_secret
from sendense.agent.signals import Signals
from sendense.agent.tickets import TicketDesk
from sendense.agent.work import Means
from sendense.agent.works import Works
from sendense.capture.host import Host
from sendense.capture.lifecycle import LifecycleWatch
from sendense.errors import Busy, NotAllowed

log = logging.getLogger(__name__)

_ENDING = (signal.SIGTERM, signal.SIGINT)
_SWEEP_S = 15.0
_FIRST_SWEEP_S = 60.0
"""For what a dead agent left to be settled, before others may ask for more."""
_ANSWER_S = 10.0
"""For libvirt's first answer."""
_FORGET_S = 3600.0
_LOOK_S = 2.0
"""How often the settings' file is looked at."""


@dataclass(frozen=True)
class Parts:
    """What others build: by default there is none of it."""

    gate: Callable[[AgentSettings], GateFace] = lambda _settings: NoGate()
    tunnel: Callable[[AgentSettings], Tunnel] = lambda _settings: NoTunnel()
    """It is started after the gate."""
    health: Callable[[AgentSettings, Tunnel], tuple[HealthSource, ...]] = (
        lambda _settings, _tunnel: ()
    )
    metrics: Callable[[], Metrics] = PlainMetrics
    notifier: Notifier = field(default_factory=NoNotifier)


class Daemon:
    """One agent; :meth:`run` returns when it was told to end."""

    def __init__(self, file: Path, parts: Optional[Parts] = None) -> None:
        """Read the settings, settle nothing, serve nothing yet."""
        parts = parts or Parts()
        self._live = LiveSettings(file)
        settings = self._live()
        logs.configure(level=logging.getLevelName(settings.log_level.upper()))
        self._lock = _alone(settings.state_dir)
        self._notifier = parts.notifier
        self._host = Host(settings.host())
        self._means = Means(
            settings=self._live,
            host=self._host,
            ledger=Ledger(settings.state_dir / "agent"),
            gate=parts.gate(settings),
            metrics=parts.metrics(),
        )
        self._works = Works(self._live)
        self._events = EventLog()
        self._tunnel = parts.tunnel(settings)
        self._desk = TicketDesk(
            settings.id, load_secret(settings), skew=timedelta(seconds=settings.clock_skew_s)
        )
        self._libvirt = LibvirtHealth(self._host)
        own = (self._live, RestoreHealth())
        heartbeat = HeartbeatSource(
            self._means,
            self._works,
            self._events,
            self._libvirt,
            sources=(*own, *parts.health(settings, self._tunnel)),
        )
        self._api = AgentApi(self._desk, self._works, self._means, heartbeat, self._events)
        self._lifecycle = LifecycleWatch(settings.libvirt_uri, self._events.add)
        self._end = threading.Event()
        self._swept = threading.Event()
        self._live.on_change(self._apply)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        settings = self._live()
        signals = Signals((*_ENDING, signal.SIGHUP))
        park_records(self._means)
        self._libvirt.start()
        # Named before others may begin works: a slow sweep must not take those for a dead agent's.
        orphans = self._means.ledger.open_ids()
        threading.Thread(
            target=self._keep_sweeping, args=(orphans,), name="sweep", daemon=True
        ).start()
        # A libvirt that hangs must not keep the control plane from hearing of it.
        self._swept.wait(_FIRST_SWEEP_S)
        self._means.gate.start()
        server = ApiServer(settings.listen, self._api)
        server.start()
        self._lifecycle.start()
        self._tunnel.start()
        upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)
        upkeep.start()
        log.info("agent %s (sendense %s) serves %s", settings.id, __version__, settings.listen)
        self._notifier.ready()
        try:
            self._wait(signals)
        finally:
            self._close(server)
        log.info("ended")

    # -- inside ----------------------------------------------------------------------

    def _wait(self, signals: Signals) -> None:
        """Be the main thread, which signals come to."""
        while True:
            come = signals.wait(1.0)
            if come.intersection(_ENDING):
                return
            self._notifier.alive()
            running, queued = len(self._works.running), len(self._works.queued)
            self._notifier.status(f"serving: {running} under way, {queued} waiting")
            if signal.SIGHUP in come:
                self._notifier.reloading()
                self._live.reload()
                self._notifier.ready()

    def _keep_up(self) -> None:
        """Do what has to be done every now and then."""
        due: dict[Callable[[], None], float] = {
            self._works.tick: 1.0,
            self._look_at_file: _LOOK_S,
            self._forget: _FORGET_S,
        }
        last = {act: clock.boottime() for act in due}
        while not self._end.wait(1.0):
            for act, every_s in due.items():
                if clock.boottime() - last[act] < every_s:
                    continue
                last[act] = clock.boottime()
                try:
                    act()
                except Exception:
                    # The queue, the leases and the sweep must go on whatever one of them meets.
                    log.exception("upkeep failed")

    def _keep_sweeping(self, orphans: tuple[str, ...]) -> None:
        """Settle what dead works left: at the start, and later what could not be settled then."""
        while not self._end.is_set():
            try:
                if self._libvirt.reached(within_s=_ANSWER_S):
                    sweep(self._means)
                orphans = close_orphans(self._means, orphans)
            except Exception:
                log.exception("settling what dead works left failed")
            self._swept.set()
            self._end.wait(_SWEEP_S)

    def _look_at_file(self) -> None:
        self._live.look()

    def _forget(self) -> None:
        self._means.ledger.forget_old(clock.now(), skew=self._desk.skew)

    def _apply(self, settings: AgentSettings) -> None:
        self._host.settings = settings.host()
        self._desk.skew = timedelta(seconds=settings.clock_skew_s)
        logging.getLogger("sendense").setLevel(settings.log_level.upper())
        self._means.gate.set_rate(settings.performance.bytes_per_s)
        self._works.schedule()

    def _close(self, server: ApiServer) -> None:
        log.info("ending: guests are freed first")
        self._end.set()
        self._notifier.stopping()
        self._works.stop()
        self._tunnel.stop()
        server.stop()
        self._means.gate.stop()
        self._lifecycle.stop()
        self._libvirt.stop()
        self._host.__exit__(None, None, None)
        os.close(self._lock)


def _alone(state_dir: Path) -> int:
    """Lock the state directory: two agents would settle each other's work."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotAllowed(f"cannot use {state_dir}: {error.strerror}", hint="run as root") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Busy(f"another agent works in {state_dir}", hint="stop it first") from None
    return lock
