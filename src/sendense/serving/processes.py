"""A process that we started, known again later: numbers of processes are used again.

It is the same one only if it began at the same tick of the same boot.  Signals go through a
descriptor of the process, so that they cannot reach another one either.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """One process of this machine."""

    pid: int
    started: int
    """In clock ticks since the boot."""
    boot: str

    def end(self, *, within_s: float) -> bool:
        """Ask it to end, and kill it if it does not; tells whether it ended when asked.

        One that is gone has ended.
        """
        descriptor = self._open()
        if descriptor is None:
            return True
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if _gone(descriptor, within_s):
                return True
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            # It may be inside a call to storage that hangs: then it ends when that returns.
            _gone(descriptor, within_s)
            return False
        except ProcessLookupError:
            return True
        finally:
            os.close(descriptor)

    @property
    def alive(self) -> bool:
        """Tell whether it is there."""
        descriptor = self._open()
        if descriptor is None:
            return False
        try:
            return not _gone(descriptor, 0)
        finally:
            os.close(descriptor)

    def _open(self) -> int | None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return None
        # Looked at after the descriptor was had: from now on it cannot become another's.
        if find_process(self.pid) != self:
            os.close(descriptor)
            return None
        return descriptor


def outlive_parent() -> None:
    """Go on when the process ends that started this one; called in the main thread.

    nbdkit 1.32 in the foreground asks for a signal then, also where it was not told to (1.42
    does not).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def find_process(pid: int) -> Process | None:
    """Describe a process; none where there is none of that number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None
    # The name before it is in parentheses, and may hold anything.
    fields = text.rpartition(b")")[2].split()
    return Process(pid, int(fields[19]), boot)


def _gone(descriptor: int, within_s: float) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(within_s * 1000))
