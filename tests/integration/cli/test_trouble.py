"""Servers that are away, slow, busy, or something else altogether."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from sendense.cli.remote import client as asking
from sendense.cli.remote.answers import Doc, problem_of
from sendense.errors import Busy, SendenseError, Unavailable
from sendense_lab.ports import free_port
from tests.support.tcp_way import TcpWay

PROBLEM = "application/problem+json"


class Strange:
    """A server that answers what it is told to; what it was asked is remembered."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = ""
        self.silent = threading.Event()


@contextmanager
def strange_server() -> Iterator[Strange]:
    """Serve on a free port."""
    strange = Strange()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            strange.asked.append((self.command, self.path, self.headers.get("idempotency-key")))
            self.rfile.read(int(self.headers.get("content-length", 0)))
            if not strange.answers:
                strange.silent.wait(200)
                return
            many = len(strange.answers) > 1
            status, headers, body = strange.answers.pop(0) if many else strange.answers[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    strange.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield strange
    finally:
        strange.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def strange(person, monkeypatch):
    with strange_server() as server:
        monkeypatch.setenv("SENDENSE_SERVER", server.url)
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Wait for nothing."""
    waits: list[float] = []
    monkeypatch.setattr("sendense.clock.sleep", waits.append)
    return waits


def test_away(person, monkeypatch):
    monkeypatch.setenv("SENDENSE_SERVER", f"http://127.0.0.1:{free_port()}")
    answer = person.refused("status", code=5, says="cannot be reached")
    assert "whether the server runs" in answer.err
    assert person("job", "list", "--json").document["error"]["code"] == "unavailable"
    # With everything logged, and tracebacks: the token is in none of it.
    assert "Traceback" in person("job", "list", "-vv").err


def test_a_token_is_not_logged(person):
    answer = person("host", "list", "-vv")
    assert answer.code == 0
    assert "Bearer" not in answer.err


def test_slow(person, strange, monkeypatch):
    monkeypatch.setattr(asking, "SILENT_S", 0.2)
    person.refused("status", code=5, says="did not answer in time")
    assert len(strange.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {}, b"<html>hello</html>"),
        (200, {}, b"[1]"),
        (200, {}, b""),
        (200, {}, b"\xff\xfe"),
        (200, {}, b"[" * 100_000),
        (404, {}, b"<html>no</html>"),
        (502, {}, b"bad gateway"),
        (500, {"Content-Type": PROBLEM}, b'{"code": 7}'),
    ],
)
def test_nonsense(person, strange, status, headers, body):
    strange.answers = [(status, headers, body)]
    person.refused("host", "list", code=5, says="is not a Sendense server")


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"items": 7}', b'{"items": [7]}', b'{"items": [{"name": "x"}]}',
     b'{"items": [{"name": "x", "last_seen": "yesterday", "health": "ok", "address": ""}]}'],
)  # fmt: skip
def test_answers_that_lack_something(person, strange, body):
    strange.answers = [(200, {}, body)]
    answer = person.refused("host", "list", code=5, says="the server's")
    assert "different versions" in answer.err


def test_a_token_is_not_sent_to_another_place(person, strange):
    strange.answers = [(307, {"Location": "http://192.0.2.1/"}, b"")]
    person.refused("host", "list", code=2, says="sends us to another place")
    assert len(strange.asked) == 1


def test_what_changes_nothing_is_asked_again(person, strange, impatient):
    busy = (503, {"Retry-After": "7"}, b'{"code": "busy", "message": "later"}')
    strange.answers = [busy, busy, (200, {}, b'{"items": [], "next_cursor": null}')]
    assert "no host" in person.ok("host", "list")
    assert len(strange.asked) == 3
    assert all(5 < wait < 9 for wait in impatient)
    strange.answers = [busy]
    person.refused("host", "list", code=4, says="later")


def test_what_is_asked_for_is_asked_once_and_again_under_its_key(person, strange):
    away, done = b'{"code": "unavailable", "message": "away"}', b'{"name": "x", "id": "i"}'
    strange.answers = [(503, {}, away), (201, {}, done)]
    assert "known as i" in person.ok("host", "add", "x", "x")
    keys = {key for _, _, key in strange.asked}
    assert len(strange.asked) == 2
    assert len(keys) == 1
    assert None not in keys


def test_a_new_token_is_asked_for_once(person, strange):
    strange.answers = [(503, {}, b'{"code": "unavailable", "message": "away"}')]
    person.refused("token", "add", "x", code=5, says="away")
    assert len(strange.asked) == 1


def test_a_connection_that_breaks_off(person, site, monkeypatch):
    with TcpWay(free_port()) as way:
        monkeypatch.setenv("SENDENSE_SERVER", way.url)
        person.refused("host", "list", code=5, says="")
        assert way.accepted == 4


def test_a_server_that_comes_back(person, site, monkeypatch):
    with TcpWay(urlsplit(site.url).port) as way:
        monkeypatch.setenv("SENDENSE_SERVER", way.url)
        way.close()
        monkeypatch.setattr("sendense.clock.sleep", lambda _s: way.open())
        assert "kvm1" in person.ok("host", "list")


def test_errors_are_what_they_were():
    content = (
        b'{"code": "busy", "message": "m", "hint": null, "data": {"hint": "x", "message": "y"}}'
    )
    error = problem_of(503, content, "u")
    assert isinstance(error, Busy)
    assert error.data == {"hint": "x", "message": "y"}
    assert type(problem_of(500, b'{"code": "failed", "message": "m"}', "u")) is SendenseError
    assert isinstance(problem_of(418, b'{"code": "of-tomorrow", "message": "m"}', "u"), Unavailable)
    assert isinstance(Doc(a=1)["a"], int)
