"""The folders of mounts: a socket, a record of what is served, and a lock that says who lives.

::

    /run/sendense/mounts/<point>-<random>/
        nbd             the socket
        mount.json      what is served, where, and by which process
        trouble.json    what could not be read
        log             the log of a server that was left running

The server inherits a lock on its folder from the command that starts it, and the
kernel frees that however both die.  So a folder that can be locked belongs to nobody, and is
removed by whoever comes next.  A folder gets its name only when it is locked.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sendense import clock
from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.serving.processes import Process

_LOG = logging.getLogger(__name__)

SOCKET = "nbd"
RECORD = "mount.json"
LOG = "log"
COMPLAINTS = "complaints"
_NEW = ".new-"
_YOUNG_S = 60.0
_LONGEST_SOCKET = 107
_SYSTEM_ROOT = Path("/run/sendense/mounts")


@dataclass(frozen=True)
class MountedDisk:
    """One disk that is served."""

    target: str
    size: int
    uri: str


@dataclass(frozen=True)
class Mount:
    """One point that is served."""

    folder: str
    point: str
    machine: str
    machine_uuid: str
    repository: str
    disks: tuple[MountedDisk, ...]
    address: str
    """The path of the socket, or HOST:PORT."""
    writable: bool
    detached: bool
    since: str
    process: Process

    @property
    def name(self) -> str:
        """Give the name of the mount among others."""
        return Path(self.folder).name

    def to_json(self) -> dict[str, Any]:
        """Give it as its record has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` gave."""
        disks = tuple(MountedDisk(**item) for item in content["disks"])
        process = Process(**content["process"])
        return cls(**{**content, "disks": disks, "process": process})


class MountFolder:
    """A folder that is ours: locked, until the last who inherits the lock is gone."""

    def __init__(self, root: Path, point: str) -> None:
        """Make a folder for a point below ``root``."""
        root = ready_root(root)
        name = f"{point}-{secrets.token_hex(3)}"
        self.path = root / name
        if len(os.fsencode(self.path / SOCKET)) > _LONGEST_SOCKET:
            raise Rejected(
                f"the path of a socket below {root} would be too long",
                hint=f"set mount_dir to a path of fewer characters; {_LONGEST_SOCKET} is the most",
            )
        new = root / f"{_NEW}{name}"
        new.mkdir(mode=0o700)
        self.lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            new.rename(self.path)
        except BaseException:
            os.close(self.lock)
            shutil.rmtree(new, ignore_errors=True)
            raise

    @property
    def socket(self) -> Path:
        """Give the path of the socket."""
        return self.path / SOCKET

    def write(self, mount: Mount) -> None:
        """Write the record."""
        beside = self.path / f"{_NEW}{RECORD}"
        beside.write_text(json.dumps(mount.to_json(), indent=2) + "\n", encoding="utf-8")
        beside.replace(self.path / RECORD)

    def leave(self) -> None:
        """Leave it to the server."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.leave()


def default_root() -> Path:
    """Give where the folders of mounts are, for this user."""
    if os.geteuid() == 0:
        return _SYSTEM_ROOT
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if not runtime.is_absolute():
        raise Rejected(
            "there is no directory for sockets of this user",
            hint="set mount_dir to a directory of your own, or log in so that XDG_RUNTIME_DIR is",
        )
    return runtime / "sendense/mounts"


def ready_root(root: Path) -> Path:
    """Make the directory of all mounts, and refuse one that others may write to."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = root.stat()
    except OSError as error:
        raise NotAllowed(
            f"the directory {root} for mounts cannot be made: {error.strerror}",
            hint="run it as root, or set mount_dir to a directory of your own",
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotAllowed(
            f"others than this user may write to {root}",
            hint="set mount_dir to a directory of your own",
        )
    return root


def list_mounts(root: Path) -> tuple[Mount, ...]:
    """Give what is served; what dead servers left is removed."""
    found = [_record(folder) for folder in _living(root)]
    return tuple(sorted((item for item in found if item), key=lambda item: (item.since, item.name)))


def find_mount(root: Path, reference: str) -> Mount:
    """Give the mount that is meant: by its point, or the beginning of one, or by its address."""
    mounts = list_mounts(root)
    found = [item for item in mounts if _is_address(item, reference)]
    found = found or [item for item in mounts if reference == item.point]
    found = found or [item for item in mounts if reference and item.point.startswith(reference)]
    if not found:
        raise NotFound(
            f"nothing is mounted that {reference!r} could mean",
            hint="'sendense mount --list' shows what is",
        )
    if len(found) > 1:
        places = ", ".join(item.address for item in found)
        raise Rejected(f"{reference!r} means {len(found)} mounts", hint=f"name one of {places}")
    return found[0]


def _is_address(mount: Mount, reference: str) -> bool:
    """Tell whether this is where a point is mounted: socket, folder, HOST:PORT or URI."""
    if reference in (mount.address, mount.name, *(disk.uri for disk in mount.disks)):
        return True
    return bool(reference) and str(Path(reference).absolute()) in (mount.address, mount.folder)


def remove_if_dead(folder: Path) -> bool:
    """Remove a folder that belongs to nobody; tells whether it is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return not folder.exists()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        age_s = clock.now().timestamp() - os.fstat(lock).st_mtime
        if folder.name.startswith(_NEW) and age_s < _YOUNG_S:
            # Somebody is about to lock it.
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _living(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        return
    for folder in sorted(ready_root(root).iterdir()):
        if not remove_if_dead(folder) and not folder.name.startswith(_NEW):
            yield folder


def _record(folder: Path) -> Mount | None:
    """Read a record; none of one that is about to begin."""
    with suppress(FileNotFoundError):
        content = (folder / RECORD).read_text(encoding="utf-8")
        try:
            return Mount.from_json(json.loads(content))
        except (ValueError, TypeError, KeyError) as error:
            _LOG.warning("the record of the mount %s cannot be read: %s", folder, error)
    return None
