"""Whom we are held against: nbdcopy, which only copies, and virtnbdbackup, which does our job.

nbdcopy (of libnbd, in C) is the floor: it neither begins a backup nor hashes, and
leaves nothing but a raw file.  virtnbdbackup (in Python, as we are) makes full and
incremental backups through the same libvirt calls.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.stage import Stage, export_uri
from bench.timing import Cost, run_timed
from sendense.targets.qemunbd import QemuNbd

NBDCOPY = "nbdcopy"
VIRTNBDBACKUP = "virtnbdbackup"
VIRTNBDRESTORE = "virtnbdrestore"


def installed(program: str) -> bool:
    """Tell whether a peer is here; only virtnbdbackup may be missing."""
    return shutil.which(program) is not None


def copy_export(stage: Stage, target: str, into: Path, *, synced: bool = False) -> Cost:
    """Copy one disk with nbdcopy to a raw file; only the copying is timed."""
    with stage.export(target) as export:
        flush = ["--flush"] if synced else []
        return run_timed([NBDCOPY, *flush, export_uri(export), into]).cost


def copy_layer(layer: Path, into: Path) -> Cost:
    """Copy a point's disk with nbdcopy through qemu-nbd; the server's start is timed too."""
    began = time.perf_counter()
    with _served(layer) as uri:
        done = run_timed([NBDCOPY, uri, into])
    return Cost(time.perf_counter() - began, done.cost.processor_s)


class VirtNbdBackup:
    """virtnbdbackup with one backup set."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        """Keep the set in ``folder``, which must not exist."""
        self.folder = folder
        self._stage = stage
        # Given a transport (qemu+unix), it insists on a user and a password.
        self._uri = stage.host.uri.replace("qemu+unix:", "qemu:")

    def backup(self, target: str, level: str) -> Cost:
        """Back one disk up: ``full`` or ``inc``."""
        self._stage.hide_our_checkpoints()
        run_dir = self._stage.host.run_dir
        return run_timed([
            VIRTNBDBACKUP, "--uri", self._uri, "--domain", self._stage.vm.name, "--level", level,
            "--include", target, "--scratchdir", run_dir, "--socketfile", run_dir / "peer.sock",
            "--noprogress", "--output", self.folder,
        ]).cost  # fmt: skip

    def restore(self, target: str, into: Path) -> Cost:
        """Restore one disk of the newest backup into a directory."""
        run_dir = self._stage.host.run_dir
        return run_timed([
            VIRTNBDRESTORE, "--uri", self._uri, "--input", self.folder, "--disk", target,
            "--socketfile", run_dir / "peer.sock", "--noprogress", "--output", into,
            "--logfile", self._stage.folder / "peer.log",
        ]).cost  # fmt: skip


@contextmanager
def _served(layer: Path) -> Iterator[str]:
    with QemuNbd(str(layer), image_format="qcow2", writable=False, connections=4) as server:
        yield f"nbd+unix:///disk?socket={server.socket}"
