"""A ``qemu-nbd`` child that serves one image to us alone.

It must not outlive us, because the machine cannot start while it holds the image
(QEMU fails to get its lock, even where the child only reads).  Three things see
to that:

* without ``--persistent`` it ends when its last client goes, and the kernel
  disconnects us however we die;
* ``setpriv --pdeathsig KILL`` covers the time before the first connection, when
  qemu-nbd can lose a TERM.  (A ``preexec_fn`` would run Python between the fork
  and the exec of a process with threads, which can deadlock.)  The kernel sends
  that signal when the *thread* dies that started the child: start it from one
  that stays;
* leaving the ``with`` block ends it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from sendense import clock
from sendense.capture.images import failure_of
from sendense.errors import NotFound, SendenseError, Stalled
from sendense.model.export import DiskExport

_log = logging.getLogger(__name__)

_EXPORT = "disk"
_START_S = 30.0
_END_S = 2.0
_PREFIX = "sendense-nbd-"
_YOUNG_S = 60.0
_STEP_S = 0.005


class QemuNbd:
    """One image, served on a private socket from construction until :meth:`end`."""

    def __init__(
        self,
        path: str,
        *,
        image_format: str,
        writable: bool,
        connections: int = 1,
        bitmap: str | None = None,
    ) -> None:
        """Start the child; it is ready when this returns."""
        # Private, because whoever reaches the socket may write; short, as 107 bytes are the most.
        self._folder = _PrivateFolder()
        self._path = path
        self.socket = str(self._folder.path / "nbd")
        self._complaint = self._folder.path / "complaint"
        self._ready = self._folder.path / "pid"
        options = ["--discard=unmap", "--detect-zeroes=off"] if writable else ["--read-only"]
        options += ["--bitmap", bitmap] if bitmap is not None else []
        command = [
            "qemu-nbd", f"--format={image_format}", f"--socket={self.socket}",
            f"--pid-file={self._ready}", f"--export-name={_EXPORT}", f"--shared={connections}",
            *options, "--", path,
        ]  # fmt: skip
        try:
            self._process = self._start(command)
            self._await_start()
        except BaseException:
            self._kill()
            self._folder.remove()
            raise

    def __enter__(self) -> Self:
        """Serve."""
        return self

    def __exit__(self, *_details: object) -> None:
        """End the child, whatever it does."""
        self._kill()
        self._folder.remove()

    def export(self, target: str, size: int, *, dirty_context: str | None = None) -> DiskExport:
        """Describe what is served."""
        return DiskExport(target, self.socket, _EXPORT, size, dirty_context)

    def end(self, *, within_s: float) -> None:
        """Wait until the child has closed the image, after its last client went."""
        try:
            status = self._process.wait(timeout=within_s)
        except subprocess.TimeoutExpired as error:
            raise Stalled(
                f"qemu-nbd did not close {self._path} within {within_s:.0f} s", path=self._path
            ) from error
        if status != 0:
            raise self._failure()

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        if shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        try:
            with self._complaint.open("wb") as complaint:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaint,
                    # Ctrl-C goes to the whole foreground group: it is for us to end the child.
                    start_new_session=True,
                )
        except FileNotFoundError as error:
            raise NotFound(
                f"the program {command[0]} is not installed",
                hint="install qemu-utils (Debian, Ubuntu) or qemu-img (RHEL)",
            ) from error

    def _await_start(self) -> None:
        # The socket is there before the image is open, and a connection made to find out would
        # be the last client that went: the pid file is written when all has succeeded.
        deadline = clock.monotonic() + _START_S
        while not self._ready.exists():
            if self._process.poll() is not None:
                raise self._failure()
            if clock.monotonic() > deadline:
                raise Stalled(f"qemu-nbd did not open {self._path} within {_START_S:.0f} s")
            clock.sleep(_STEP_S)

    def _failure(self) -> SendenseError:
        said = self._complaint.read_text(errors="replace").strip()
        return failure_of(said or "qemu-nbd: it ended without a word", self._path)

    def _kill(self) -> None:
        process = getattr(self, "_process", None)
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            # A TERM that comes before its main loop is lost (qemu-nbd.c sets RUNNING after it).
            _log.debug("qemu-nbd (process %d) did not end; killing it", process.pid)
            process.kill()
            process.wait()


class _PrivateFolder:
    """A directory for the socket, which the next child sweeps if we are killed.

    A lock on the directory, which the kernel frees however we die, tells the
    living from the dead; a young one may be about to be locked.
    """

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            _sweep(left)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep(left: Path) -> None:
    try:
        # Not through a symbolic link: anybody may put one into the temporary directory.
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        found = os.fstat(lock)
        old = clock.now().timestamp() - found.st_mtime > _YOUNG_S
        if old and found.st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    except BlockingIOError:
        _log.debug("%s belongs to a restore that runs", left)
    finally:
        os.close(lock)
