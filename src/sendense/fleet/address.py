"""How an agent is reached: a value, made from what the catalogue knows of the host."""

from __future__ import annotations

from dataclasses import dataclass

from sendense.model.secret import Secret


@dataclass(frozen=True)
class AgentAddress:
    """One agent, and the ways to it from where we run."""

    id: str
    name: str
    """The host's, for people."""
    secret: Secret
    """Signs its tickets."""
    control: tuple[str, int] | None = None
    """Host and port of the end of its control tunnel, at the gateway."""
    data: tuple[tuple[str, int], ...] = ()
    """The ends of its data tunnels."""
    socket: str | None = None
    """Path of its API, where we run on the same host (transport ``local``)."""
    direct: str | None = None
    """Address of the host itself, with transport ``tls``."""
    certificates: str | None = None
    """Directory with our certificates for TLS."""
