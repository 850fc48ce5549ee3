"""Which gate, tunnels, health checks and notifier the installed agent has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from sendense.agent.daemon import Parts
from sendense.agent.faces import GateFace, HealthSource, NoGate, NoTunnel, Tunnel
from sendense.agent.gate import Gate
from sendense.agent.gate_tls import GateTls
from sendense.agent.health import HostHealth
from sendense.agent.metrics import AgentMetrics, Sample
from sendense.agent.service import SystemdNotifier
from sendense.agent.settings import AgentSettings, Gateway
from sendense.agent.tunnel import Tunnels, TunnelState
from sendense.agent.tunnel_ssh import TunnelSettings
from sendense.model.agent_status import HealthCheck, Level

_KNOWN_HOSTS = "gateway_hosts"


def parts() -> Parts:
    """Give the parts of the installed agent."""
    measured = _Measured()
    return Parts(
        gate=measured.gate,
        tunnel=measured.tunnel,
        health=_health,
        metrics=lambda: measured.metrics,
        notifier=SystemdNotifier.of_process(),
    )


class _Measured:
    """The gate and the tunnels, which the metrics read."""

    def __init__(self) -> None:
        self.metrics = AgentMetrics()

    def gate(self, settings: AgentSettings) -> GateFace:
        if settings.transport == "local":
            return NoGate()
        gate = _gate_of(settings)
        self.metrics.read_from(lambda: _gate_samples(gate))
        return gate

    def tunnel(self, settings: AgentSettings) -> Tunnel:
        if settings.gateway is None:
            return NoTunnel()
        tunnels = HostTunnels(settings, settings.gateway)
        self.metrics.read_from(lambda: _tunnel_samples(tunnels))
        return tunnels


def _gate_of(settings: AgentSettings) -> Gate:
    ports = settings.nbd_export.port_range
    rate = settings.performance.bytes_per_s
    if settings.transport == "ssh" or settings.tls is None:
        # A unix socket: a port of the loopback would be open to every user of the host.
        return Gate(str(_gate_socket(settings)), bytes_per_s=rate)
    folder = settings.tls.certificates
    files = GateTls(
        str(folder / "server-cert.pem"),
        str(folder / "server-key.pem"),
        str(folder / "ca-cert.pem"),
    )
    return Gate(settings.tls.address, (ports.first, ports.last), bytes_per_s=rate, tls=files)


def _gate_socket(settings: AgentSettings) -> Path:
    return settings.listen.with_name("gate.sock")


class HostTunnels:
    """The tunnels of this host; their files are written when they start."""

    def __init__(self, settings: AgentSettings, gateway: Gateway) -> None:
        """Prepare."""
        self._settings = settings
        self._gateway = gateway
        self._tunnels: Optional[Tunnels] = None

    def start(self) -> None:
        """Dial, and dial again whenever it breaks."""
        gateway = self._gateway
        self._tunnels = Tunnels(
            TunnelSettings(
                host=gateway.host,
                port=gateway.port,
                user=gateway.user,
                key_file=str(gateway.key_file),
                known_hosts=str(_pinned(self._settings.state_dir, gateway)),
                control_socket=str(self._settings.listen),
                control_port=gateway.api_port,
                data_ports=gateway.gate_ports if self._settings.transport == "ssh" else (),
                gate=str(_gate_socket(self._settings)),
                listen=gateway.forward_address,
            )
        )
        self._tunnels.start()

    def stop(self) -> None:
        """Hang up."""
        if self._tunnels is not None:
            self._tunnels.stop()

    def states(self) -> tuple[TunnelState, ...]:
        """Give how each is."""
        return () if self._tunnels is None else self._tunnels.states()

    def health(self) -> HealthCheck:
        """Say how they are."""
        if self._tunnels is None:
            return HealthCheck("tunnel", Level.FAILED, "the tunnels are not started yet")
        return self._tunnels.health()


class _TunnelHealth:
    """What the tunnels say of themselves, for the heartbeat."""

    def __init__(self, tunnels: HostTunnels) -> None:
        self._tunnels = tunnels

    def checks(self, settings: AgentSettings) -> tuple[HealthCheck, ...]:
        return (self._tunnels.health(),)


def _health(settings: AgentSettings, tunnel: Tunnel) -> tuple[HealthSource, ...]:
    host = HostHealth(settings)
    host.start()
    return (host, _TunnelHealth(tunnel)) if isinstance(tunnel, HostTunnels) else (host,)


def _gate_samples(gate: Gate) -> Iterable[Sample]:
    counters = gate.counters()
    name = "sendense_agent_bytes_total"
    yield Sample(name, counters.read_bytes, (("direction", "read"),), "counter")
    yield Sample(name, counters.written_bytes, (("direction", "written"),), "counter")
    yield Sample("sendense_agent_gate_refused_total", counters.refused, kind="counter")
    yield Sample("sendense_agent_gate_connections", counters.open_connections)
    yield Sample("sendense_agent_gate_exports", counters.exports)


def _tunnel_samples(tunnels: HostTunnels) -> Iterable[Sample]:
    for state in tunnels.states():
        labels = (("tunnel", state.name),)
        yield Sample("sendense_agent_tunnel_up", state.connected_since is not None, labels)
        yield Sample("sendense_agent_tunnel_failures", state.failures, labels)


def _pinned(folder: Path, gateway: Gateway) -> Path:
    """Write the keys that the gateway may show; ssh accepts no other."""
    name = gateway.host if gateway.port == 22 else f"[{gateway.host}]:{gateway.port}"
    lines = [f"{name} {' '.join(key.split()[:2])}\n" for key in gateway.host_keys]
    path = folder / _KNOWN_HOSTS
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.writelines(lines)
    draft.replace(path)
    return path
