"""A hold on one running domain that survives a restart of libvirtd.

libvirtd may be restarted at any time, an NBD export of QEMU and its job go on
(measured: libvirt.md F9.2); only the connection dies.  :meth:`DomainLink.call`
connects again and repeats the call, which is why callers pass only calls that
may be repeated.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable, Optional, TypeVar

import libvirt

from sendense import clock
from sendense.capture.connection import connect, translate
from sendense.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_RECONNECT_S = 15.0
"""A restart of libvirtd takes 1-5 s with a few guests; beyond this it is down."""

_LOST = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_INTERNAL_ERROR)


class GuestOff(NotFound):
    """The guest does not run here: it was stopped, or moved to another host."""


class DomainLink:
    """One domain by UUID on one libvirt, reconnecting as needed; safe for several threads."""

    def __init__(self, uri: str, uuid: str) -> None:
        """Connect lazily."""
        self.uri = uri
        self.uuid = uuid
        self._lock = threading.RLock()
        self._connection: Optional[Any] = None

    def call(self, doing: str, action: Callable[[Any], Result]) -> Result:
        """Run ``action(domain)``; errors come out translated, ``doing`` says at what."""
        deadline = clock.monotonic() + _RECONNECT_S
        while True:
            try:
                return action(self._domain())
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    raise GuestOff(
                        f"{doing} failed: the guest is off or not on this host"
                    ) from error
                if not self._lost(error) or clock.monotonic() >= deadline:
                    raise translate(error, doing) from error
                log.info("libvirt went away while %s; connecting again", doing)
            except Unavailable:
                if clock.monotonic() >= deadline:
                    raise
            self.close()
            clock.sleep(0.5)

    def another(self) -> DomainLink:
        """Give a hold on the same domain that has a connection of its own, made when needed.

        For a call that must not wait while another one blocks: on one connection the answer of
        the second may lie there until the next keepalive.  Measured with libvirt 9.0, a begin
        that waits for the job lock and a thaw beside it: the thaw took up to 10 s, and 5 s in
        2 of 4 tries; on a connection of its own 0.02 s each time.
        """
        return DomainLink(self.uri, self.uuid)

    def connection(self) -> Any:
        """Give the open libvirt connection."""
        with self._lock:
            if self._connection is None:
                self._connection = connect(self.uri)
            return self._connection

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except libvirt.libvirtError:
                log.debug("closing a dead connection failed", exc_info=True)

    def _domain(self) -> Any:
        domain = self.connection().lookupByUUIDString(self.uuid)
        if not domain.isActive():
            # libvirt keeps the definition of a persistent one; nothing of it can be asked.
            raise GuestOff("the guest is off")
        return domain

    def _lost(self, error: libvirt.libvirtError) -> bool:
        """Tell a dead connection from a refusal: only a live one answers ``isAlive``."""
        if error.get_error_code() not in _LOST:
            return False
        with self._lock:
            connection = self._connection
        try:
            return connection is None or connection.isAlive() != 1
        except libvirt.libvirtError:
            return True
