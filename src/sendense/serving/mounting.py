"""Serving a point, from the start of its server to the end.

The server is ready when it says so: it has opened the repository, holds the point, and
listens.  What keeps it from that is raised here as what it is.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sendense import clock, errors
from sendense.errors import Busy, Rejected, SendenseError, Unavailable
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.model.secret import Secret
from sendense.repository.opening import Access
from sendense.serving import mounts, program
from sendense.serving.handover import Handover, secret_for
from sendense.serving.mounts import Mount, MountedDisk, MountFolder
from sendense.serving.processes import Process, find_process
from sendense.serving.program import Address, TcpPort, UnixSocket, Version
from sendense.serving.trouble import Trouble, read_trouble

_LOG = logging.getLogger(__name__)

_END_S = 15.0
_STDERR = 2


@dataclass(frozen=True)
class MountOrder:
    """What is to be served, and how."""

    url: str
    access: Access
    location: str
    """The repository, as people know it."""
    point: RecoveryPoint
    disks: tuple[DiskImage, ...]
    root: Path
    """Where the folders of mounts are."""
    tcp: TcpPort | None = None
    """Where to listen; none: on a socket of this user."""
    overlay_dir: Path | None = None
    """Where what clients write is put meanwhile; none: nobody writes."""
    download_limit: int = 0
    """Bytes per second from the store; 0: no limit."""
    detached: bool = False
    log_level: int = logging.WARNING
    syslog: bool = False


class Server:
    """A server that was started by this process."""

    def __init__(self, mount: Mount, folder: MountFolder, child: subprocess.Popen[bytes]) -> None:
        """Be responsible for it."""
        self.mount = mount
        self._folder = folder
        self._child = child
        self._ended: Trouble | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.end()

    def wait(self) -> None:
        """Wait until it ends by itself: somebody unmounts it, or it dies."""
        status = self._child.wait()
        if status != 0:
            raise Unavailable(
                f"the server of point {self.mount.point} ended by itself (status {status})",
                hint="mount it again; the kernel's log may tell why it ended",
                status=status,
            )

    def end(self) -> Trouble:
        """End it, whatever it does, and remove what it had; gives what went wrong meanwhile."""
        if self._ended is None:
            _end_child(self._child)
            self._ended = read_trouble(self._folder.path)
            self._folder.remove()
        return self._ended

    def leave(self) -> None:
        """Let it run on when this process ends."""
        self._folder.leave()
        self._ended = Trouble()


def start(order: MountOrder) -> Server:
    """Serve a point; gives the server when it is ready."""
    if not order.disks:
        raise Rejected(f"point {order.point.id} holds no disk that could be served")
    version = program.check_program()
    secret = secret_for(order.url, order.access)
    mounts.list_mounts(order.root)
    folder = MountFolder(order.root, order.point.id)
    try:
        address: Address = order.tcp or UnixSocket(folder.socket)
        child = _start(order, folder, secret, _Program(version, address))
    except BaseException:
        folder.remove()
        raise
    try:
        mount = _mount(order, folder, address, child)
        folder.write(mount)
    except BaseException:
        _end_child(child)
        folder.remove()
        raise
    return Server(mount, folder, child)


def unmount(mount: Mount) -> Trouble:
    """End a server, of whatever command; gives what went wrong while it served."""
    if not mount.process.end(within_s=_END_S):
        _LOG.warning("the server of point %s did not end, and was killed", mount.point)
    folder = Path(mount.folder)
    trouble = read_trouble(folder)
    # A command that waits for its server removes the folder itself.
    mounts.remove_if_dead(folder)
    return trouble


# --- starting ---


@dataclass(frozen=True)
class _Program:
    """Of which version it is, and where it listens."""

    version: Version
    address: Address


def _start(
    order: MountOrder, folder: MountFolder, secret: Secret | None, nbdkit: _Program
) -> subprocess.Popen[bytes]:
    """Start the program, and wait until it serves."""
    with _log_of(order, folder) as log_fd, _pipe() as (reading, writing):
        handover = _handover(order, folder, secret, ready_fd=writing.fileno(), log_fd=log_fd)
        child = _spawn(folder, nbdkit, handover)
        try:
            writing.close()
            _await_ready(reading.readline(), child, folder, nbdkit.address)
        except BaseException:
            _end_child(child)
            raise
        return child


def _handover(
    order: MountOrder, folder: MountFolder, secret: Secret | None, *, ready_fd: int, log_fd: int
) -> Handover:
    return Handover(
        url=order.url,
        point=order.point.id,
        disks=tuple(image.disk.identity for image in order.disks),
        folder=folder.path,
        overlay_dir=order.overlay_dir,
        cache=order.access.cache,
        secret=secret,
        credentials=order.access.credentials,
        attempts=order.access.store.attempts,
        patience_s=order.access.store.patience_s,
        download_limit=order.download_limit,
        ready_fd=ready_fd,
        log_fd=log_fd,
        log_level=order.log_level,
        syslog=order.syslog,
        detached=order.detached,
    )


def _spawn(folder: MountFolder, nbdkit: _Program, handover: Handover) -> subprocess.Popen[bytes]:
    handover_fd = handover.lay_down()
    command = program.command(
        nbdkit.version,
        nbdkit.address,
        handover_fd=handover_fd,
        writable=handover.overlay_dir is not None,
        with_parent=not handover.detached,
    )
    try:
        with (folder.path / mounts.COMPLAINTS).open("wb") as complaints:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(handover_fd, handover.ready_fd, handover.log_fd, folder.lock),
                env=program.environment(),
                # Ctrl-C goes to the whole foreground group: it is for us to end the server.
                start_new_session=True,
            )
    finally:
        os.close(handover_fd)


@contextmanager
def _pipe() -> Iterator[tuple[Any, Any]]:
    ends = os.pipe()
    with os.fdopen(ends[0], "r", encoding="utf-8") as reading, os.fdopen(ends[1], "w") as writing:
        yield reading, writing


@contextmanager
def _log_of(order: MountOrder, folder: MountFolder) -> Iterator[int]:
    """Give where the server writes its log: where we do, or to a file if it is left alone."""
    path = folder.path / mounts.LOG
    with path.open("ab") if order.detached else os.fdopen(os.dup(_STDERR), "ab") as file:
        yield file.fileno()


def _await_ready(
    line: str, child: subprocess.Popen[bytes], folder: MountFolder, address: Address
) -> None:
    answer = json.loads(line) if line else {}
    if "ready" in answer:
        return
    if "error" in answer:
        raise _as_error(answer["error"])
    child.wait()
    raise _failure((folder.path / mounts.COMPLAINTS).read_text(errors="replace"), address)


def _as_error(content: dict[str, Any]) -> SendenseError:
    """Give an error of the server as it was raised there."""
    kinds = {
        kind.code: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SendenseError)
    }
    kind = kinds.get(content["code"], SendenseError)
    return kind(content["message"], hint=content["hint"], **content["data"])


def _failure(said: str, address: Address) -> SendenseError:
    """Give the error for a server that ended without a word of ours."""
    lines = [line for line in said.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it ended without a word"
    if "already in use" in said:
        return Busy(f"{address.address} is in use already", hint="listen on another port")
    return Unavailable(
        f"nbdkit did not start: {last}",
        hint="its whole message is in the data of this error (--json)",
        said="\n".join(lines[-20:]),
    )


def _mount(
    order: MountOrder, folder: MountFolder, address: Address, child: subprocess.Popen[bytes]
) -> Mount:
    process = find_process(child.pid)
    if process is None:
        raise Unavailable("the server ended as soon as it was started")
    return Mount(
        folder=str(folder.path),
        point=order.point.id,
        machine=order.point.machine.name,
        machine_uuid=order.point.machine.uuid,
        repository=order.location,
        disks=tuple(
            MountedDisk(image.disk.target, image.size, address.uri(image.disk.target))
            for image in order.disks
        ),
        address=address.address,
        writable=order.overlay_dir is not None,
        detached=order.detached,
        since=clock.format_utc(clock.now()),
        process=process,
    )


def _end_child(child: subprocess.Popen[bytes]) -> None:
    process: Process | None = None
    if child.poll() is None:
        process = find_process(child.pid)
    if process is not None and not process.end(within_s=_END_S):
        _LOG.warning("the server did not end, and was killed")
    with suppress(subprocess.TimeoutExpired):
        child.wait(timeout=_END_S)
