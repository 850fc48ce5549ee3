"""Clients are sent away, and only they: other connections of the process stay."""

from __future__ import annotations

import socket

import pytest

from sendense.serving.connections import shut_down_clients


def _listening(family, address):
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(address)
    made.listen()
    return made


def _connected(listening):
    family = listening.family
    client = socket.socket(family, socket.SOCK_STREAM)
    name = listening.getsockname()
    client.connect(name if family == socket.AF_UNIX else ("127.0.0.1", name[1]))
    accepted, _ = listening.accept()
    client.settimeout(5)
    accepted.settimeout(5)
    return client, accepted


@pytest.mark.parametrize("kind", ["unix", "tcp", "all addresses"])
def test_who_came_in_is_shut_down(kind, tmp_path):
    if kind == "unix":
        listening = _listening(socket.AF_UNIX, str(tmp_path / "nbd"))
    else:
        listening = _listening(socket.AF_INET, ("127.0.0.1" if kind == "tcp" else "", 0))
    client, accepted = _connected(listening)
    ours, theirs = socket.socketpair()
    with listening, client, accepted, ours, theirs:
        assert shut_down_clients(socket.SHUT_RD) == 1
        # No question is read any more, an answer still arrives.
        assert accepted.recv(1) == b""
        accepted.sendall(b"answer")
        assert client.recv(10) == b"answer"
        assert shut_down_clients(socket.SHUT_RDWR) == 1
        assert client.recv(1) == b""
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"


def test_nobody_is_there():
    assert shut_down_clients(socket.SHUT_RDWR) == 0
