"""The server of the agent's API, by a client that means no good."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from sendense.agent.api import Answer, MethodNotKnown, Request
from sendense.agent.api_server import ApiServer, Patience
from sendense.errors import (
    AlreadyExists,
    Busy,
    NotAllowed,
    NotFound,
    OutOfSpace,
    SendenseError,
    SourceChanged,
    Stalled,
    Unsupported,
)
from sendense.model.agent_status import CaptureStatus, WorkState

ERRORS = {
    "/busy": (Busy("held", hint="wait", holder="somebody"), 409),
    "/exists": (AlreadyExists("there"), 409),
    "/not-allowed": (NotAllowed("no"), 403),
    "/changed": (SourceChanged("moved"), 409),
    "/stalled": (Stalled("slow"), 503),
    "/full": (OutOfSpace("full"), 507),
    "/unsupported": (Unsupported("old"), 422),
    "/failed": (SendenseError("bad"), 500),
}


class Little:
    """Answers a few paths."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)

    def answer(self, request: Request) -> Answer:
        if request.path in ERRORS:
            raise ERRORS[request.path][0]
        if request.path == "/bug":
            raise KeyError("secret of the code")
        if request.path == "/disk-full":
            raise OSError(errno.ENOSPC, "No space left on device", "/state/x")
        if request.path == "/wait":
            self.waiting.release()
            self.go.wait(200)
        if request.path not in ("/", "/wait"):
            raise NotFound("nothing here")
        if request.method not in ("GET", "POST"):
            raise MethodNotKnown(["GET", "POST"])
        return Answer(CaptureStatus("1", WorkState.READY, warnings=(json.dumps(request.body),)))


@contextmanager
def serving(folder: Path, **options: object) -> Iterator[tuple[Path, Little]]:
    path, api = folder / "s", Little()
    options = {"patience": Patience(look_s=0.05), **options}
    server = ApiServer(path, api, **options)  # type: ignore[arg-type]
    server.start()
    try:
        yield path, api
    finally:
        api.go.set()
        server.stop()


def connect(path: Path) -> socket.socket:
    wire = socket.socket(socket.AF_UNIX)
    wire.settimeout(120)
    wire.connect(str(path))
    return wire


def read_answer(wire: socket.socket) -> tuple[int, dict[str, Any], HTTPResponse]:
    answer = HTTPResponse(wire)
    answer.begin()
    return answer.status, json.loads(answer.read()), answer


def ask(path: Path, content: bytes) -> tuple[int, dict[str, Any], HTTPResponse]:
    with connect(path) as wire:
        with suppress(BrokenPipeError):  # it was answered and closed before a word was said
            wire.sendall(content)
        return read_answer(wire)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"PUT / HTTP/1.1\r\n\r\n", 405),
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n{x}", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60000, 400),
        (b"GET /?" + b"a=b&" * 30 + b" HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_answered_as_such(tmp_path, content, status):
    with serving(tmp_path) as (path, _):
        found, body, _ = ask(path, content)
        assert found == status, body
        assert body["status"] == status
        assert body["code"]


@pytest.mark.parametrize("where", ERRORS)
def test_errors_keep_their_code_and_facts(tmp_path, where):
    error, status = ERRORS[where]
    with serving(tmp_path) as (path, _):
        found, body, answer = ask(
            path, f"GET {where} HTTP/1.1\r\nAuthorization: x\r\n\r\n".encode()
        )
    assert found == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {key: body[key] for key in error.to_dict()} == error.to_dict()
    assert body["type"] == f"urn:sendense:error:{error.code}"


def test_without_a_ticket_it_is_401(tmp_path):
    with serving(tmp_path) as (path, _):
        assert ask(path, b"GET /not-allowed HTTP/1.1\r\n\r\n")[0] == 401


def test_a_bug_tells_nothing_of_the_code(tmp_path):
    with serving(tmp_path) as (path, _):
        status, body, _ = ask(path, b"GET /bug HTTP/1.1\r\n\r\n")
    assert status == 500
    assert "secret" not in json.dumps(body)
    assert "KeyError" not in json.dumps(body)


def test_a_full_disk_is_told_as_such(tmp_path):
    with serving(tmp_path) as (path, _):
        status, body, _ = ask(path, b"GET /disk-full HTTP/1.1\r\n\r\n")
    assert (status, body["code"]) == (507, "out-of-space")
    assert "/state/x" in body["hint"]


def test_a_connection_serves_one_request_after_the_other(tmp_path):
    with serving(tmp_path) as (path, _), connect(path) as wire:
        for number in range(3):
            body = json.dumps({"number": number}).encode()
            head = f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            wire.sendall(head + body)
            status, found, _ = read_answer(wire)
            assert status == 200
            assert json.loads(found["warnings"][0]) == {"number": number}


def test_one_more_than_it_can_serve_is_told_so_at_once(tmp_path):
    with serving(tmp_path, threads=2) as (path, api):
        with connect(path) as one, connect(path) as two:
            for wire in (one, two):
                wire.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
                assert api.waiting.acquire(timeout=90)
            status, body, _ = ask(path, b"")
            assert (status, body["code"], body["retryable"]) == (503, "busy", True)
            api.go.set()
            for wire in (one, two):
                assert read_answer(wire)[0] == 200
        deadline = time.monotonic() + 90
        while ask(path, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")[0] != 200:
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    "begin",
    [b"GET / HTTP/1.1\r\nA: ", b"GE", b"", b"POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n"],
)
def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(tmp_path, begin):
    with serving(tmp_path, patience=Patience(idle_s=1, read_s=1, look_s=0.05)) as (path, _):
        with connect(path) as wire:
            wire.sendall(begin)
            began = time.monotonic()
            with suppress(OSError):
                while time.monotonic() - began < 60:
                    wire.sendall(b"x")
                    time.sleep(0.1)
            assert time.monotonic() - began < 30
        assert ask(path, b"GET / HTTP/1.1\r\n\r\n")[0] == 200


def test_only_its_owner_may_connect(tmp_path):
    with serving(tmp_path) as (path, _):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(Busy, match="another agent"):
            ApiServer(path, Little())
    assert not path.exists()


def test_the_socket_of_a_dead_agent_is_no_hindrance(tmp_path):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "s"))
    dead.close()
    with serving(tmp_path) as (path, _):
        assert ask(path, b"GET / HTTP/1.1\r\n\r\n")[0] == 200
