"""Reaching libvirt, and turning what it says into our errors.

libvirt's client needs somebody to run its *event loop*: without one, keepalive
answers are not sent (the daemon then cuts the connection) and no event arrives.
The loop must be registered before the first connection is opened.  One daemon
thread runs it for the whole process.

A :class:`libvirt.libvirtError` carries a number, a text and, for failed system
calls, the ``errno``.  :func:`translate` answers from them the only question a
caller has: what should I do now?  It refuses to guess: a number it does not
know becomes a plain :class:`~sendense.errors.SendenseError` with libvirt's own
words.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import libvirt

from sendense import clock
from sendense.errors import (
    Busy,
    NotAllowed,
    NotFound,
    OutOfSpace,
    Rejected,
    SendenseError,
    SourceChanged,
    Unavailable,
    Unsupported,
)

log = logging.getLogger(__name__)

_KEEPALIVE_INTERVAL_S = 5
_KEEPALIVE_COUNT = 3
"""A daemon that is silent for 5 x (3 + 1) s counts as gone."""

_LOOP_LOCK = threading.Lock()
_LOOP: list[threading.Thread] = []

_RIGHTS_HINT = (
    "run as root, or as a member of the group 'libvirt'; 'sendense doctor' shows what is missing"
)
_DAEMON_HINT = "is the libvirt daemon running? 'systemctl status libvirtd virtqemud' tells"

_CLASSES: dict[int, type[SendenseError]] = {
    3: Unsupported,  # NO_SUPPORT: the driver does not have this call
    5: Unavailable,  # NO_CONNECT
    6: Unavailable,  # INVALID_CONN
    8: Rejected,  # INVALID_ARG
    28: Rejected,  # DOM_EXIST
    29: NotAllowed,  # OPERATION_DENIED: a read-only connection
    38: Unavailable,  # SYSTEM_ERROR without a known errno: most often a broken socket
    39: Unavailable,  # RPC
    42: NotFound,  # NO_DOMAIN
    45: NotAllowed,  # AUTH_FAILED
    49: NotFound,  # NO_STORAGE_POOL
    50: NotFound,  # NO_STORAGE_VOL
    55: Rejected,  # OPERATION_INVALID: not in this state
    67: Unsupported,  # CONFIG_UNSUPPORTED
    68: Busy,  # OPERATION_TIMEOUT: the domain's job lock
    74: Unsupported,  # ARGUMENT_UNSUPPORTED; also "guest agent is not configured" (F8.2)
    79: NotAllowed,  # AUTH_CANCELLED
    83: Busy,  # BLOCK_COPY_ACTIVE
    84: Unsupported,  # OPERATION_UNSUPPORTED
    86: Unavailable,  # AGENT_UNRESPONSIVE
    87: Busy,  # RESOURCE_BUSY
    88: NotAllowed,  # ACCESS_DENIED
    94: NotAllowed,  # AUTH_UNAVAILABLE
    97: Unavailable,  # AGENT_UNSYNCED
    103: NotFound,  # NO_DOMAIN_CHECKPOINT
    104: NotFound,  # NO_DOMAIN_BACKUP
    # CHECKPOINT_INCONSISTENT: the bitmap broke after the survey; the next survey sees that and
    # makes the disk full, so the same call may be repeated.
    109: SourceChanged,
}
"""By number, not by name: the bindings of Debian 11 lack the newer names."""

_BY_ERRNO: dict[int, type[SendenseError]] = {
    errno.EACCES: NotAllowed,
    errno.EPERM: NotAllowed,
    errno.ENOSPC: OutOfSpace,
    errno.EDQUOT: OutOfSpace,
    errno.EBUSY: Busy,
}

_BY_TEXT: tuple[tuple[str, type[SendenseError]], ...] = (
    # QEMU's refusals all come as INTERNAL_ERROR with its own words (F1.4, F1.5, F4.2, section 6).
    ("Permission denied", NotAllowed),
    ("No space left on device", OutOfSpace),
    ("Is another process using the image", Busy),
    ("has a blockjob assigned", Busy),
    ("already in active block job", Busy),
    ("is already active", Busy),
)

_HOLDER = re.compile(r"held by (?P<holder>[^)]*)")


def connect(uri: str) -> libvirt.virConnect:
    """Open a read-write connection with a running event loop and keepalive."""
    _run_event_loop()
    with errors(f"connecting to libvirt at {uri}"):
        connection = libvirt.open(uri)
    try:
        connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
    except libvirt.libvirtError as error:
        # Drivers inside this process (test:///) have no connection to keep alive.
        log.debug("no keepalive for %s: %s", uri, error)
    return connection


@contextmanager
def open_host(uri: str) -> Iterator[libvirt.virConnect]:
    """Hold a connection for the time of a ``with`` block."""
    connection = connect(uri)
    try:
        yield connection
    finally:
        close(connection)


def close(connection: libvirt.virConnect) -> None:
    """Close a connection; one that is already dead is no error."""
    try:
        connection.close()
    except libvirt.libvirtError as error:
        log.debug("closing a libvirt connection: %s", error)


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """Raise what libvirt refuses inside as ours; ``doing`` says at what, as in "reading x"."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise translate(error, doing) from error


