"""Who is logged in at the gateway, and how a session is ended from outside.

OpenSSH has no command for that.  Its log says which key came from which address and port; the
kernel says which processes hold that connection, or listen on an agent's port; and a process is
known as one of ours because it holds our server's log open.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import signal
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

# Whole lines, because parts of others are what strangers typed: a name of a user, a greeting.
_ACCEPTED = re.compile(r"Accepted publickey for \S+ from (\S+) port (\d+) ssh2: \S+ (SHA256:\S+)")
_GONE = re.compile(
    r"(?:Connection closed by|Disconnected from|Connection reset by"
    r"|Timeout, client not responding from) (?:user \S+ )?(\S+) port (\d+)"
)
_TAKEN = re.compile(r"(?:error: )?channel_setup_fwd_listener\w*: cannot listen to port: (\d+)")
_LISTEN = "0A"
_ROUNDS = 10

Peer = tuple[str, int]
"""Address and port that a connection came from."""


@dataclass(frozen=True)
class Login:
    """A key that was let in, from one connection."""

    fingerprint: str
    peer: Peer


def login_of(line: str) -> Login | None:
    """Give what a line of the server's log says of a login."""
    found = _ACCEPTED.fullmatch(line)
    return Login(found[3], (found[1], int(found[2]))) if found else None


def ended_peer(line: str) -> Peer | None:
    """Give the connection that a line of the log says is over."""
    found = _GONE.fullmatch(line)
    return (found[1], int(found[2])) if found else None


def taken_port(line: str) -> int | None:
    """Give the port that a line of the log says an agent did not get, because it is in use.

    The server asks for a port only where the key is good for it: so the agent itself had it
    before, over a connection that it no longer has.
    """
    found = _TAKEN.fullmatch(line)
    return int(found[1]) if found else None


def end_sessions(
    log: Path, *, peers: Collection[Peer] = (), ports: Collection[int] = (), spare: int = 0
) -> int:
    """Kill the sessions that came from ``peers`` or listen on ``ports``; gives how many processes.

    Killed, because a session that is asked would first finish what it has under way.
    ``spare`` is the server itself.
    """
    wanted = sockets_of(peers=peers, ports=ports)
    ended = 0
    for pid, inodes in processes_of(log):
        if pid != spare and inodes & wanted:
            ended += _kill(pid)
    return ended


def end_all(log: Path) -> int:
    """Kill every process that holds the log open: what an earlier run left."""
    ended = 0
    for _ in range(_ROUNDS):
        # The server may have taken one more connection while its others were ended.
        now = sum(_kill(pid) for pid, _ in processes_of(log))
        if not now:
            break
        ended += now
    return ended


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def processes_of(log: Path) -> Iterator[tuple[int, set[str]]]:
    """Give the server's processes, each with the inodes of its sockets."""
    mine = os.getpid()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == mine:
            continue
        held: set[str] = set()
        # It ends while we look, or is somebody else's.
        with contextlib.suppress(OSError):
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    held.add(str(descriptor.readlink()))
        if str(log) in held:
            yield int(entry.name), {item[8:-1] for item in held if item.startswith("socket:[")}


def sockets_of(*, peers: Collection[Peer] = (), ports: Collection[int] = ()) -> set[str]:
    """Find in the kernel's tables the connections with ``peers`` and the listeners on ``ports``."""
    wanted = {(_plain(address), port) for address, port in peers}
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        if not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            words = line.split()
            local, remote = _endpoint(words[1]), _endpoint(words[2])
            if remote in wanted or (words[3] == _LISTEN and local[1] in ports):
                found.add(words[9])
    return found


def _endpoint(text: str) -> tuple[str, int]:
    """Read ``0100007F:1F90``: words of 32 bits in the order of the processor, port in hex."""
    address, port = text.split(":")
    raw = b"".join(
        int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8)
    )
    return _plain(str(ipaddress.ip_address(raw))), int(port, 16)


def _plain(address: str) -> str:
    """Give one spelling of an address; IPv4 inside IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)
