"""Enrolling the agent of a host: a key of its own that can only forward, ports, and a secret.

The private key is made on the host and never leaves it; the public one comes here.  The secret
of the tickets goes the other way, once, over the connection that the deployment has to the host.
Enrolling again replaces both: what was known before opens nothing any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.fleet.certificates import host_certificate
from sendense.fleet.gateway_config import key_words
from sendense.model.enrolment import Enrolment, GatewayPlace
from sendense.model.fleet import Transport
from sendense.model.secret import Secret

_SECRET_BYTES = 32


@dataclass(frozen=True)
class Desk:
    """What enrolling takes beside the catalogue."""

    gateway: GatewayPlace
    ports: range
    """Of the gateway, for the ends of all tunnels."""
    data_connections: int
    let_in: Callable[[], None]
    """Has the gateway take over the keys of the catalogue."""


def new_secret() -> Secret:
    """Make a secret for the tickets of one agent."""
    return Secret(secrets.token_urlsafe(_SECRET_BYTES))


def enrol(
    catalog: Catalog, desk: Desk, host_id: str, public_key: str, secret: Secret | None = None
) -> Enrolment:
    """Enrol a host, by the public key that was made there; another host's key is refused."""
    words = " ".join(key_words(public_key))
    secret = secret or new_secret()
    host = catalog.hosts.assign_ports(host_id, desk.ports, desk.data_connections)
    if host.control_port is None:
        raise TypeError("a host without a control port")
    catalog.hosts.enrol(host_id, public_key=words, ticket_secret=secret, at=clock.now())
    desk.let_in()
    under_tls = host.transport is Transport.TLS
    return Enrolment(
        agent=host_id,
        secret=secret.reveal().decode(),
        transport=host.transport.value,
        gateway=desk.gateway,
        api_port=host.control_port,
        gate_ports=host.data_ports,
        address=host.address,
        certificate=host_certificate(catalog.secrets, host_id, (host.address,))
        if under_tls
        else None,
    )
