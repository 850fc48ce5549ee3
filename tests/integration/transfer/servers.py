"""Real NBD servers for tests: qemu-nbd as in production, nbdkit for what is legal but awkward."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sendense.model.export import DiskExport

MIB = 1 << 20


def run(*command: object) -> str:
    """Run a tool that has to succeed."""
    return subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    ).stdout


@contextmanager
def server(command: Sequence[object], place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block."""
    # The kernel ends it with us, however the tests end.
    words = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while not _listens(place):
            assert process.poll() is None, f"{words} ended"
            assert time.monotonic() < deadline, f"{words} did not start"
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    """Tell whether a server takes connections: its socket has a name before it listens."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextmanager
def qemu_nbd(
    image: Path, size: int, *options: object, image_format: str = "qcow2", shared: int = 8
) -> Iterator[DiskExport]:
    """Serve an image read-only, as a stopped machine's disk is served."""
    place = image.with_suffix(".sock")
    place.unlink(missing_ok=True)
    command = [
        "qemu-nbd", "-r", "-t", f"-e{shared}", "-f", image_format, "-x", "disk",
        "-k", place, *options, image,
    ]  # fmt: skip
    with server(command, place):
        yield DiskExport("vda", str(place), "disk", size)


@contextmanager
def nbdkit(folder: Path, size: int, *arguments: object) -> Iterator[DiskExport]:
    """Serve whatever nbdkit's plugins and filters make."""
    place = folder / "nbdkit.sock"
    place.unlink(missing_ok=True)
    with server(["nbdkit", "-f", "-U", place, *arguments], place):
        yield DiskExport("vda", str(place), "", size)
