"""One NBD connection: made within a time limit, and the terms the server gave it.

It leads to a unix socket of this host, or through a gate of another
(:mod:`sendense.transfer.knock`), or to a gate under TLS.

Connecting is asynchronous because a server can leave a client waiting for ever:
the NBD server of QEMU takes 100 connections, and the 101st is accepted by the
kernel but never greeted (measured, QEMU 7.2).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nbd

from sendense import clock
from sendense.errors import (
    Damaged,
    NotAllowed,
    OutOfSpace,
    SendenseError,
    Unavailable,
    Unsupported,
)
from sendense.model.export import DiskExport, Gate
from sendense.transfer.knock import knock, tend
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


def connect(
    export: DiskExport, *, contexts: Iterable[str] = (), connect_s: float, number: int = 0
) -> Any:
    """Open a connection, or raise :class:`~sendense.errors.Unavailable` within ``connect_s``.

    ``number`` counts the connections to one export: behind a gate each takes the next of its
    addresses.  An address that cannot be reached is passed over for the one after it.
    """
    wished = list(contexts)
    deadline = clock.monotonic() + connect_s
    if export.gate is None:
        return _open(
            export, wished, connect_s, lambda handle: handle.aio_connect_unix(export.socket)
        )
    addresses = export.gate.addresses
    if not addresses:
        raise Unavailable(f"no address leads to the gate of {export.target}")
    failed: Unavailable | None = None
    for turn in range(len(addresses)):
        left = deadline - clock.monotonic()
        if left <= 0:
            break
        address = addresses[(number + turn) % len(addresses)]
        try:
            return _connect_gate(export, export.gate, address, wished, left)
        except Unavailable as error:
            failed = failed or error
    raise failed or Unavailable(f"the gate of {export.target} did not answer for {connect_s:g} s")


def _connect_gate(
    export: DiskExport, gate: Gate, address: tuple[str, int], wished: list[str], within_s: float
) -> Any:
    """Open a connection through one address of a gate."""
    if gate.certificates is not None:
        return _connect_tls(export, gate, address, wished, within_s)
    deadline = clock.monotonic() + within_s
    wire = knock(gate, address, target=export.target, within_s=within_s)
    left = max(0.001, deadline - clock.monotonic())
    # libnbd closes the descriptor, whether it succeeds or not.
    return _open(export, wished, left, lambda handle: handle.aio_connect_socket(wire.detach()))


def _connect_tls(
    export: DiskExport, gate: Gate, address: tuple[str, int], wished: list[str], within_s: float
) -> Any:
    """Open an encrypted connection: both sides show a certificate of one authority."""
    host, port = address

    def begin(handle: Any) -> None:
        handle.set_tls(nbd.TLS_REQUIRE)
        handle.set_tls_certificates(gate.certificates)
        handle.set_tls_verify_peer(True)
        if gate.hostname is not None and hasattr(handle, "set_tls_hostname"):
            handle.set_tls_hostname(gate.hostname)
        elif gate.hostname not in (None, host):
            # Before libnbd 1.22 the name that is verified is the one that is connected to.
            raise Unsupported(
                f"this libnbd cannot expect the certificate of {gate.hostname} at {host}",
                hint="connect to the name that the certificate is for, or leave the name out:"
                " certificates of the authority name the host's addresses too",
            )
        handle.aio_connect_tcp(host, str(port))

    handle = _open(export, wished, within_s, begin)
    with socket.socket(fileno=os.dup(handle.aio_get_fd())) as wire:
        tend(wire)
    return handle


def _open(
    export: DiskExport, wished: list[str], within_s: float, begin: Callable[[Any], None]
) -> Any:
    """See a connection through its handshake."""
    handle = nbd.NBD()
    handle.set_export_name(export.name)
    # Each buffer is ours, and is handed out only after its read succeeded.
    handle.set_pread_initialize(False)
    for context in wished:
        handle.add_meta_context(context)
    deadline = clock.monotonic() + within_s
    with closed_on_failure([handle]):
        _shake_hands(handle, export, begin, within_s=within_s, deadline=deadline)
    return handle


def _shake_hands(
    handle: Any,
    export: DiskExport,
    begin: Callable[[Any], None],
    *,
    within_s: float,
    deadline: float,
) -> None:
    try:
        begin(handle)
        while not handle.aio_is_ready():
            left = deadline - clock.monotonic()
            if left <= 0:
                raise Unavailable(
                    f"the NBD server of {export.target} did not answer for {within_s:g} s",
                    hint="too many connections to it, or its process hangs",
                    socket=export.socket,
                )
            handle.poll(int(left * 1000) + 1)
    except nbd.Error as error:
        raise Unavailable(
            f"cannot open the NBD export {export.name!r} of {export.target}: {error.string}",
            socket=export.socket,
        ) from error


def close(handle: Any) -> None:
    """Close a connection now, whoever still refers to its handle.

    Left to itself a handle closes when nothing refers to it any more, and a traceback does so for
    long.  A QEMU whose client has gone from a half-read answer without closing spins in its main
    loop until it does, and with it hangs the guest (seen with QEMU 7.2, in ``nbd-server-stop``).
    """
    if hasattr(handle, "_o"):
        # libnbd's binding has no other way; what is done twice would free twice.
        handle.__del__()
        del handle._o


@contextmanager
def closed_on_failure(handles: Iterable[Any]) -> Iterator[None]:
    """Close connections where their block does not end well."""
    try:
        yield
    except BaseException:
        for handle in handles:
            close(handle)
        raise


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
