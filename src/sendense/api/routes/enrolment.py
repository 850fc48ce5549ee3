"""Enrolling the agents of hosts, and asking them how they are now."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter
from pydantic import Field

from sendense import clock
from sendense.api.access import ADMIN, reads, writes
from sendense.api.fleet_shapes import HostShape, host_shape
from sendense.api.guard import GuardedRoute
from sendense.api.services import ServicesHere
from sendense.api.shapes import Asked, IdInPath, Shape
from sendense.model.access import Area
from sendense.model.agent_status import Heartbeat
from sendense.model.enrolment import Enrolment, GatewayPlace
from sendense.model.fleet import Transport

router = APIRouter(route_class=GuardedRoute, tags=["hosts and instances"])


class EnrolmentAsked(Asked):
    """The key that was made on the host."""

    public_key: str = Field(
        max_length=2048,
        examples=[
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGuVT1gtJqZ6sVvJ0tCq9mSNn5nG2W1d6q0pGsG0pJ3K"
        ],
    )
    """Of its tunnels, as in a `.pub` file; the private half never leaves the host."""


class GatewayShape(Shape):
    """The gateway, as agents reach it."""

    host: str
    port: int
    user: str
    host_keys: list[str]
    """Agents accept no other."""
    forward_address: str


class CertificateShape(Shape):
    """What a host shows to workers; all in PEM."""

    authority: str
    certificate: str
    key: str


class EnrolmentShape(Shape):
    """What the settings of the agent need. The secret is shown this once."""

    agent: str
    secret: str
    """Tickets for this agent are signed with it."""
    transport: Transport
    address: str
    gateway: GatewayShape
    api_port: int
    gate_ports: list[int]
    certificate: CertificateShape | None
    """With the transport `tls`."""


class ReleasedShape(Shape):
    """What a release left."""

    left: list[str]
    """Machines whose bitmaps stay for now, with the reason."""


class PauseAsked(Asked):
    """How long a host is to get no new work."""

    minutes: int = Field(default=120, ge=1, le=7 * 24 * 60)
    """It ends by itself then, should nobody end it."""


@router.post("/hosts/{host_id}/enrolment", status_code=201)
@writes(Area.HOSTS, ADMIN, repeatable=False)
def enrol_host(services: ServicesHere, host_id: IdInPath, asked: EnrolmentAsked) -> EnrolmentShape:
    """Enrol the agent of a host. What was known of it before opens nothing any more."""
    return _shape(services.hosts.enrol(host_id, asked.public_key))


@router.get("/gateway")
@reads(Area.HOSTS)
def show_gateway(services: ServicesHere) -> GatewayShape:
    """Show the gateway that agents dial."""
    return _gateway(services.hosts.gateway())


@router.post("/hosts/{host_id}/enrolment/undo", response_model=HostShape)
@writes(Area.HOSTS, ADMIN)
def undo_enrolment(services: ServicesHere, host_id: IdInPath) -> HostShape:
    """Let a host in with what it had before it was enrolled last, or not at all.

    For a deployment that failed. Known until the server is started again.
    """
    services.hosts.undo(host_id)
    return host_shape(services.catalog.hosts.get(host_id), clock.now())


@router.get("/hosts/{host_id}/heartbeat")
@reads(Area.HOSTS)
def check_host(services: ServicesHere, host_id: IdInPath) -> Heartbeat:
    """Ask the agent of a host how it is, now and through its tunnel."""
    return services.hosts.look(host_id)


@router.post("/hosts/{host_id}/release")
@writes(Area.HOSTS, ADMIN)
def release_host(services: ServicesHere, host_id: IdInPath) -> ReleasedShape:
    """Take our bitmaps and checkpoints off all machines of a host: before its agent is removed."""
    return ReleasedShape(left=list(services.hosts.release(host_id)))


@router.post("/hosts/{host_id}/pause", response_model=HostShape)
@writes(Area.HOSTS)
def pause_host(services: ServicesHere, host_id: IdInPath, asked: PauseAsked) -> HostShape:
    """Give a host no new captures and restores for a while; what runs goes on."""
    now = clock.now()
    until = now + timedelta(minutes=asked.minutes)
    return host_shape(services.catalog.hosts.pause(host_id, until), now)


@router.post("/hosts/{host_id}/resume", response_model=HostShape)
@writes(Area.HOSTS)
def resume_host(services: ServicesHere, host_id: IdInPath) -> HostShape:
    """Give a host work again."""
    return host_shape(services.catalog.hosts.pause(host_id, None), clock.now())


def _shape(enrolment: Enrolment) -> EnrolmentShape:
    certificate = enrolment.certificate
    return EnrolmentShape(
        agent=enrolment.agent,
        secret=enrolment.secret,
        transport=Transport(enrolment.transport),
        address=enrolment.address,
        gateway=_gateway(enrolment.gateway),
        api_port=enrolment.api_port,
        gate_ports=list(enrolment.gate_ports),
        certificate=None
        if certificate is None
        else CertificateShape(
            authority=certificate.authority,
            certificate=certificate.certificate,
            key=certificate.key,
        ),
    )


def _gateway(place: GatewayPlace) -> GatewayShape:
    return GatewayShape(
        host=place.host,
        port=place.port,
        user=place.user,
        host_keys=list(place.host_keys),
        forward_address=place.forward_address,
    )
