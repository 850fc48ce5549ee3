"""HTTP/1.1 on a unix socket: bytes in, bytes out, and nobody can hold the agent up.

Connections are served by a bounded number of threads; one more gets 503 at once.  Headers and
bodies have most sizes.  A client that stalls, or sends a byte now and then, is cut off by its
deadline, whoever it keeps waiting.  No error of ours leaves with more than its own words: what
was not expected goes to the log.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import socketserver
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Optional, Protocol
from urllib.parse import parse_qsl, urlsplit

from sendense import __version__, clock
from sendense.agent.api import Answer, MethodNotKnown, Request
from sendense.agent.work import unexpected
from sendense.errors import (
    AlreadyExists,
    Busy,
    Damaged,
    NotAllowed,
    NotFound,
    OutOfSpace,
    Rejected,
    SendenseError,
    Unavailable,
    Unsupported,
)
from sendense.model.coding import encode

log = logging.getLogger(__name__)

_THREADS = 48
_BODY_MOST = 64 * 1024
_OURS_S = 3600.0
"""For us to answer: only the client's own time counts, but nothing is without an end."""


@dataclass(frozen=True)
class Patience:
    """How long a client may take, in seconds."""

    idle_s: float = 90.0
    """Between two requests of one connection; longer than a client that polls waits."""
    read_s: float = 20.0
    """For a request to arrive, from its first line to its last byte."""
    write_s: float = 120.0
    """To take the answer."""
    look_s: float = 0.5
    """How often those whose time is over are looked for."""


_STATUS: tuple[tuple[type[SendenseError], int], ...] = (
    (MethodNotKnown, 405),
    (NotFound, 404),
    (AlreadyExists, 409),
    (NotAllowed, 403),
    (Unsupported, 422),
    (Rejected, 400),
    (Busy, 409),
    (Unavailable, 503),
    (OutOfSpace, 507),
    (Damaged, 409),
)
"""The first that fits."""

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\nRetry-After: 1\r\n"
)


class Answering(Protocol):
    """Whoever answers requests."""

    def answer(self, request: Request) -> Answer:
        """Answer a request, or raise why not."""


