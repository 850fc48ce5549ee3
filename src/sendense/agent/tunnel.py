"""The tunnels of a host: ssh clients that keep ports of the gateway open, which lead here.

One carries the agent's API, the others the bytes of disks: several, because each encrypts on one
core.  Each has a thread that starts its client, reads what it says, and starts it again when it
ends, later each time.  The clients die with the agent: the kernel kills them when the thread that
started them is gone.
"""

from __future__ import annotations

import logging
import random
import subprocess
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from sendense import clock
from sendense.agent.tunnel_ssh import (
    Forward,
    Trouble,
    TunnelSettings,
    command,
    forwards,
    graver,
    is_connected,
    pause_s,
    plain_words,
    trouble_of,
)
from sendense.model.agent_status import HealthCheck, Level

_log = logging.getLogger(__name__)

_SETTLED_S = 30.0
"""A connection that lasted so long was a success, and the next pause is short."""
_END_S = 2.0
_LINE_MOST = 4096


@dataclass(frozen=True)
class TunnelState:
    """How one tunnel is."""

    name: str
    """``control`` or ``data-N``."""
    port: int
    """At the gateway."""
    connected_since: Optional[datetime] = None
    failures: int = 0
    """In a row."""
    trouble: Optional[Trouble] = None
    """Of the last failure."""
    message: Optional[str] = None
    hint: Optional[str] = None
    pid: Optional[int] = None


class Tunnels:
    """All tunnels of a host; :meth:`start` them, :meth:`stop` them."""

    def __init__(self, settings: TunnelSettings) -> None:
        """Prepare; nothing runs yet."""
        self._tunnels = [_Tunnel(settings, forward) for forward in forwards(settings)]

    def start(self) -> None:
        """Begin to connect, and go on until :meth:`stop`."""
        for tunnel in self._tunnels:
            tunnel.start()

    def stop(self) -> None:
        """End all of them."""
        for tunnel in self._tunnels:
            tunnel.tell_stop()
        for tunnel in self._tunnels:
            tunnel.join()

    def states(self) -> tuple[TunnelState, ...]:
        """Give how each is."""
        return tuple(tunnel.state for tunnel in self._tunnels)

    def health(self) -> HealthCheck:
        """Give how they are together."""
        return health_of(self.states())


def health_of(states: tuple[TunnelState, ...]) -> HealthCheck:
    """Say in one sentence how the tunnels are."""
    down = [state for state in states if state.connected_since is None]
    if not down:
        return HealthCheck("tunnel", Level.OK, f"{len(states)} tunnels to the gateway")
    worst = max(down, key=lambda state: state.failures)
    level = Level.FAILED if any(state.name == "control" for state in down) else Level.WARNING
    if len(down) == len(states):
        level = Level.FAILED
    count = f"{len(down)} of {len(states)} tunnels are down"
    if worst.message is None:
        return HealthCheck("tunnel", level, f"{count}: not connected yet")
    return HealthCheck("tunnel", level, f"{count}: {worst.message}", worst.hint)


class _Tunnel:
    """One client, and the thread that keeps it running."""

    def __init__(self, settings: TunnelSettings, forward: Forward) -> None:
        self._settings = settings
        self._forward = forward
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._thread: Optional[threading.Thread] = None
        self.state = TunnelState(forward.name, forward.port)

    def start(self) -> None:
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(
                target=self._keep, name=f"tunnel-{self._forward.name}", daemon=True
            )
            self._thread.start()

    def tell_stop(self) -> None:
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def join(self) -> None:
        thread = self._thread
        if thread is None:
            return
        thread.join(_END_S)
        with self._lock:
            # One that hangs keeps the thread waiting for its words.
            if thread.is_alive() and self._process is not None:
                self._process.kill()
        thread.join()
        self._thread = None

    def _keep(self) -> None:
        """Connect again and again, until told to stop."""
        failures = 0
        while not self._stopping.is_set():
            begun = clock.monotonic()
            kind = self._run()
            if self._stopping.is_set():
                break
            settled = self.state.connected_since and clock.monotonic() - begun > _SETTLED_S
            failures = 1 if settled else failures + 1
            self._failed(kind, failures)
            # Not for secrets: it only has to differ between hosts.
            self._stopping.wait(pause_s(kind, failures, random.random()))  # noqa: S311
        self.state = replace(self.state, connected_since=None, pid=None)

    def _run(self) -> Trouble:
        """Run one client to its end; gives why it ended."""
        try:
            with self._lock:
                if self._stopping.is_set():
                    return Trouble.OTHER
                self._process = process = subprocess.Popen(
                    command(self._settings, self._forward),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    cwd="/",
                )
        except OSError as error:
            _log.error("cannot start ssh: %s", error)
            return Trouble.CLIENT
        self.state = replace(self.state, pid=process.pid)
        try:
            return self._listen(process) or Trouble.OTHER
        finally:
            with self._lock:
                self._process = None
            _end(process)

    def _listen(self, process: subprocess.Popen[bytes]) -> Optional[Trouble]:
        """Hear a client out; gives what it named as the cause of its end."""
        kind: Optional[Trouble] = None
        if process.stderr is None:
            return kind
        with process.stderr as stream:
            while line := stream.readline(_LINE_MOST):
                text = line.decode(errors="replace").strip()
                if is_connected(text):
                    self._connected()
                    kind = None
                    continue
                kind = graver(kind, trouble_of(text))
                if not text.startswith("debug"):
                    _log.debug("ssh %s: %s", self._forward.name, text)
        return kind

    def _connected(self) -> None:
        _log.info("tunnel %s is up, port %d", self._forward.name, self._forward.port)
        self.state = replace(
            self.state,
            connected_since=clock.now(),
            failures=0,
            trouble=None,
            message=None,
            hint=None,
        )

    def _failed(self, kind: Trouble, failures: int) -> None:
        message, hint = plain_words(kind)
        if self.state.trouble is not kind:
            _log.warning("tunnel %s is down: %s", self._forward.name, message)
        self.state = replace(
            self.state,
            connected_since=None,
            failures=failures,
            trouble=kind,
            message=message,
            hint=hint,
            pid=None,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
