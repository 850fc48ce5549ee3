"""Who a process is, so that its leases end with it.

A process that was killed cannot give its lease back.  Others on its host need not wait for it to
expire: the kernel says whether the process is there.  It is the same one only if the host has not
been booted since (boot id), its number means the same to us (the pid namespace) and it began at
the same tick (numbers are used again).  Of any other host nothing is known.

A process stands for its threads.  A child that it forks is another process: work that
shall outlive the parent needs a lease of its own.
"""

from __future__ import annotations

import os
import pwd
import socket
from enum import Enum
from pathlib import Path

from sendense.repository.dedup.lease_claim import Holder

_PROC = Path("/proc")


class Fate(Enum):
    """What is known of a lease's holder."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


def this_process() -> Holder:
    """Describe the process that asks; asked each time, as a fork changes the answer."""
    boot, namespace, started = _by_kernel()
    return Holder(
        host=socket.gethostname(),
        user=_user(),
        boot=boot,
        pid_namespace=namespace,
        pid=os.getpid(),
        started=started,
    )


def fate_of(holder: Holder) -> Fate:
    """Tell whether a holder still lives, as far as can be known from here."""
    here = this_process()
    if not holder.boot or (holder.boot, holder.pid_namespace) != (here.boot, here.pid_namespace):
        return Fate.UNKNOWN
    if holder.pid <= 0:  # would mean a group of processes
        return Fate.UNKNOWN
    try:
        # Not /proc alone: mounted with hidepid, it shows no processes of others.
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return Fate.GONE
    except PermissionError:
        pass
    except OverflowError:
        return Fate.UNKNOWN
    status = _status(str(holder.pid))
    if status is None:
        return Fate.UNKNOWN
    state, threads, started = status
    # Killed, and not yet waited for by its parent.  With threads left, one of them may still
    # be inside a write that cannot be broken off.
    ended = state in ("Z", "X") and threads <= 1
    return Fate.GONE if ended or started != holder.started else Fate.ALIVE


def _by_kernel() -> tuple[str, int, int]:
    """Give the boot id, the pid namespace and our start; empty where /proc is not ours."""
    try:
        if str((_PROC / "self").readlink()) != str(os.getpid()):
            return "", 0, 0
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return "", 0, 0
    status = _status("self")
    return ("", 0, 0) if status is None else (boot, namespace, status[2])


def _status(process: str) -> tuple[str, int, int] | None:
    """Give the state, the number of threads and the start of a process."""
    try:
        text = (_PROC / process / "stat").read_bytes()
    except OSError:
        return None
    # The name before it is in parentheses, and may hold anything.
    fields = text.rpartition(b")")[2].split()
    return fields[0].decode("ascii"), int(fields[17]), int(fields[19])


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
