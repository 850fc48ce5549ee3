"""Restoring in place through QEMU: what is behind the image must not shine through."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sendense.errors import Busy, NotFound, OutOfSpace, SendenseError, Unavailable
from sendense.targets.nbd import NbdDisk
from sendense.targets.qemunbd import QemuNbd
from tests.integration.transfer.servers import MIB, run

SIZE = 16 * MIB


@pytest.fixture
def overlay(tmp_path):
    """Give a qcow2 image over a template full of data."""
    template = tmp_path / "template.raw"
    template.write_bytes(random.Random(1).randbytes(SIZE))
    image = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "raw", image)
    return image


def content(image, image_format="qcow2"):
    raw = image.with_suffix(".now")
    run("qemu-img", "convert", "-f", image_format, "-O", "raw", image, raw)
    return raw.read_bytes()


def fill(target, size, seed=2):
    """Write data and zeroes over all of a disk; gives what it holds then."""
    source = random.Random(seed)
    wanted = bytearray(size)
    position = 0
    while position < size:
        length = min(65536 * source.randrange(1, 20), size - position)
        if source.random() < 0.5:
            target.zero(position, length)
        else:
            buffer = bytearray(source.randbytes(length))
            target.write(position, memoryview(buffer))
            wanted[position : position + length] = buffer
            # The contract: the buffer is the caller's again.
            buffer[:] = bytes(length)
        position += length
    return bytes(wanted)


def fill_up(target):
    """Write 64 MiB."""
    for start in range(0, 64 * MIB, MIB):
        target.write(start, os.urandom(MIB))
    target.finish()


def test_an_image_over_a_template_holds_the_disk_and_nothing_else(overlay):
    with NbdDisk(str(overlay), SIZE, image_format="qcow2", capacity=SIZE) as target:
        wanted = fill(target, SIZE)
        target.finish()
        target.publish()
    assert content(overlay) == wanted
    run("qemu-img", "check", "-q", overlay)


def test_a_raw_image(tmp_path):
    image = tmp_path / "disk.raw"
    image.write_bytes(b"old" * (SIZE // 3) + b"o")
    with NbdDisk(str(image), SIZE, image_format="raw", capacity=SIZE) as target:
        wanted = fill(target, SIZE)
        target.finish()
    assert image.read_bytes() == wanted


def test_what_is_behind_the_end_of_the_disk_reads_as_zero(overlay):
    size = 10 * MIB - 512
    with NbdDisk(str(overlay), size, image_format="qcow2", capacity=SIZE) as target:
        target.write(0, b"x" * 65536)
        target.zero(65536, size - 65536)
        target.finish()
    assert content(overlay) == b"x" * 65536 + bytes(SIZE - 65536)


def test_an_image_in_use_is_busy(overlay):
    with (
        NbdDisk(str(overlay), SIZE, image_format="qcow2", capacity=SIZE),
        pytest.raises(Busy, match="lock"),
    ):
        NbdDisk(str(overlay), SIZE, image_format="qcow2", capacity=SIZE)


def test_an_image_that_is_not_there_or_has_another_size(overlay, tmp_path):
    with pytest.raises(NotFound):
        NbdDisk(str(tmp_path / "none"), SIZE, image_format="qcow2", capacity=SIZE)
    with pytest.raises(Unavailable, match="bytes"):
        NbdDisk(str(overlay), SIZE, image_format="qcow2", capacity=2 * SIZE)
    assert children() == set()


def test_a_full_storage_is_out_of_space(small_storage):
    image = small_storage / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, 64 * MIB)
    with (
        NbdDisk(str(image), 64 * MIB, image_format="qcow2", capacity=64 * MIB) as target,
        pytest.raises(OutOfSpace, match="No space left"),
    ):
        fill_up(target)
    assert children() == set()


def test_a_server_that_dies_is_an_error_at_the_latest_at_the_end(overlay):
    with NbdDisk(str(overlay), SIZE, image_format="qcow2", capacity=SIZE) as target:
        target.write(0, b"x" * 65536)
        for child in children():
            os.kill(child, signal.SIGKILL)
        with pytest.raises(SendenseError):
            target.finish()


HOLDER = """
import sys, time
from sendense.targets.qemunbd import QemuNbd
server = QemuNbd(sys.argv[1], image_format="qcow2", writable=True)
print(server._process.pid, flush=True)
time.sleep(60)
"""


def test_the_child_dies_with_us_even_before_a_connection(overlay):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, overlay], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    holder.kill()
    holder.communicate()
    deadline = time.monotonic() + 50
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with QemuNbd(str(overlay), image_format="qcow2", writable=True):
        pass


def test_what_a_killed_run_left_is_swept_and_the_living_is_not(overlay, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t" / "sendense-nbd-dead").mkdir(parents=True)
    (tmp_path / "t" / "sendense-nbd-dead" / "nbd").touch()
    (tmp_path / "t" / "sendense-nbd-young").mkdir()
    (tmp_path / "t" / "sendense-nbd-link").symlink_to(tmp_path)
    os.utime(tmp_path / "t" / "sendense-nbd-dead", (0, 0))
    with QemuNbd(str(overlay), image_format="qcow2", writable=False) as first:
        os.utime(Path(first.socket).parent, (0, 0))
        with QemuNbd(str(overlay), image_format="qcow2", writable=False) as second:
            assert Path(first.socket).exists()
            assert Path(second.socket).exists()
    left = {path.name for path in (tmp_path / "t").iterdir()}
    assert left == {"sendense-nbd-young", "sendense-nbd-link"}
    assert overlay.exists()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children():
    """Give the qemu-nbd processes that this one has started and that live."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in found if alive(int(pid)) and command(pid) == "qemu-nbd"}


def command(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""
