"""Ports for servers that are told their port and listen on it a moment later.

A port that the kernel chooses is from the range that it also gives to outgoing connections, of
which tests make thousands: until the server listens, one of them may get it.  The ports given
here are outside of that range, and none is given twice.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from sendense_lab.errors import LabError

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_ROOM = 40
"""Free numbers behind a port: who needs several counts on from the one that was given."""
_TRIES = 2000
_chance = random.SystemRandom()  # tests set the seed of the other one
_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """Give a port of an address that nobody uses now, and that nobody else is given here."""
    highest = int(_OUTGOING.read_text().split()[0]) - _ROOM
    for _ in range(_TRIES):
        port = _chance.randrange(_LOWEST, max(highest, _LOWEST + 1))
        if port not in _given and _is_free(address, port):
            _given.add(port)
            return port
    raise LabError(f"no port of {address} is free between {_LOWEST} and {highest}")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
