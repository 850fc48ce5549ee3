"""Serves images of machines that are off: one ``qemu-nbd`` per disk, ours.

For reading, two things must not happen.

*The machine must be able to start meanwhile.*  A plain ``qemu-nbd --read-only``
locks the image, and QEMU then refuses to start (measured: the start fails 75 to
370 ms after libvirt shows the domain, too soon to get out of the way: giving way
100 ms after that moment came too late in half of the tries).  So the
images are opened with QEMU's ``force-share``, as ``qemu-img -U`` does: nobody is
kept out, and whether anybody came is :mod:`~sendense.capture.stillness`' work.

*No server may outlive us.*  The kernel kills each one when the thread that made it
ends (``PR_SET_PDEATHSIG``, set by util-linux' ``setpriv``).  The *thread*, not the
process: so the servers are the children of one thread that lives as long as they.

For writing (:class:`WriteServers`) the image's lock is just what is wanted: the machine must
not start on a disk that is half restored.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional

from sendense import clock
from sendense.capture.images import failure_of
from sendense.errors import NotFound, SendenseError, Stalled, Unavailable
from sendense.model.machine import SourceKind

_MOST_CLIENTS = 64
"""qemu-nbd serves one by default; more than this no reader of ours opens."""

_ANSWER_S = 30.0
"""For a server to open its image: milliseconds, unless the storage is ill."""

_GREETING = b"NBDMAGIC"


@dataclass(frozen=True)
class ServedImage:
    """One image, and where and how it is served."""

    target: str
    """The disk's target; also the export's name."""
    path: str
    format: str
    kind: SourceKind
    socket: Path
    bitmap: Optional[str] = None
    """The dirty bitmap that goes with it."""
    writable: bool = False

    @property
    def command(self) -> tuple[str, ...]:
        """Give the command line of its server."""
        way = ("--discard=unmap", "--detect-zeroes=off") if self.writable else ("--read-only",)
        command: tuple[str, ...] = (
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *("qemu-nbd", *way, "--persistent", f"--shared={_MOST_CLIENTS}"),
            *("--export-name", self.target, "--socket", str(self.socket)),
        )
        bitmap = ("--bitmap", self.bitmap) if self.bitmap is not None else ()
        # As JSON, because a path may hold any character; the format is given, never probed.
        return (*command, *bitmap, f"json:{json.dumps(self._options())}")

    def _options(self) -> dict[str, object]:
        file: dict[str, object] = {
            "driver": "host_device" if self.kind is SourceKind.BLOCK else "file",
            "filename": self.path,
        }
        if self.writable:
            return {"driver": self.format, "file": file}
        if _can_read_directly(self.path):
            # Past the host's page cache: a full must not push out what the guests need, and a
            # block device shared between hosts may have old pages here. As fast (2 GiB: 0.77
            # against 0.66 s).
            file["cache"] = {"direct": True}
        return {"driver": self.format, "read-only": True, "force-share": True, "file": file}


@dataclass
class _Server:
    image: ServedImage
    process: subprocess.Popen[bytes]
    complaints: IO[bytes]

    def complaint(self) -> str:
        self.complaints.seek(0)
        return self.complaints.read(8192).decode(errors="replace").strip()


class ReadServers:
    """The servers of one machine, from :meth:`start` to :meth:`stop`."""

    def __init__(self, images: Sequence[ServedImage]) -> None:
        """Start nothing yet."""
        self._images = tuple(images)
        self._servers: list[_Server] = []
        self._spawned = threading.Event()
        self._end = threading.Event()
        self._failure: Optional[SendenseError] = None
        self._owner = threading.Thread(target=self._own, name="qemu-nbd-owner", daemon=True)

    @property
    def pids(self) -> tuple[int, ...]:
        """Give the process ids, for the journal."""
        return tuple(server.process.pid for server in self._servers)

    def start(self) -> None:
        """Start all, and wait until each answers; where one fails, none is left."""
        self._owner.start()
        self._spawned.wait()
        try:
            self._wait_for_answers()
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise where a server ended by itself."""
        for server in self._servers:
            if server.process.poll() is not None:
                raise Unavailable(
                    f"qemu-nbd of disk {server.image.target} ended by itself",
                    hint="run the backup again; the kernel's log may tell why",
                    said=server.complaint(),
                )

    def stop(self) -> None:
        """Kill all and remove their sockets; may be repeated."""
        self._end.set()
        if self._owner.is_alive():
            self._owner.join()

    def _wait_for_answers(self) -> None:
        if self._failure is not None:
            raise self._failure
        deadline = clock.monotonic() + _ANSWER_S
        for server in self._servers:
            _wait_for_answer(server, deadline)

    def _own(self) -> None:
        """Be the parent of the servers, as long as they are needed."""
        try:
            for image in self._images:
                self._servers.append(_spawn(image))
        except SendenseError as error:
            self._failure = error
        except OSError as error:
            self._failure = Unavailable(f"qemu-nbd could not be started: {error.strerror}")
        finally:
            self._spawned.set()
        self._end.wait()
        for server in self._servers:
            # They only read, so there is nothing to end in peace.
            server.process.kill()
        for server in self._servers:
            server.process.wait()
            server.complaints.close()
            server.image.socket.unlink(missing_ok=True)


class WriteServers(ReadServers):
    """Servers that clients write to, and that must close their images in order."""

    def finish(self, *, within_s: float) -> None:
        """Have all images closed, once no client is left; raises where one was not."""
        for server in self._servers:
            server.process.terminate()
        deadline = clock.monotonic() + within_s
        for server in self._servers:
            try:
                status = server.process.wait(max(deadline - clock.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                raise Stalled(
                    f"qemu-nbd did not close {server.image.path} within {within_s:.0f} s",
                    hint="the storage may hang: look for processes in state D",
                ) from None
            if status != 0:
                raise failure_of(server.complaint() or f"it ended with {status}", server.image.path)
        self.stop()


def _spawn(image: ServedImage) -> _Server:
    for program in ("setpriv", "qemu-nbd"):
        if shutil.which(program) is None:
            raise NotFound(
                f"the program {program} is not installed",
                hint="install util-linux and qemu-utils (Debian, Ubuntu) or qemu-img (RHEL)",
            )
    # A file, because nobody would empty a pipe: each client that leaves abruptly is a line.
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
    process = subprocess.Popen(
        image.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        env={**os.environ, "LC_ALL": "C"},
    )
    return _Server(image, process, complaints)


def _wait_for_answer(server: _Server, deadline: float) -> None:
    while not _answers(server.image.socket):
        if server.process.poll() is not None:
            raise failure_of(server.complaint() or "ended by itself", server.image.path)
        if clock.monotonic() >= deadline:
            raise Stalled(
                f"qemu-nbd did not open {server.image.path} within {_ANSWER_S:.0f} s",
                hint="the storage may hang: look for processes in state D",
            )
        clock.sleep(0.01)


def _answers(path: Path) -> bool:
    """Tell whether an NBD server greets on the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            return client.recv(len(_GREETING)) == _GREETING
        except OSError:
            return False


def _can_read_directly(path: str) -> bool:
    """Tell whether the storage allows O_DIRECT; tmpfs, say, may not."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return False
    os.close(handle)
    return True