def translate(error: libvirt.libvirtError, doing: str) -> SendenseError:
    """Give our error for libvirt's; ``doing`` is what failed, as in "beginning the job"."""
    code = error.get_error_code()
    text = (error.get_error_message() or str(error)).strip()
    kind = _class_of(error, code, text)
    data: dict[str, Any] = {"libvirt_code": code}
    holder = _holder(text)
    if holder:
        data["holder"] = holder
        text = f"the machine is held by libvirt's job {holder} ({text})"
    return kind(f"{doing} failed: {text}", hint=_hint(kind, code, holder), **data)


def _class_of(error: libvirt.libvirtError, code: Optional[int], text: str) -> type[SendenseError]:
    # libvirt puts the errno of a failed system call (38) into the first integer.
    number = error.get_int1() if code == libvirt.VIR_ERR_SYSTEM_ERROR else None
    if number in _BY_ERRNO:
        return _BY_ERRNO[number]
    for words, kind in _BY_TEXT:
        if words in text:
            return kind
    return _CLASSES.get(code or 0, SendenseError)


def _holder(text: str) -> Optional[str]:
    """Read who has the job lock: ``held by monitor=remoteDispatchDomainBackupBegin`` (F5.3)."""
    match = _HOLDER.search(text)
    if match is None:
        return None
    parts = [part.partition("=")[2] or part for part in match.group("holder").split()]
    return ", ".join(part.replace("remoteDispatchDomain", "") for part in parts)


def _hint(kind: type[SendenseError], code: Optional[int], holder: Optional[str]) -> Optional[str]:
    if holder:
        return "wait for that operation to end; 'virsh domjobinfo' shows it"
    if code in (86, 97):
        return "look at the QEMU guest agent inside the guest"
    if kind is NotAllowed:
        return _RIGHTS_HINT
    if kind is Unavailable:
        return _DAEMON_HINT
    return None


def _run_event_loop() -> None:
    """Start the one event loop of this process, if it does not run yet."""
    with _LOOP_LOCK:
        if _LOOP:
            return
        # libvirt prints every error to standard error as well, even those that are handled.
        libvirt.registerErrorHandler(_be_silent, None)
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(target=_loop, name="libvirt-events", daemon=True)
        _LOOP.append(thread)
        thread.start()


def _loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            # A failing poll must not end the loop, which all connections live on, nor spin.
            log.warning("libvirt's event loop: %s", error)
            clock.sleep(1)


def _be_silent(context: object, error: object) -> None:
    """Swallow libvirt's printing; the error itself comes as an exception."""
