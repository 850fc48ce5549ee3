"""Calling an agent: its API over HTTP, through its tunnel or on its socket.

Every call carries a ticket.  Answers are values of :mod:`sendense.model.agent_status`; problems
come back as the errors that the agent raised.  All calls may be repeated, so a connection that
breaks is :class:`~sendense.errors.Unavailable` and the caller tries again.
"""

from __future__ import annotations

import json
import secrets
import threading
from datetime import timedelta
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from sendense import clock
from sendense.errors import NotFound, Rejected, SendenseError, Stalled, Unavailable, Unsupported
from sendense.fleet.address import AgentAddress
from sendense.fleet.problems import error_of
from sendense.model.agent_status import (
    PROTOCOL,
    CaptureStatus,
    Events,
    Heartbeat,
    Released,
    RestoreStatus,
)
from sendense.model.coding import decode, encode
from sendense.model.machine import Machine
from sendense.model.survey import Survey
from sendense.model.ticket import (
    SCHEME,
    Action,
    CaptureOrder,
    RestoreOrder,
    Ticket,
    sign,
)

T = TypeVar("T")

_CONNECT_S = 10.0
_ANSWER_S = 60.0
"""A survey of a machine with many disks on slow storage takes seconds."""
_LOOK_LASTS = timedelta(minutes=5)
_BEGIN_WITHIN = timedelta(minutes=10)
"""How long a ticket that acts may still begin its work."""
_MARGIN = timedelta(minutes=1)
_LARGEST_ANSWER = 64 * 1024 * 1024
"""An inventory of a thousand machines takes about one MiB, an NVRAM less."""


