"""Tokens that do not count: after some of them an address waits, without being heard.

A token is 256 random bits and not guessed; what is held down is noise in the log and work for the
database.  Tokens that were good a moment ago are let through, because behind a proxy all clients
may have one address, and none of them is to lock the others out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading
from collections import OrderedDict

from sendense import clock
from sendense.model.secret import Secret

_MOST = 10_000
"""Addresses, and good tokens, that are remembered."""
_NETWORK_BITS = 64
"""The smallest network of IPv6 that one customer of a provider gets."""


class Attempts:
    """Failed attempts by address."""

    def __init__(self, *, allowed: int = 10, window_s: float = 60.0) -> None:
        """Let so many fail within a window before an address has to wait for its end."""
        self._allowed = allowed
        self._window_s = window_s
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str, token: Secret) -> float:
        """Give how long an address has to wait; 0: it is heard."""
        place = _place(address)
        with self._lock:
            began, count = self._failures.get(place, (0.0, 0))
            left = began + self._window_s - clock.monotonic()
            if count < self._allowed or left <= 0:
                return 0.0
            good = self._good.get(_mark(token))
            return 0.0 if good is not None and good > clock.monotonic() else left

    def failed(self, address: str) -> None:
        """Count a failure."""
        place = _place(address)
        with self._lock:
            now = clock.monotonic()
            began, count = self._failures.get(place, (now, 0))
            if began + self._window_s <= now:
                began, count = now, 0
            self._failures[place] = (began, count + 1)
            _bound(self._failures)

    def succeeded(self, token: Secret) -> None:
        """Remember a token that counts."""
        with self._lock:
            self._good[_mark(token)] = clock.monotonic() + 10 * self._window_s
            self._good.move_to_end(_mark(token))
            _bound(self._good)


def _place(address: str) -> str:
    """Give what counts as one address: of IPv6 the network, for everybody has a whole one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _NETWORK_BITS), strict=False))


def _mark(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal()).digest()


def _bound(known: OrderedDict[str, tuple[float, int]] | OrderedDict[bytes, float]) -> None:
    if len(known) > _MOST:
        known.popitem(last=False)
