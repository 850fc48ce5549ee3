"""What the agent needs of its neighbours, and plain ones for where there is none.

The gate, the tunnels, the health checks and the metrics are parts of their own; the daemon
knows only these faces, and its wiring (:mod:`~sendense.agent.daemon`) brings them together.
"""

from __future__ import annotations

from typing import Optional, Protocol

from sendense.agent.gate import Share
from sendense.agent.settings import AgentSettings
from sendense.model.agent_status import HealthCheck
from sendense.model.secret import Secret


class GateFace(Protocol):
    """Where workers reach exports."""

    @property
    def port(self) -> int:
        """Give the port of the gate on this host's loopback."""

    def start(self) -> None:
        """Begin to listen."""

    def stop(self) -> None:
        """End all connections, and listen no more."""

    def open(
        self,
        name: str,
        secret: Secret,
        socket_path: str,
        *,
        bytes_per_s: int,
        connections: int,
        share: Optional[Share] = None,
    ) -> Optional[int]:
        """Let who knows the secret through to a socket; gives the export's own port, if any."""

    def close(self, name: str) -> None:
        """Let nobody through any more, and end the connections; may be repeated."""

    def set_rate(self, bytes_per_s: int) -> None:
        """Limit all of them together from now on; 0 is no limit."""


class NoGate:
    """Where the transport is ``local``: workers open QEMU's sockets themselves."""

    port = 0

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def open(
        self,
        name: str,
        secret: Secret,
        socket_path: str,
        *,
        bytes_per_s: int,
        connections: int,
        share: Optional[Share] = None,
    ) -> Optional[int]:
        """Do nothing."""
        return None

    def close(self, name: str) -> None:
        """Do nothing."""

    def set_rate(self, bytes_per_s: int) -> None:
        """Do nothing."""


class Tunnel(Protocol):
    """The agent's way to the gateway."""

    def start(self) -> None:
        """Dial, and dial again whenever it breaks."""

    def stop(self) -> None:
        """Hang up."""


class NoTunnel:
    """Where the control plane is on this host."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class HealthSource(Protocol):
    """Somebody who watches something of the host or of the agent."""

    def checks(self, settings: AgentSettings) -> tuple[HealthCheck, ...]:
        """Say how it is, at once: nothing slow is done here."""


class Metrics(Protocol):
    """Counts, for Prometheus."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def render(self) -> str:
        """Write all in Prometheus' text format."""


class Notifier(Protocol):
    """The service manager, as far as it wants to be told."""

    def ready(self) -> None:
        """Say that the agent serves."""

    def alive(self) -> None:
        """Say that it is not stuck; about once a second."""

    def reloading(self) -> None:
        """Say that the settings are read again."""

    def stopping(self) -> None:
        """Say that it ends."""

    def status(self, text: str) -> None:
        """Say in a line what it does; the same line again is not sent."""


class NoNotifier:
    """Where nobody wants to be told."""

    def ready(self) -> None:
        """Do nothing."""

    def alive(self) -> None:
        """Do nothing."""

    def reloading(self) -> None:
        """Do nothing."""

    def stopping(self) -> None:
        """Do nothing."""

    def status(self, text: str) -> None:
        """Do nothing."""
