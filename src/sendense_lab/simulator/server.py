"""The HTTP side: sockets, forms, headers, and answers that go wrong on demand."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from datetime import datetime
from email.utils import format_datetime
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from sendense_lab.simulator import answers
from sendense_lab.simulator.api import Api, Reply
from sendense_lab.simulator.errors import TOO_MANY, ApiError
from sendense_lab.simulator.faults import Fault, Faults

PATH = "/client/api"
MOST = 2 << 20
Headers = list[tuple[str, str]]


class ApiServer(ThreadingHTTPServer):
    """A server on a port of the loopback; connections end with it."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, api: Api, faults: Faults, tls: ssl.SSLContext | None) -> None:
        self.api = api
        self.faults = faults
        self.tls = tls
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        """Take a connection; the handshake is its own thread's."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._guard:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: object) -> None:
        """End a connection."""
        with self._guard:
            self._open.discard(request)  # type: ignore[arg-type]
        super().shutdown_request(request)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away: that is theirs to tell."""

    def cut(self) -> None:
        """End all connections at once."""
        with self._guard:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: ApiServer
    timeout = 120

    def do_GET(self) -> None:
        """Answer a request whose parameters are in its address."""
        self._answer("")

    def do_POST(self) -> None:
        """Answer a request with a form."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > MOST:
            self.close_connection = True
            return
        self._answer(self.rfile.read(length).decode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Keep quiet: requests carry keys."""

    def _answer(self, form: str) -> None:
        parts = urlsplit(self.path)
        if parts.path.rstrip("/") != PATH:
            self._send(404, b"not found", "text/plain", [])
            return
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        pairs += parse_qsl(form, keep_blank_values=True)
        first = dict(reversed(pairs))
        last = dict(pairs)
        command = next((value for name, value in pairs if name.lower() == "command"), "")
        as_json = any(
            (name.lower(), value.lower()) == ("response", "json") for name, value in pairs
        )
        faults = self.server.faults.caught(command)
        reply = self._before(faults, command)
        if reply is None:
            self.server.faults.run_hooks(command)
            reply = self.server.api.answer(first, last, self.command, self._cookies())
        self._reply(reply, faults, as_json=as_json)

    def _cookies(self) -> dict[str, str]:
        found: SimpleCookie = SimpleCookie(self.headers.get("Cookie", ""))
        return {name: morsel.value for name, morsel in found.items()}

    def _before(self, faults: list[Fault], command: str) -> Reply | None:
        key = f"{command.lower()}response"
        for fault in faults:
            if fault.kind == "slow":
                fault.over.wait(fault.seconds)
            if fault.kind == "throttle":
                error = ApiError(TOO_MANY, "The given user has reached his/her account api limit, "
                                 "please retry after 1000 ms.")  # fmt: skip
                return Reply(key, error.body(), error.code, error.text)
            if fault.kind == "error":
                error = ApiError(fault.status, fault.body.decode())
                return Reply(key, error.body(), error.code, error.text)
            if fault.kind == "html":
                return Reply("", {})
        return None

    def _reply(self, reply: Reply, faults: list[Fault], *, as_json: bool) -> None:
        kinds = {fault.kind: fault for fault in faults}
        if "html" in kinds:
            self._send(kinds["html"].status, kinds["html"].body, "text/html", [])
            return
        if "reset" in kinds:
            self._drop(b"")
            return
        world = self.server.api.world
        if as_json:
            data = answers.to_json(reply.key, reply.body)
            kind = "application/json; charset=UTF-8"
        else:
            data = answers.to_xml(reply.key, reply.body, world.full_version)
            kind = "text/xml; charset=UTF-8"
        headers = [("X-Description", reply.text.splitlines()[0])] if reply.text else []
        headers += [("Set-Cookie", each) for each in reply.cookies]
        if "half" in kinds:
            self._drop(self._head(reply.status, len(data), kind, headers) + data[: len(data) // 2])
            return
        self._send(reply.status, data, kind, headers)

    def _send(self, status: int, data: bytes, kind: str, headers: Headers) -> None:
        # In one piece: a body that follows its header in a second packet waits for the first
        # one's acknowledgement, 40 ms with some clients.
        self.wfile.write(self._head(status, len(data), kind, headers) + data)

    def _drop(self, data: bytes) -> None:
        self.wfile.write(data)
        self.close_connection = True

    def _head(self, status: int, length: int, kind: str, headers: Headers) -> bytes:
        now: datetime = self.server.api.world.now()
        lines = [
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}",
            f"Date: {format_datetime(now, usegmt=True)}",
            f"Content-Type: {kind}",
            f"Content-Length: {length}",
            "X-Content-Type-Options: nosniff",
            "Cache-Control: no-cache",
            *(f"{name}: {value}" for name, value in headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
