"""Disks over NBD: ``qemu-nbd`` before a raw file, with a dirty bitmap where that is wanted."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.timing import BenchFailed, run_timed

BITMAP = "bench"
_NAME = "disk"
_CLIENTS = 8
_READY_S = 10
_STEP_S = 0.01


@dataclass(frozen=True)
class Export:
    """A disk that is served."""

    socket: str
    name: str
    process: int

    @property
    def uri(self) -> str:
        """Give the URI for the tools of libnbd and QEMU."""
        return f"nbd+unix:///{self.name}?socket={self.socket}"

    def processor_s(self) -> float:
        """Give the processor time that the server has used."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def raw_server(path: Path) -> Iterator[Export]:
    """Serve a raw file, for reading."""
    with _served(["--read-only", "--format=raw", str(path)]) as export:
        yield export


@contextmanager
def bitmap_server(path: Path, *, writable: bool = False) -> Iterator[Export]:
    """Serve an image that has the bitmap: for reading with it, or for writing behind it."""
    mode = [] if writable else ["--read-only", f"--bitmap={BITMAP}"]
    with _served([*mode, "--format=qcow2", str(path)]) as export:
        yield export


def bitmap_over(raw: Path, image: Path, size: int) -> None:
    """Make a QCOW2 image with a bitmap, whose data is a raw file; what that held is lost.

    So whoever reads the raw file and whoever reads the image see the same disk.
    """
    options = f"data_file={raw},data_file_raw=on"
    run_timed(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, str(size)])
    run_timed(["qemu-img", "bitmap", "--add", "-g", "65536", image, BITMAP])


@contextmanager
def _served(arguments: Sequence[str]) -> Iterator[Export]:
    with TemporaryDirectory(prefix="sendense-bench-") as folder:
        socket, ready = Path(folder) / "nbd", Path(folder) / "pid"
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "qemu-nbd", "--persistent",
             f"--shared={_CLIENTS}", f"--export-name={_NAME}", f"--socket={socket}",
             f"--pid-file={ready}", *arguments],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + _READY_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchFailed(f"qemu-nbd does not serve {arguments[-1]}")
                time.sleep(_STEP_S)
            yield Export(str(socket), _NAME, process.pid)
        finally:
            process.terminate()
            process.wait()
