"""Sending clients away when the server ends.

nbdkit ends when its last client goes, and a client that is idle does not go by itself: a machine
that runs from a disk, a mounted file system.  So the sockets of the clients are shut down from
within: first only for what they would still ask, so that answers under way arrive; and a
moment later altogether, for a client that does not fetch its answers would hold the server too.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from sendense import clock

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_OWN_FDS = Path("/proc/self/fd")
_POLITE_S = 2.0
_STEP_S = 0.05


def end_on_signal(stop: Callable[[], None]) -> None:
    """From now on let a signal end the server: call ``stop``, and send the clients away.

    Called in the main thread, before others are started: they inherit that signals pass them by.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    threading.Thread(target=_end, args=(stop,), name="ending", daemon=True).start()


def _end(stop: Callable[[], None]) -> None:
    signal.sigwait(_SIGNALS)
    stop()
    polite_until = clock.monotonic() + _POLITE_S
    # Again and again, until the process is gone: one may be coming in just now.
    while True:
        how = socket.SHUT_RD if clock.monotonic() < polite_until else socket.SHUT_RDWR
        shut_down_clients(how)
        clock.sleep(_STEP_S)


def shut_down_clients(how: int) -> int:
    """Shut down all connections to sockets on which this process listens; gives how many."""
    found = list(_sockets())
    try:
        listening = {_place(item) for item in found if _listens(item)}
        clients = [item for item in found if not _listens(item) and _place(item) in listening]
        for client in clients:
            # It may have gone by itself.
            with suppress(OSError):
                client.shutdown(how)
        return len(clients)
    finally:
        for item in found:
            item.close()


def _sockets() -> Iterator[socket.socket]:
    """Give all sockets of this process, each by a descriptor of its own."""
    for entry in list(_OWN_FDS.iterdir()):
        try:
            copy = os.dup(int(entry.name))
        except OSError:
            continue
        try:
            yield socket.socket(fileno=copy)
        except OSError:
            os.close(copy)


def _listens(item: socket.socket) -> bool:
    try:
        return bool(item.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _place(item: socket.socket) -> tuple[int, object]:
    """Give what a connection has in common with the socket that it came in through."""
    try:
        name = item.getsockname()
    except OSError:
        return item.family, None
    # One that listens on all addresses has another address than its connections.
    return item.family, name if item.family == socket.AF_UNIX else name[1]
