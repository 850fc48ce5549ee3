"""Which processes belong to the lab, and ending exactly those.

A process id alone is not an identity: it may be reused. Two things are: the id together with the
start time (`ProcessIdentity`), and living in a hypervisor's mount namespace. The latter is seen
from outside: `/proc/PID/root/run/libvirt` is then the hypervisor's own folder, the same device and
inode. That finds libvirtd and every QEMU it started, whoever asked for it, also after this program
was killed and forgot everything.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from sendense_lab.commands import wait_until

PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that cannot be confused with a later one of the same id."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        ticks = _start_ticks(pid)
        return None if ticks is None else cls(pid, ticks)

    def alive(self) -> bool:
        return _start_ticks(self.pid) == self.start_ticks

    def send(self, number: signal.Signals) -> None:
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def living_in(run_folder: Path) -> list[ProcessIdentity]:
    """All processes that see `run_folder` at /run/libvirt."""
    try:
        wanted = run_folder.stat()
    except FileNotFoundError:
        return []
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            seen = (entry / "root/run/libvirt").stat()
        except OSError:
            continue
        if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
            identity = ProcessIdentity.of(int(entry.name))
            if identity:
                found.append(identity)
    return found


def end(processes: list[ProcessIdentity], *, patience_s: float = 5) -> None:
    """Ask all to end, then kill those that did not listen."""
    for process in processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)
    try:
        wait_gone(processes, timeout_s=patience_s)
    except TimeoutError:
        kill(processes)


def kill(processes: list[ProcessIdentity]) -> None:
    """End all at once, as a loss of power would."""
    for process in processes:
        process.send(signal.SIGKILL)
    wait_gone(processes, timeout_s=60)


def wait_gone(processes: list[ProcessIdentity], *, timeout_s: float) -> None:
    """Wait until none is alive; a zombie counts as gone, its parent will collect it."""
    wait_until(
        lambda: not any(process.alive() for process in processes),
        f"the end of processes {[process.pid for process in processes]}",
        timeout_s=timeout_s,
        interval_s=0.02,
    )


def _start_ticks(pid: int) -> int | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name stands in parentheses and may hold anything, spaces included.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
