"""The gateway before a server: it delays, limits, mends one status, and changes nothing else."""

from __future__ import annotations

import socket
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.dedup.gateway import Head, Way, mended, serve
from sendense_lab.ports import free_port

CONTENT = bytes(range(256)) * 4096


class Server(BaseHTTPRequestHandler):
    """Answers ranges as rclone does: with the status of a whole object."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/pieces":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one", b"x" * 300_000):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        content, wanted = CONTENT, self.headers.get("Range")
        self.send_response(200)
        if wanted:
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            content = CONTENT[first : last + 1]
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}")
        self._send(content)

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_PUT(self):
        received = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self._send(str(sum(received)).encode())

    def _send(self, content):
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()


def through(server, *, delay_s=0.0, rate=0.0):
    port = free_port()
    way = Way(server, delay_s, rate)
    threading.Thread(target=serve, args=(port, way), daemon=True).start()
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.01)
    return HTTPConnection("127.0.0.1", port, timeout=20)


def ask(connection, method, path, body=None, **headers):
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_contents_pass_unchanged_on_one_connection(server):
    connection = through(server)
    assert ask(connection, "GET", "/") == (200, CONTENT)
    assert ask(connection, "HEAD", "/") == (200, b"")
    assert ask(connection, "PUT", "/", body=CONTENT) == (200, str(sum(CONTENT)).encode())
    assert ask(connection, "GET", "/pieces") == (200, b"one" + b"x" * 300_000)
    assert ask(connection, "GET", "/") == (200, CONTENT)
    connection.close()


def test_a_range_gets_the_status_of_a_range(server):
    connection = through(server)
    assert ask(connection, "GET", "/", Range="bytes=10-19") == (206, CONTENT[10:20])
    connection.close()


def test_each_request_waits(server):
    connection = through(server, delay_s=0.05)
    began = time.monotonic()
    for _ in range(4):
        ask(connection, "HEAD", "/")
    assert time.monotonic() - began >= 0.2
    connection.close()


def test_a_connection_is_no_faster_than_allowed(server):
    connection = through(server, rate=4 * len(CONTENT))
    began = time.monotonic()
    assert ask(connection, "GET", "/") == (200, CONTENT)
    assert time.monotonic() - began >= 0.2
    connection.close()


def test_only_a_whole_status_with_a_range_is_mended():
    def status(text):
        return mended(Head(text.encode() + b"\r\n\r\n", b"")).lines.split(b" ")[1]

    assert status("HTTP/1.1 200 OK\r\nContent-Range: bytes 0-1/2") == b"206"
    assert status("HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/2") == b"206"
    assert status("HTTP/1.1 200 OK\r\nContent-Length: 2") == b"200"
    assert status("HTTP/1.1 416 No\r\nContent-Range: bytes */2") == b"416"
