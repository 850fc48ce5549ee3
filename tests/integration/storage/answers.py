"""An HTTP server whose answers are chosen by the test, in place of a service that is in trouble."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext

Answer = Callable[[BaseHTTPRequestHandler], None]


def status(number: int, code: str = "Code") -> Answer:
    """Answer with a status and a body as S3 has it."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
        request.send_response(number)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    return answer


def cut_short(request: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent."""
    request.send_response(206)
    for name, value in {
        "Content-Length": "1000",
        "Content-Range": "bytes 0-999/5000",
        "ETag": '"x"',
        "Last-Modified": "Mon, 23 Nov 2026 07:33:08 GMT",
    }.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(b"123")
    request.wfile.flush()
    request.connection.shutdown(socket.SHUT_RDWR)


def silence(seconds: float) -> Answer:
    """Say nothing for a time, then go away."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        request.connection.shutdown(socket.SHUT_RDWR)

    return answer


def slowly(bytes_per_s: float, body: int) -> Answer:
    """Give a body at that speed, after the request."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(206)
        for name, value in {
            "Content-Length": str(body),
            "Content-Range": f"bytes 0-{body - 1}/{body}",
            "ETag": '"x"',
            "Last-Modified": "Mon, 23 Nov 2026 07:33:08 GMT",
        }.items():
            request.send_header(name, value)
        request.end_headers()
        piece = max(1, int(bytes_per_s / 10))
        for first in range(0, body, piece):
            request.wfile.write(b"x" * min(piece, body - first))
            request.wfile.flush()
            time.sleep(0.1)

    return answer


@contextmanager
def answering(
    answer: Answer, *, take_bytes_per_s: float | None = None, tls: SSLContext | None = None
) -> Iterator[str]:
    """Serve every request so, on a free port; give the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            left = int(self.headers.get("Content-Length") or 0)
            while left > 0:
                piece = len(self.rfile.read1(min(left, 65536)))
                left -= piece
                if take_bytes_per_s:
                    time.sleep(piece / take_bytes_per_s)
            answer(self)

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep quiet."""

    for verb in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.serve)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
