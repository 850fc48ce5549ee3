"""Who works on a machine's points: kernel locks, and the holder's name for the others.

============  ==============  ===============  ===============
who           ``.lock``       ``.readers``     ``.holding``
============  ==============  ===============  ===============
reader        --              shared           --
writer        exclusive       --               --
deletion      exclusive       exclusive        --
pin or lock   --              shared           exclusive
============  ==============  ===============  ===============

So a point can be pinned while a backup or a restore is at work.

A lock is ``flock`` on a file that is never removed.  The kernel gives it up when
the last process that holds it is gone, however it went, so there are no stale
locks and nothing to break by hand.  A child that changes the repository inherits
the lock (``pass_fds``): it stays held while that child runs on after a crash.

What is written inside the file is for people only, and may be out of date.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Self

from sendense import clock
from sendense.errors import Busy
from sendense.storage.durable import explaining


class Lock:
    """One lock that is held; given up by ``release`` or the end of a ``with`` block."""

    def __init__(self, fd: int) -> None:
        """Keep the open file that carries the lock."""
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def exclusive(path: Path, operation: str) -> Lock:
    """Take a lock for one holder, or raise :class:`~sendense.errors.Busy` at once."""
    with explaining(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    return _take(fd, fcntl.LOCK_EX, path, operation)


def shared(path: Path, operation: str) -> Lock | None:
    """Take a lock beside other readers; none where the medium lets nobody write."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:
            return None
    return _take(fd, fcntl.LOCK_SH, path, operation)


def _take(fd: int, kind: int, path: Path, operation: str) -> Lock:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(fd)
        os.close(fd)
        raise Busy(
            f"the points of machine {path.parent.name} are in use by {holder}",
            hint="wait until it is done, then try again",
            lock=path,
        ) from error
    except BaseException:
        os.close(fd)
        raise
    _sign(fd, operation)
    return Lock(fd)


def _sign(fd: int, operation: str) -> None:
    """Write the holder's name into the file, if it can be written."""
    text = json.dumps(
        {
            "operation": operation,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": clock.format_utc(clock.now()),
        }
    ).encode()
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)
    except OSError:
        # Read-only, or full: the lock is the kernel's and holds without a name.
        return


def _holder(fd: int) -> str:
    """Give the holder's name for a message."""
    try:
        told = json.loads(os.pread(fd, 4096, 0))
        return (
            f"{told['operation']!s} (process {told['pid']!s} on {told['host']!s}, "
            f"since {told['since']!s})"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "somebody else"
