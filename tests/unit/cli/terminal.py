"""The program on a terminal of its own, and a person in front of it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from sendense import clock

ROOT = Path(__file__).parents[3]
_TIMEOUT_S = 30
_PROGRAM = (
    "import fcntl, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "from sendense.cli.main import main\n"
    "main()\n"
)


class Terminal:
    """One command on a terminal, for the time of a ``with`` block."""

    def __init__(self, *arguments: object) -> None:
        self.shown = b""
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *map(str, arguments)],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def wait_for(self, text: str) -> None:
        """Wait until this was shown."""
        wanted = text.encode()
        end = clock.monotonic() + _TIMEOUT_S
        while wanted not in self.shown:
            assert clock.monotonic() < end, f"{text!r} was not shown: {self.shown!r}"
            assert self._read(), f"the program ended before {text!r}: {self.shown!r}"

    def type(self, text: str) -> None:
        """Type a line."""
        self.shown = b""
        os.write(self._ours, f"{text}\n".encode())

    def end(self) -> int:
        """Wait for the end of the program; gives its exit code."""
        while self._read():
            pass
        return self._process.wait(_TIMEOUT_S)

    def _read(self) -> bool:
        # Not select(): it refuses descriptors above 1023, and a long run of tests has such.
        waiting = select.poll()
        waiting.register(self._ours, select.POLLIN)
        if not waiting.poll(200):
            return True
        try:
            data = os.read(self._ours, 4096)
        except OSError:
            return False
        self.shown += data
        return bool(data)