class AgentClient:
    """One agent's API; for several threads."""

    def __init__(self, address: AgentAddress) -> None:
        """Connect to nothing yet."""
        self.address = address
        self._http = _http(address)
        self._lock = threading.Lock()
        self._look: tuple[Ticket, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- looking ---

    def heartbeat(self) -> Heartbeat:
        """Ask how it is; one that speaks another version of the protocol is refused by name."""
        beat = decode(Heartbeat, self._read("/v1/heartbeat"))
        if beat.facts.protocol != PROTOCOL:
            raise Unsupported(
                f"the agent on {self.address.name} (sendense {beat.facts.version}) speaks version "
                f"{beat.facts.protocol} of the protocol, and this server {PROTOCOL}",
                hint=f"bring both to one release: sendense host upgrade {self.address.name}",
            )
        return beat

    def machines(self) -> tuple[Machine, ...]:
        """List the machines of the host."""
        return decode(tuple[Machine, ...], self._read("/v1/machines"), place="machines")

    def machine(self, uuid: str) -> Machine:
        """Give one machine."""
        return decode(Machine, self._read(f"/v1/machines/{uuid}"))

    def survey(self, uuid: str) -> Survey:
        """Look at the disks of a machine."""
        return decode(Survey, self._read(f"/v1/machines/{uuid}/survey"))

    def survey_of(self, xml: str) -> Survey:
        """Look at the disks of a machine that is off, by the domain XML that is brought.

        Where the host's libvirt knows the machine after all, what it knows is told.
        """
        path = "/v1/surveys"
        try:
            answer = self.call("POST", path, self._looking(), {"domain_xml": xml})
        except NotFound as error:
            if error.message != f"there is no {path} here":
                raise
            raise Unsupported(
                f"the agent on {self.address.name} cannot look at a machine that its libvirt has "
                "forgotten",
                hint=f"bring it to this release: sendense host upgrade {self.address.name}",
            ) from error
        return decode(Survey, answer)

    def events(self, after: int, *, wait_s: int = 0) -> Events:
        """Give what happened after a number, waiting for something if asked to."""
        return decode(Events, self._read(f"/v1/events?after={after}&wait_s={wait_s}"))

    # --- acting ---

    def capture(self, order: CaptureOrder, *, id: str, job: str = "") -> CaptureWork:  # noqa: A002
        """Give the capture with this id, which :meth:`CaptureWork.begin` begins."""
        return CaptureWork(self, self._ticket(Action.CAPTURE, id, job=job, capture=order))

    def restore(self, order: RestoreOrder, *, id: str, job: str = "") -> RestoreWork:  # noqa: A002
        """Give the restore with this id, which :meth:`RestoreWork.begin` begins."""
        return RestoreWork(self, self._ticket(Action.RESTORE, id, job=job, restore=order))

    def release(self, machine: str) -> tuple[str, ...]:
        """Take our bitmaps and checkpoints off a machine; gives what was removed."""
        ticket = self._ticket(Action.RELEASE, secrets.token_hex(16), release=machine)
        answer = self.call("POST", "/v1/releases", self._signed(ticket))
        return decode(Released, answer).removed

    # --- inside ---

    def _ticket(self, action: Action, identity: str, **order: Any) -> Ticket:
        until = clock.now() + _BEGIN_WITHIN
        return Ticket(identity, self.address.id, action, until, **order)

    def _signed(self, ticket: Ticket) -> str:
        return sign(ticket, self.address.secret)

    def _read(self, path: str) -> object:
        return self.call("GET", path, self._looking())

    def _looking(self) -> str:
        """Give a ticket to look, which serves for some minutes."""
        with self._lock:
            now = clock.now()
            if self._look is None or self._look[0].expires_at - _MARGIN < now:
                ticket = Ticket(
                    secrets.token_hex(16), self.address.id, Action.LOOK, now + _LOOK_LASTS
                )
                self._look = (ticket, self._signed(ticket))
            return self._look[1]

    def call(self, method: str, path: str, ticket: str, content: object = None) -> object:
        """Make one call; gives the JSON values of the answer."""
        # The agent compares its clock with it: tickets expire by the agent's.
        date = format_datetime(clock.now(), usegmt=True)
        headers = {"Authorization": f"{SCHEME} {ticket}", "Date": date}
        body = None if content is None else encode(content)
        try:
            with self._http.stream(method, path, headers=headers, json=body) as answer:
                data = _bounded(answer)
        except httpx.TimeoutException as error:
            raise Stalled(
                f"the agent on {self.address.name} does not answer",
                hint="look at its service and at its tunnel: 'sendense host check'",
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the agent on {self.address.name} cannot be reached: {error}",
                hint="look at its service and at its tunnel: 'sendense host check'",
            ) from error
        found = _json(data, self.address)
        if answer.status_code >= 400:
            raise _problem(found, self.address)
        return found


class CaptureWork:
    """One capture of an agent, by the ticket that is the key to it."""

    def __init__(self, client: AgentClient, ticket: Ticket) -> None:
        """Begin nothing yet."""
        self._client = client
        self.id = ticket.id
        self._token = sign(ticket, client.address.secret)

    def begin(self) -> CaptureStatus:
        """Begin it, or queue it; repeated, it gives the status."""
        return self._call("POST", "/v1/captures")

    def status(self) -> CaptureStatus:
        """Ask how it stands, which also says that it is still wanted."""
        return self._call("GET", f"/v1/captures/{self.id}")

    def commit(self, drop: tuple[str, ...]) -> CaptureStatus:
        """Say that the point is stored: superseded checkpoints go."""
        return self._call("POST", f"/v1/captures/{self.id}/commit", {"drop": list(drop)})

    def abort(self) -> CaptureStatus:
        """Have it taken back."""
        return self._call("DELETE", f"/v1/captures/{self.id}")

    def _call(self, method: str, path: str, content: object = None) -> CaptureStatus:
        answer = self._client.call(method, path, self._token, content)
        return decode(CaptureStatus, answer, place="capture")


class RestoreWork:
    """One restore of an agent."""

    def __init__(self, client: AgentClient, ticket: Ticket) -> None:
        """Begin nothing yet."""
        self._client = client
        self.id = ticket.id
        self._token = sign(ticket, client.address.secret)

    def begin(self) -> RestoreStatus:
        """Begin it, or queue it."""
        return self._call("POST", "/v1/restores")

    def status(self) -> RestoreStatus:
        """Ask how it stands."""
        return self._call("GET", f"/v1/restores/{self.id}")

    def finish(self) -> RestoreStatus:
        """Say that all disks are written."""
        return self._call("POST", f"/v1/restores/{self.id}/finish")

    def abort(self) -> RestoreStatus:
        """Have it given up."""
        return self._call("DELETE", f"/v1/restores/{self.id}")

    def _call(self, method: str, path: str) -> RestoreStatus:
        answer = self._client.call(method, path, self._token)
        return decode(RestoreStatus, answer, place="restore")


def _http(address: AgentAddress) -> httpx.Client:
    timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
    if address.socket is not None:
        transport = httpx.HTTPTransport(uds=address.socket)
        return httpx.Client(base_url="http://agent", transport=transport, timeout=timeout)
    if address.control is None:
        raise Rejected(
            f"no way to the agent on {address.name} is known",
            hint="deploy it again: 'sendense host deploy'",
        )
    host, port = address.control
    # Never through a proxy that the environment names: it is the end of a tunnel.
    return httpx.Client(base_url=f"http://{host}:{port}", timeout=timeout, trust_env=False)


def _bounded(answer: httpx.Response) -> bytes:
    parts, length = [], 0
    for part in answer.iter_bytes():
        length += len(part)
        if length > _LARGEST_ANSWER:
            raise Unavailable(f"an agent's answer is longer than {_LARGEST_ANSWER} bytes")
        parts.append(part)
    return b"".join(parts)


def _json(data: bytes, address: AgentAddress) -> object:
    try:
        return json.loads(data) if data else None
    except ValueError as error:
        raise Unavailable(
            f"what answers for the agent on {address.name} is none",
            hint="another program may listen on the port of its tunnel",
        ) from error


def _problem(content: object, address: AgentAddress) -> SendenseError:
    """Give the error that the agent raised."""
    if not isinstance(content, dict):
        return Unavailable(f"the agent on {address.name} failed without a word")
    data = content.get("data")
    facts = {str(key): value for key, value in data.items()} if isinstance(data, dict) else {}
    hint = content.get("hint")
    return error_of(
        str(content.get("code")),
        str(content.get("message") or "the agent failed"),
        hint=None if hint is None else str(hint),
        **{**facts, "host": address.name},
    )
