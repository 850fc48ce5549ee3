"""A gateway before a server on this machine, which lacks what a network has: a way to go.

Each request waits as long as it would be on its way, there and back.  Each connection may have a
limit of its own, as one to a real service has.  Contents pass through a pipe of the kernel and
never reach Python, so the gateway takes little of the processor that is measured.

It mends one thing.  ``rclone serve s3`` answers a request for a range correctly, but with the
status of a whole object, which a client has to refuse.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass

_END = b"\r\n\r\n"
_MOST_HEAD = 64 * 1024
_PIECE = 256 * 1024
_BACKLOG = 64


@dataclass(frozen=True)
class Way:
    """What it is like to the server."""

    port: int
    """Where the server is."""
    delay_s: float
    rate: float
    """Bytes per second of one connection; 0: as fast as it goes."""


@dataclass(frozen=True)
class Head:
    """The first lines of a request or an answer."""

    lines: bytes
    """With the empty line behind them."""
    rest: bytes
    """What came of the body already."""

    def field(self, name: bytes) -> bytes | None:
        """Give the value of a field."""
        for line in self.lines.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return None

    @property
    def method(self) -> bytes:
        """Give the method of a request."""
        return self.lines.partition(b" ")[0]

    @property
    def length(self) -> int:
        """Give the length of the body, where it is said."""
        return int(self.field(b"content-length") or 0)

    @property
    def chunked(self) -> bool:
        """Tell whether the body says piece by piece how long it is."""
        return (self.field(b"transfer-encoding") or b"").lower() == b"chunked"

    @property
    def bare(self) -> bool:
        """Tell whether an answer has no body, whatever else it says."""
        return self.lines.split(b" ", 2)[1][:3] in (b"204", b"304")


def mended(head: Head) -> Head:
    """Give the answer to a request for a range the status that it has to have."""
    if head.field(b"content-range") is None:
        return head
    first, _, others = head.lines.partition(b"\r\n")
    if first.split(b" ")[1] != b"200":
        return head
    return Head(b"HTTP/1.1 206 Partial Content\r\n" + others, head.rest)


class _End:
    """One end of the way: a socket, and what was received of it and not looked at yet."""

    def __init__(self, wire: socket.socket) -> None:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire = wire
        self._held = b""

    def head(self) -> Head | None:
        """Receive a head; none where the other side has gone."""
        while _END not in self._held:
            more = self.wire.recv(_PIECE)
            if not more or len(self._held) > _MOST_HEAD:
                return None
            self._held += more
        lines, _, rest = self._held.partition(_END)
        self._held = b""
        return Head(lines + _END, rest)

    def line(self, before: bytes) -> tuple[bytes, bytes]:
        """Receive a line behind what came already; gives it and what is behind it."""
        while b"\r\n" not in before:
            before += self.wire.recv(_PIECE)
        first, _, rest = before.partition(b"\r\n")
        return first + b"\r\n", rest

    def keep(self, rest: bytes) -> None:
        """Put back what belongs to what comes next."""
        self._held = rest


class _Relay:
    """One client's connection, request by request."""

    def __init__(self, client: socket.socket, server: socket.socket, way: Way) -> None:
        self._client = _End(client)
        self._server = _End(server)
        self._way = way
        self._pipe = os.pipe()

    def run(self) -> None:
        """Pass on until one of the two goes."""
        try:
            while (request := self._client.head()) is not None:
                time.sleep(self._way.delay_s)
                self._body(request, self._client, self._server)
                answer = self._server.head()
                if answer is None:
                    return
                answer = mended(answer)
                if request.method == b"HEAD" or answer.bare:
                    self._client.wire.sendall(answer.lines)
                else:
                    self._body(answer, self._server, self._client)
        finally:
            for end in self._pipe:
                os.close(end)

    def _body(self, head: Head, source: _End, target: _End) -> None:
        """Pass a head on, with the body behind it."""
        if head.chunked:
            target.wire.sendall(head.lines)
            self._pieces(head.rest, source, target)
            return
        target.wire.sendall(head.lines + head.rest[: head.length])
        source.keep(head.rest[head.length :])
        self._splice(head.length - len(head.rest), source, target)

    def _pieces(self, held: bytes, source: _End, target: _End) -> None:
        length = 1
        while length:
            line, held = source.line(held)
            length = int(line.partition(b";")[0], 16)
            whole = length + 2
            target.wire.sendall(line + held[:whole])
            self._splice(whole - len(held), source, target)
            held = held[whole:]
        source.keep(held)

    def _splice(self, left: int, source: _End, target: _End) -> None:
        """Pass bytes on at the rate that is allowed."""
        began, passed = time.monotonic(), 0
        while left > 0:
            count = os.splice(source.wire.fileno(), self._pipe[1], min(left, _PIECE))
            if not count:
                raise ConnectionError("the body ended too early")
            left -= count
            passed += count
            while count:
                count -= os.splice(self._pipe[0], target.wire.fileno(), count)
            if self._way.rate:
                time.sleep(max(0.0, began + passed / self._way.rate - time.monotonic()))


def serve(port: int, way: Way) -> None:
    """Stand before the server, a thread for each connection."""
    with socket.create_server(("127.0.0.1", port), backlog=_BACKLOG) as listening:
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_relay, args=(client, way), daemon=True).start()


def _relay(client: socket.socket, way: Way) -> None:
    with closing(client), suppress(OSError):
        server = socket.create_connection(("127.0.0.1", way.port))
        with closing(server):
            _Relay(client, server, way).run()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Way(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
