"""S3 on this machine: ``rclone`` before a directory, and the gateway before it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.timing import BenchFailed
from sendense_lab.ports import free_port

CREDENTIALS = {"access_key_id": "key-of-the-bench", "secret_access_key": "secret-of-the-bench"}
_RCLONE = Path(sys.executable).with_name("rclone")
_GATEWAY = Path(__file__).with_name("gateway.py")
_READY_S = 20
_STEP_S = 0.02


@dataclass(frozen=True)
class Network:
    """What is between us and the service."""

    name: str
    delay_s: float = 0.0
    rate: int = 0


@contextmanager
def bucket_server(folder: Path, network: Network) -> Iterator[str]:
    """Serve what is in ``folder``, where each folder is a bucket; gives the endpoint.

    Without hashes for the ETag: the server would read a whole pack for the first range of it, for
    each of several requests at once, and that would be measured instead.
    """
    keys = ",".join(CREDENTIALS.values())
    port, inner = free_port(), free_port()
    rclone = [_RCLONE, "serve", "s3", folder, "--addr", f"127.0.0.1:{inner}", "--auth-key", keys,
              "--etag-hash", "", "--config", "", "--log-level", "ERROR"]  # fmt: skip
    gateway = [sys.executable, _GATEWAY, port, inner, network.delay_s, network.rate]
    with _running(rclone, inner), _running(gateway, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: Sequence[object], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)], stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _READY_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"{command[0]} does not listen")
            time.sleep(_STEP_S)
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
