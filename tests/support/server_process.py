"""A server that a test starts: on a free port of this machine, ended by its own process id.

What it prints is kept, and shown when it does not start.  It dies with the process that started
it, also when that is killed.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sendense_lab.ports import free_port

_READY_S = 150
_STOP_S = 10


@contextmanager
def serving(
    command: Callable[[int], Sequence[str]], **options: dict[str, str] | str
) -> Iterator[int]:
    """Run the server that ``command`` starts on a port; give the port once it listens."""
    with tempfile.TemporaryFile() as output:
        port = free_port()
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **options,  # type: ignore[call-overload]
        )
        try:
            if not _listens(process, port):
                output.seek(0)
                said = output.read()[-2000:].decode(errors="replace")
                raise RuntimeError(f"{command(port)[0]} does not listen on {port}: {said}")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False