class _Refused(Exception):
    """The request is no request that can be answered; the connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ApiServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The server; :meth:`start` serves until :meth:`stop`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        path: Path,
        api: Answering,
        *,
        threads: int = _THREADS,
        patience: Optional[Patience] = None,
    ) -> None:
        """Bind the socket, for root alone."""
        self.api = api
        self.patience = patience or Patience()
        self._path = path
        self._slots = threading.BoundedSemaphore(threads)
        self._deadlines: dict[socket.socket, float] = {}
        self._watch = threading.Lock()
        _clear(path)
        before = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        except OSError as error:
            raise NotAllowed(
                f"cannot listen on {path}: {error.strerror}", hint="mend the setting 'listen'"
            ) from error
        finally:
            os.umask(before)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(self.patience.look_s,), name="api", daemon=True
        )

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        self.shutdown()
        self.server_close()
        self._path.unlink(missing_ok=True)
        with self._watch:
            for connection in self._deadlines:
                _cut(connection)

    def expect(self, connection: socket.socket, within_s: float) -> None:
        """Cut a connection off that has not come further by then."""
        with self._watch:
            self._deadlines[connection] = clock.monotonic() + within_s

    # -- of socketserver -------------------------------------------------------------

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, if there is one to be had."""
        if not self._slots.acquire(blocking=False):
            _say_busy(request)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._watch:
                self._deadlines.pop(request, None)
            self._slots.release()

    def service_actions(self) -> None:
        """Cut off those whose time is over; called about twice a second."""
        now = clock.monotonic()
        with self._watch:
            for connection, deadline in self._deadlines.items():
                if deadline < now:
                    _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a connection that broke: clients come and go."""
        log.debug("a connection broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"sendense-agent/{__version__}"
    sys_version = ""
    server: ApiServer

    def setup(self) -> None:
        super().setup()
        patience = self.server.patience
        self.connection.settimeout(max(patience.idle_s, patience.write_s))
        self.server.expect(self.connection, patience.idle_s)

    def parse_request(self) -> bool:
        # Its first line is here: the rest has to follow soon.
        self.server.expect(self.connection, self.server.patience.read_s)
        return super().parse_request()

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's word
        """Say nothing: what matters is logged where it happens."""

    def address_string(self) -> str:
        return "unix"

    def send_error(self, code: int, message: Optional[str] = None, explain: Any = None) -> None:
        """Answer as all errors are, where http.server refuses by itself."""
        self.close_connection = True
        # A first line that is none counts as HTTP/0.9, which has no headers.
        self.request_version = self.protocol_version
        self._send(
            _problem(Rejected(message or "the request is not readable"), int(code)), int(code)
        )

    def _serve(self) -> None:
        began = clock.monotonic()
        status = 500
        try:
            request = self._request()
            self.server.expect(self.connection, _OURS_S)
            answer = self._ask(request)
            status = answer.status
            self._answer(answer)
        except _Refused as refused:
            self.close_connection = True
            status = refused.status
            self._send(_problem(Rejected(refused.message), status), status)
        except SendenseError as error:
            status = _status_of(error, self.headers.get("Authorization"))
            self._send(_problem(error, status), status, getattr(error, "allowed", ()))
        log.debug(
            "%s %s: %d, %.3f s", self.command, self.path[:200], status, clock.monotonic() - began
        )

    def _ask(self, request: Request) -> Answer:
        """Have it answered; what goes wrong with the connection is not in here."""
        try:
            return self.server.api.answer(request)
        except SendenseError:
            raise
        except Exception as error:
            log.exception("a request failed in a way that was not expected")
            raise unexpected(error) from error

    def _request(self) -> Request:
        body = self._body()
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=20))
        except ValueError:
            raise _Refused(400, "the path cannot be read") from None
        return Request(
            method=self.command,
            path=parts.path,
            query=query,
            ticket=self.headers.get("Authorization"),
            date=self.headers.get("Date"),
            body=body,
        )

    def _body(self) -> Any:
        if self.headers.get("Transfer-Encoding") is not None:
            raise _Refused(411, "a body comes with its Content-Length")
        declared = self.headers.get("Content-Length", "0")
        if not declared.isdecimal():
            raise _Refused(400, "Content-Length is no number")
        length = int(declared)
        if length > _BODY_MOST:
            raise _Refused(413, f"a body has at most {_BODY_MOST} bytes")
        content = self.rfile.read(length)
        if len(content) < length:
            raise _Refused(400, "the body ended too soon")
        if not content.strip():
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise _Refused(400, "the body is no JSON") from None

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer.content, str):
            kind, content = "text/plain; version=0.0.4; charset=utf-8", answer.content
        else:
            kind = "application/json"
            content = json.dumps(encode(answer.content), separators=(",", ":"))
        self._write(content.encode(), answer.status, kind)

    def _send(self, problem: dict[str, Any], status: int, allowed: tuple[str, ...] = ()) -> None:
        content = json.dumps(problem, separators=(",", ":")).encode()
        self._write(content, status, "application/problem+json", allowed)

    def _write(self, content: bytes, status: int, kind: str, allowed: tuple[str, ...] = ()) -> None:
        self.server.expect(self.connection, self.server.patience.write_s)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        if allowed:
            self.send_header("Allow", ", ".join(allowed))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.server.expect(self.connection, self.server.patience.idle_s)


def _status_of(error: SendenseError, ticket: Optional[str]) -> int:
    if isinstance(error, NotAllowed) and ticket is None:
        return 401
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _problem(error: SendenseError, status: int) -> dict[str, Any]:
    told = error.to_dict()
    return {
        "type": f"urn:sendense:error:{error.code}",
        "title": error.code,
        "status": status,
        **told,
    }


def _say_busy(connection: socket.socket) -> None:
    error = Busy("the agent serves as many connections as it can", hint="try again in a moment")
    content = json.dumps(_problem(error, 503)).encode()
    try:
        connection.settimeout(1.0)
        connection.sendall(_BUSY + b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
    except OSError:
        log.debug("a client went before it was told that the agent is busy")


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("a connection was gone already")


def _clear(path: Path) -> None:
    """Remove the socket of an agent that died; a living one keeps its own."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise NotAllowed(f"cannot make {path.parent}: {error.strerror}") from error
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise Busy(f"another agent serves {path}", hint="stop it first")
