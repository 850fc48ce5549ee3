"""The worker's first words at a gate: connect, say the line, hear whether NBD may follow.

See "Gates" in ``docs/agent-api.md``.  Under TLS there is no line: certificates take its place.
"""

from __future__ import annotations

import socket

from sendense import clock
from sendense.errors import Busy, NotAllowed, SendenseError, Unavailable
from sendense.model.export import Gate

_ANSWER_MOST = 64
_KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


def knock(gate: Gate, address: tuple[str, int], *, target: str, within_s: float) -> socket.socket:
    """Give a connection on which the gate's NBD server speaks next."""
    deadline = clock.monotonic() + within_s
    host, port = address
    try:
        wire = socket.create_connection(address, timeout=within_s)
        try:
            tend(wire)
            wire.sendall(b"SENDENSE/1 %s %s\n" % (gate.name.encode(), gate.secret.reveal()))
            _require_ok(_answer(wire, deadline), target)
        except BaseException:
            wire.close()
            raise
    except TimeoutError as error:
        raise Unavailable(
            f"the gate of {target} did not answer for {within_s:g} s",
            hint="the tunnel of its host hangs, or the host is very busy",
            gate=f"{host}:{port}",
        ) from error
    except OSError as error:
        raise Unavailable(
            f"cannot reach the gate of {target}: {error.strerror or error}",
            hint="the tunnel of its host is down, or the work there has ended",
            gate=f"{host}:{port}",
        ) from error
    return wire


def tend(wire: socket.socket) -> None:
    """Send small requests at once, and notice within a minute that the other end is gone."""
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _answer(wire: socket.socket, deadline: float) -> str:
    """Read the answer and not a byte more, because NBD follows at once."""
    heard = b""
    while not heard.endswith(b"\n"):
        left = deadline - clock.monotonic()
        if left <= 0:
            raise TimeoutError
        wire.settimeout(left)
        more = wire.recv(1)
        if not more or len(heard) >= _ANSWER_MOST:
            raise ConnectionAbortedError(None, "it ended the connection without an answer")
        heard += more
    return heard[:-1].decode("ascii", "replace")


def _require_ok(answer: str, target: str) -> None:
    if answer != "OK":
        raise _refusal(answer, target)


def _refusal(answer: str, target: str) -> SendenseError:
    """Turn ``NO <code>`` into what the caller should do about it."""
    code = answer[3:] if answer.startswith("NO ") else ""
    if code == "not-allowed":
        return NotAllowed(
            f"the gate does not let us reach {target}",
            hint="the work on the host has ended, or was begun anew: ask the agent for its status",
            target=target,
        )
    if code == "busy":
        return Busy(
            f"the gate has all the connections to {target} that it takes",
            hint="use fewer connections, or wait for the others to end",
            target=target,
        )
    if code == "unavailable":
        return Unavailable(
            f"the gate cannot reach the NBD server of {target}",
            hint="the machine stopped or the work ended: ask the agent for its status",
            target=target,
        )
    return Unavailable(f"the gate of {target} answered in a way that is not known", target=target)
