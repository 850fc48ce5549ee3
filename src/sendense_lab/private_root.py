"""The first process of a hypervisor: gives libvirtd its own folders, and buries the dead.

libvirt compiles its folders in (`/etc/libvirt`, `/run/libvirt`...). To run several libvirtds on
one machine, each gets a mount namespace in which these five paths are bind mounts of its own
folders, and a host name of its own. Everything else of the machine looks the same inside, so a
path under the lab's root means the same file inside and outside.

This file is run as a program (`python private_root.py HOSTNAME SOURCE:TARGET... -- COMMAND...`).
It prints the process id of the command and stays until the last process below it has ended, QEMUs
that outlive their libvirtd included. It is what init is to a real host: libvirt waits for dead
QEMUs to be collected, and in a container the first process may take 2 s for that (measured: 1.5 s
for a destroy that takes 0.1 s elsewhere).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
PR_SET_CHILD_SUBREAPER = 36

TARGETS = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}


def command_line(hostname: str, binds: dict[str, str], command: list[str]) -> list[str]:
    """How to start `command` with each source path mounted on its target."""
    pairs = [f"{source}:{target}" for source, target in binds.items()]
    return [sys.executable, "-I", __file__, hostname, *pairs, "--", *command]


def main(arguments: list[str]) -> None:
    split = arguments.index("--")
    hostname, *binds = arguments[:split]
    _enter(hostname, binds)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.dup2(2, 1)
        command = arguments[split + 1 :]
        os.execvp(command[0], command)
    os.write(1, f"{child}\n".encode())
    os.close(1)
    _collect_children()


def _enter(hostname: str, binds: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), "unshare")
    # Without this a mount made here would show up outside where the root is shared (systemd).
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make / private")
    for bind in binds:
        source, target = bind.split(":")
        _check(libc.mount(source.encode(), target.encode(), None, MS_BIND, None), bind)
    socket.sethostname(hostname)
    _check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "become a reaper")


def _collect_children() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(sys.argv[1:])
