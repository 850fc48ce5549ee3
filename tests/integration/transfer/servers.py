"""Real NBD servers for tests: qemu-nbd as in production, nbdkit for what is legal but awkward."""

from __future__ import annotations

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
def server(command: Sequence[object], socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block."""
    # The kernel ends it with us, however the tests end.
    words = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not socket.exists():
            assert process.poll() is None, f"{words} ended"
            assert time.monotonic() < deadline, f"{words} did not start"
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def qemu_nbd(
    image: Path, size: int, *options: object, image_format: str = "qcow2", shared: int = 8
) -> Iterator[DiskExport]:
    """Serve an image read-only, as a stopped machine's disk is served."""
    socket = image.with_suffix(".sock")
    socket.unlink(missing_ok=True)
    command = [
        "qemu-nbd", "-r", "-t", f"-e{shared}", "-f", image_format, "-x", "disk",
        "-k", socket, *options, image,
    ]  # fmt: skip
    with server(command, socket):
        yield DiskExport("vda", str(socket), "disk", size)


@contextmanager
def nbdkit(folder: Path, size: int, *arguments: object) -> Iterator[DiskExport]:
    """Serve whatever nbdkit's plugins and filters make."""
    socket = folder / "nbdkit.sock"
    socket.unlink(missing_ok=True)
    with server(["nbdkit", "-f", "-U", socket, *arguments], socket):
        yield DiskExport("vda", str(socket), "", size)
