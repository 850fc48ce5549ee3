"""Writing only what differs: the disk is the point's, and what was right is not written."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from sendense.model.stream import Chunk
from sendense.targets.changed import write_changed
from sendense.targets.nbd import ExportDisk
from sendense.targets.qemunbd import QemuNbd
from sendense.targets.target import BLOCK
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


def chunks(wanted, step=3 * BLOCK):
    """Read a content as a repository does: zeroes are stated, where a whole chunk is."""
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        yield Chunk(start, len(part), memoryview(part) if any(part) else None)


def bring(image, wanted, image_format="qcow2", capacity=None):
    """Bring an image to a content; gives what was read and written."""
    capacity = capacity or len(wanted)
    with (
        QemuNbd(str(image), image_format=image_format, writable=True, connections=4) as server,
        ExportDisk(server.export("vda", capacity), capacity, connections=4) as target,
    ):
        found = write_changed(target, chunks(wanted), size=len(wanted))
        target.finish()
        server.end(within_s=120)
    return found


def test_a_fresh_volume_over_a_template(overlay):
    wanted = bytearray(SIZE)
    wanted[MIB : 4 * MIB] = random.Random(2).randbytes(3 * MIB)
    found = bring(overlay, wanted)
    assert content(overlay) == wanted
    assert found.data_bytes == 3 * MIB
    assert found.zero_bytes == SIZE - 3 * MIB


def test_only_what_differs_is_written(overlay):
    before = content(overlay)
    wanted = bytearray(before)
    wanted[5 * MIB] ^= 1
    wanted[9 * MIB - 1] ^= 1
    wanted[7 * MIB : 7 * MIB + BLOCK] = bytes(BLOCK)
    found = bring(overlay, wanted)
    assert content(overlay) == wanted
    assert (found.data_bytes, found.zero_bytes) == (2 * BLOCK, BLOCK)
    assert found.read_bytes == SIZE
    # What is right stays in the template.
    written = bring(overlay, wanted)
    assert (written.data_bytes, written.zero_bytes) == (0, 0)
    listing = run("qemu-img", "map", "--output=json", overlay)
    assert listing.count('"depth": 0') == 3


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_what_is_zero_is_neither_read_nor_written(tmp_path, image_format):
    image = tmp_path / "disk"
    run("qemu-img", "create", "-q", "-f", image_format, image, 64 * MIB)
    before = image.stat().st_blocks
    wanted = bytearray(64 * MIB)
    found = bring(image, wanted, image_format)
    # qemu-img allocates the first block of a raw file.
    assert found.read_bytes <= BLOCK
    assert (found.data_bytes, found.zero_bytes) == (0, 0)
    assert image.stat().st_blocks == before
    wanted[MIB] = 1
    assert bring(image, wanted, image_format).data_bytes == BLOCK
    assert content(image, image_format) == wanted


def test_what_is_behind_the_disk_is_made_zero(overlay):
    wanted = content(overlay)[: SIZE - MIB]
    found = bring(overlay, wanted, capacity=SIZE)
    assert content(overlay) == wanted + bytes(MIB)
    assert (found.data_bytes, found.zero_bytes) == (0, MIB)


def test_memory_is_bounded(tmp_path):
    image = tmp_path / "disk.raw"
    size = 192 * MIB
    block = random.Random(3).randbytes(MIB)
    with image.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    other = memoryview(bytes(reversed(block)))
    wanted = (Chunk(start, MIB, other) for start in range(0, size, MIB))
    with (
        QemuNbd(str(image), image_format="raw", writable=True, connections=4) as server,
        ExportDisk(server.export("vda", size), size, connections=4) as target,
    ):
        tracemalloc.start()
        try:
            write_changed(target, wanted, size=size)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        target.finish()
        server.end(within_s=120)
    # Windows of 16 MiB for writes and 8 for reads, and what is compared.
    assert peak < 48 * MIB
