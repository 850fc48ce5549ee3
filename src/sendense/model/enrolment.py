"""What a host gets to know when its agent is enrolled: who it is, and where it dials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class GatewayPlace:
    """The gateway, as agents reach it."""

    host: str
    port: int
    user: str
    host_keys: tuple[str, ...]
    """Its public keys; agents accept no other."""
    forward_address: str = "127.0.0.1"
    """On which the ends of tunnels listen."""


@dataclass(frozen=True)
class HostCertificate:
    """What a host shows to workers, with the transport ``tls``; all in PEM."""

    authority: str
    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Enrolment:
    """Everything that the settings of one agent need from the control plane."""

    agent: str
    secret: str = field(repr=False)
    """Tickets are signed with it; it is shown once."""
    transport: str
    gateway: GatewayPlace
    api_port: int
    gate_ports: tuple[int, ...]
    address: str = ""
    """Of the host, as workers reach it; for the transport ``tls``."""
    certificate: Optional[HostCertificate] = None
