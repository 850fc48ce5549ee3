"""One NBD connection: made within a time limit, and the terms the server gave it.

Connecting is asynchronous because a server can leave a client waiting for ever:
the NBD server of QEMU takes 100 connections, and the 101st is accepted by the
kernel but never greeted (measured, QEMU 7.2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import nbd

from sendense import clock
from sendense.errors import Damaged, NotAllowed, OutOfSpace, SendenseError, Unavailable
from sendense.model.export import DiskExport
from sendense.units import MIB

ALLOCATION = "base:allocation"

_MAXIMUM = 32 * MIB
"""The NBD protocol's own limit where a server states none."""
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Terms:
    """What the server said of an export while the connection was made."""

    size: int
    minimum: int
    """Every offset and length of a request is a multiple of this."""
    maximum: int
    """No request for data is longer."""
    several: bool
    """Whether several connections see the same disk."""
    contexts: frozenset[str]
    """The meta contexts that can be asked for, of those that were wished."""


def connect(export: DiskExport, *, contexts: Iterable[str] = (), connect_s: float) -> Any:
    """Open a connection, or raise :class:`~sendense.errors.Unavailable` within ``connect_s``."""
    handle = nbd.NBD()
    handle.set_export_name(export.name)
    # Each buffer is ours, and is handed out only after its read succeeded.
    handle.set_pread_initialize(False)
    for context in contexts:
        handle.add_meta_context(context)
    deadline = clock.monotonic() + connect_s
    try:
        handle.aio_connect_unix(export.socket)
        while not handle.aio_is_ready():
            left = deadline - clock.monotonic()
            if left <= 0:
                raise Unavailable(
                    f"the NBD server of {export.target} did not answer for {connect_s:g} s",
                    hint="too many connections to it, or its process hangs",
                    socket=export.socket,
                )
            handle.poll(int(left * 1000) + 1)
    except nbd.Error as error:
        raise Unavailable(
            f"cannot open the NBD export {export.name!r} of {export.target}: {error.string}",
            socket=export.socket,
        ) from error
    return handle


def terms(handle: Any, export: DiskExport, *, contexts: Iterable[str] = ()) -> Terms:
    """Read what the server granted, and check it against what was promised."""
    size = handle.get_size()
    if size != export.size:
        raise Unavailable(
            f"the NBD export of {export.target} has {size} bytes, the disk has {export.size}",
            hint="the disk was resized meanwhile, or it is another disk; run it again",
            expected=export.size,
            found=size,
        )
    minimum = handle.get_block_size(nbd.SIZE_MINIMUM) or 1
    if size % minimum:
        # The last bytes can only be asked for with a request that libnbd calls unaligned. The
        # server may refuse it, which is then an error, and not a disk without its end.
        handle.set_strict_mode(handle.get_strict_mode() & ~nbd.STRICT_ALIGN)
    return Terms(
        size=size,
        minimum=minimum,
        maximum=min(handle.get_block_size(nbd.SIZE_MAXIMUM) or _MAXIMUM, _MAXIMUM),
        several=handle.can_multi_conn(),
        contexts=frozenset(name for name in contexts if handle.can_meta_context(name)),
    )


def failure(what: str, *, target: str, offset: int, code: int) -> SendenseError:
    """Turn the errno of a failed request into what the caller should do about it."""
    reason = os.strerror(code) if code else "no reason given"
    message = f"cannot {what} {target} at offset {offset}: {reason}"
    if code in _OUT_OF_SPACE:
        return OutOfSpace(message, target=target, offset=offset)
    if code in {errno.EPERM, errno.EACCES, errno.EROFS}:
        return NotAllowed(message, target=target, offset=offset)
    if code == errno.EIO:
        return Damaged(
            message,
            hint="the storage under the disk reports an error; look at the host's log",
            target=target,
            offset=offset,
        )
    return Unavailable(message, target=target, offset=offset)
