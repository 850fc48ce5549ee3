"""The folders that captures work in: who must get at them, and what they must not be on.

QEMU runs as an unprivileged user, and some of the work is its own: it *creates* the
NBD socket (libvirt.md F1.4), and opens the scratch file that libvirt made (F1.5).
So its user must be able to write the socket folder, and to pass every folder above
both.  Scratch is in the guest's write path: on storage that hangs, the guest hangs.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from sendense.capture.session import HostSettings
from sendense.model.finding import Finding, Level
from sendense.units import GIB, format_size

_NAME_LONGEST = len("/0123456789abcdef-vdzz.sock")
_PATH_MOST = 107
"""A unix socket's path, without the closing zero."""

_COMFORTABLE_BYTES = 10 * GIB
"""What a guest may overwrite while a capture reads is at worst its whole disk."""

_REMOTE = re.compile(r"nfs.*|cifs|smb.*|ceph|glusterfs|fuse\..*|9p|afs|gfs2|ocfs2|lustre|beegfs")
_ESCAPED = re.compile(r"\\([0-7]{3})")
"""The kernel writes a blank in a path as ``\\040``."""
_IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Account:
    """The user and group that QEMU runs as."""

    uid: int
    gid: int

    def may(self, facts: os.stat_result, wanted: int) -> bool:
        """Tell whether the permission bits ``wanted`` (of rwx) are given to it."""
        if self.uid == 0:
            return True
        if facts.st_uid == self.uid:
            return (facts.st_mode >> 6) & wanted == wanted
        if facts.st_gid == self.gid:
            return (facts.st_mode >> 3) & wanted == wanted
        return facts.st_mode & wanted == wanted


def examine_folders(settings: HostSettings, account: Optional[Account]) -> Iterator[Finding]:
    """Look at the socket folder and the scratch folder."""
    sockets, scratch = Path(settings.socket_dir), Path(settings.scratch_dir)
    yield from _examine_access("socket-dir", sockets, account, wanted=0o3)
    if len(str(sockets).encode()) + _NAME_LONGEST > _PATH_MOST:
        yield Finding(
            "socket-dir",
            Level.PROBLEM,
            f"{sockets} is too long: a socket's path has at most {_PATH_MOST} bytes",
            "set socket_dir to a shorter path in /etc/sendense/sendense.yaml",
        )
    yield from _examine_access("scratch-dir", scratch, account, wanted=0o1)
    if scratch.is_dir():
        yield _examine_storage(scratch)
        yield _examine_room(scratch, settings.scratch_reserve_bytes)


def prepare(settings: HostSettings, account: Optional[Account]) -> Iterator[str]:
    """Make the folders that are missing; one that is there is never changed.

    An operator may have named a folder that others use.
    """
    for name in dict.fromkeys((settings.socket_dir, settings.scratch_dir)):
        folder = Path(name)
        if not folder.exists():
            folder.mkdir(parents=True)
            if account is not None:
                os.chown(folder, account.uid, account.gid)
            folder.chmod(0o770)
            yield f"{folder} made"
    state = Path(settings.state_dir)
    if not state.exists():
        state.mkdir(parents=True, mode=0o700)
        yield f"{state} made"


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Give the type of the file system that a path is on, by the kernel's list."""
    best, kind = -1, "unknown"
    resolved = str(path.resolve())
    for line in mounts.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = _ESCAPED.sub(lambda code: chr(int(code.group(1), 8)), before.split()[4])
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one is seen.
        if inside and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind


def _examine_access(
    check: str, folder: Path, account: Optional[Account], *, wanted: int
) -> Iterator[Finding]:
    owner = "QEMU's user" if account is None else f"QEMU's user ({account.uid}:{account.gid})"
    if not folder.is_dir():
        yield Finding(
            check, Level.PROBLEM, f"the folder {folder} does not exist", "sendense doctor --repair"
        )
        return
    if account is None:
        yield Finding(check, Level.WARNING, f"whether {owner} may use {folder} is not known")
        return
    closed = [path for path in folder.resolve().parents if not account.may(path.stat(), 0o1)]
    for path in closed:
        yield Finding(
            check,
            Level.PROBLEM,
            f"{owner} cannot pass {path}, and so not reach {folder}",
            f"chmod o+x {path}",
        )
    if not account.may(folder.stat(), wanted):
        able = "create sockets in" if wanted & 0o2 else "reach files in"
        yield Finding(
            check,
            Level.PROBLEM,
            f"{owner} may not {able} {folder}, which is "
            f"{stat.filemode(folder.stat().st_mode)} of {folder.stat().st_uid}",
            f"install -d -o {account.uid} -g {account.gid} -m 0770 {folder}",
        )
    elif not closed:
        yield Finding(check, Level.OK, f"{owner} can use {folder}")


def _examine_storage(folder: Path) -> Finding:
    kind = file_system_of(folder)
    mend = "set scratch_dir to a folder on a local disk in /etc/sendense/sendense.yaml"
    if _REMOTE.fullmatch(kind):
        message = f"{folder} is on {kind}: when that storage hangs during a backup, the guest hangs"
        return Finding("scratch-storage", Level.PROBLEM, message, mend)
    if kind in _IN_MEMORY:
        message = f"{folder} is on {kind}: a busy guest fills the host's memory during a backup"
        return Finding("scratch-storage", Level.WARNING, message, mend)
    return Finding("scratch-storage", Level.OK, f"{folder} is on {kind}")


def _examine_room(folder: Path, reserve: int) -> Finding:
    free = shutil.disk_usage(folder).free
    message = f"{format_size(free)} are free for scratch in {folder}"
    mend = f"free space in {folder}, or set scratch_dir to a larger local disk"
    if free < reserve:
        message = f"{message}, less than the reserve of {format_size(reserve)}: no backup starts"
        return Finding("scratch-room", Level.PROBLEM, message, mend)
    if free < reserve + _COMFORTABLE_BYTES:
        message = f"{message}: a guest that writes a lot may end its backup"
        return Finding("scratch-room", Level.WARNING, message, mend)
    return Finding("scratch-room", Level.OK, message)
