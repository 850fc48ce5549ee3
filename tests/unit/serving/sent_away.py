"""Clients are sent away, in a process of its own: ``python -m tests.unit.serving.sent_away``.

Not in that of the tests, for what is tried here concerns every connection of the process.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from pathlib import Path

from sendense.serving.connections import shut_down_clients

_PATIENCE_S = 60


def _listening(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(address)
    made.listen()
    return made


def _connected(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    family = listening.family
    client = socket.socket(family, socket.SOCK_STREAM)
    name = listening.getsockname()
    client.connect(name if family == socket.AF_UNIX else ("127.0.0.1", name[1]))
    accepted, _ = listening.accept()
    client.settimeout(_PATIENCE_S)
    accepted.settimeout(_PATIENCE_S)
    return client, accepted


def who_came_in_is_shut_down(kind: str, folder: Path) -> None:
    """Have one client, and a connection that is none."""
    if kind == "unix":
        listening = _listening(socket.AF_UNIX, str(folder / "nbd"))
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


def main(kind: str) -> None:
    """Try one kind of socket, or that nobody is there."""
    if kind == "nobody":
        assert shut_down_clients(socket.SHUT_RDWR) == 0
        return
    with tempfile.TemporaryDirectory() as folder:
        who_came_in_is_shut_down(kind, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
