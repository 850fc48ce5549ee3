"""An HTTP server that answers a CloudStack client with whatever bytes a test gives.

For answers that no well-behaved server gives: cut off, from a proxy, never.  What a real
management server does is the simulator's part.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Raw:
    """One answer, down to its bytes."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What it claims to be long; more than the body has: it is cut off."""
    silent: bool = False
    """Nothing comes, and the connection ends."""
    skew_s: float | None = 0.0


Answer = Raw | dict[str, Any]
Answers = Callable[[dict[str, str]], Answer]
Take = Callable[[bytes, Message], Raw]


class RawCloud:
    """A server that answers each form with what a function makes of it; keeps what was asked."""

    def __init__(self, answer: Answers, *, get: bool, take: Take | None) -> None:
        self.answer = answer
        self.get = get
        self.take = take
        self.asked: list[dict[str, str]] = []
        self.methods: list[str] = []
        self.lock = threading.Lock()

    @property
    def commands(self) -> list[str]:
        return [form["command"] for form in self.asked]


def refused(command: str, code: int, text: str = "no") -> Raw:
    """CloudStack's way to refuse."""
    inner = {"uuidList": [], "errorcode": code, "cserrorcode": 9999, "errortext": text}
    return Raw(json.dumps({f"{command.lower()}response": inner}).encode(), status=code)


@contextmanager
def raw_cloud(
    answer: Answers, *, get: bool = False, take: Take | None = None
) -> Iterator[tuple[RawCloud, str]]:
    """Serve on a free port of the loopback; gives the server and its endpoint.

    `get`: what is in the address counts. `take` gets a body and headers that are no form.
    """
    cloud = RawCloud(answer, get=get, take=take)
    server = _Server(("127.0.0.1", 0), _handler(cloud))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield cloud, f"http://127.0.0.1:{server.server_address[1]}/client/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may hang up."""


def _handler(cloud: RawCloud) -> type[socketserver.BaseRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True  # else a body waits 40 ms behind its headers

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(size)
            if cloud.take:
                self._give(cloud.take(body, self.headers))
                return
            told = urlsplit(self.path).query if cloud.get else body.decode()
            form = dict(parse_qsl(told, keep_blank_values=True))
            with cloud.lock:
                cloud.asked.append(form)
                cloud.methods.append(self.command)
                found = cloud.answer(form)
            if isinstance(found, dict):
                envelope = {f"{form['command'].lower()}response": found}
                found = Raw(json.dumps(envelope).encode())
            self._give(found)

        do_GET = do_POST  # noqa: N815 - the name that the base class calls

        def _give(self, raw: Raw) -> None:
            self.close_connection = raw.silent or raw.length is not None
            if raw.silent:
                return
            self.send_response_only(raw.status, "as it is")
            if raw.skew_s is not None:
                self.send_header("Date", formatdate(time() + raw.skew_s, usegmt=True))
            for name, value in raw.headers.items():
                self.send_header(name, value)
            length = len(raw.body) if raw.length is None else raw.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(raw.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
