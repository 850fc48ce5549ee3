"""Socket options that OpenSSH's server has no setting for, set on its listening sockets from here.

What the kernel gives to a connection it takes from its listener, so this is done once:

``TCP_NODELAY``  The server sets it for sessions with a shell only.  Without it the small requests
    that a worker sends wait for acknowledgements, 40 ms at a time: a disk was read with 90 MiB/s
    through two tunnels, and with it at the speed of the encryption.
``TCP_USER_TIMEOUT``  A peer that is cut off while data is on its way to it is given up after so
    long.  The server's own questions (``ClientAlive...``) do not see to that: they wait for a
    pause, and a port that somebody tries every few seconds leaves none.

The descriptor of another process is had by ``pidfd_getfd`` (Linux 5.6), which needs the right to
trace it: the server is our child and runs as us, or we are root.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
from pathlib import Path

from sendense.fleet.gateway_sessions import sockets_of

_log = logging.getLogger(__name__)

_PIDFD_GETFD = 438
"""The same number on all processors."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall


def tune_listeners(pid: int, port: int, *, give_up_s: int) -> bool:
    """Set the options on the sockets by which a process listens on ``port``.

    Tells whether to leave it at that: it is done, or cannot be done; not, while nobody listens.
    """
    wanted = {f"socket:[{inode}]" for inode in sockets_of(ports=[port])}
    tuned = False
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()) in wanted:
                with _borrowed(pid, int(entry.name)) as listener:
                    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    listener.setsockopt(
                        socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, give_up_s * 1000
                    )
                    tuned = True
    except (FileNotFoundError, ProcessLookupError):
        return False  # It ended: whoever started it sees that.
    except OSError as error:
        _log.warning(
            "cannot set the options of the gateway's listener, so tunnels are slow: %s",
            error.strerror,
        )
        return True
    return tuned


def _borrowed(pid: int, descriptor: int) -> socket.socket:
    """Give a second descriptor of another process's socket."""
    process = os.pidfd_open(pid)
    try:
        copied = int(_syscall(_PIDFD_GETFD, process, descriptor, 0))
    finally:
        os.close(process)
    if copied < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return socket.socket(fileno=copied)
