"""Dirty bitmaps of real images: what changed is read, zeroes included, and nothing else."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sendense.errors import Unavailable
from sendense.model.decision import Method
from sendense.transfer.copy import CopyOptions, copy_disk
from sendense.transfer.sampling import BLOCK, find_changed_sample
from tests.integration.transfer.servers import MIB, qemu_nbd, run
from tests.integration.transfer.sinks import MemorySink

SIZE = 8 * MIB
BITMAP = "sendense-p1"
CONTEXT = f"qemu:dirty-bitmap:{BITMAP}"


class Disk:
    """A qcow2 image with a bitmap, over a template, and its content at the last point."""

    def __init__(self, folder, granularity=65536):
        self.before = random.Random(5).randbytes(SIZE)
        self.image = folder / "disk.qcow2"
        template = folder / "template.raw"
        template.write_bytes(self.before)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "raw", self.image)
        run("qemu-img", "bitmap", "--add", "-g", granularity, self.image, BITMAP)

    def io(self, *commands):
        """Write as a guest would, so that the bitmap records it."""
        words = [word for command in commands for word in ("-c", command)]
        run("qemu-io", "-f", "qcow2", *words, self.image)

    def content(self):
        raw = self.image.with_suffix(".now")
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.image, raw)
        return raw.read_bytes()

    def serve(self, *options):
        return qemu_nbd(self.image, SIZE, "-B", BITMAP, *options)

    def copy(self, block_size=65536, method=Method.BITMAP):
        sink = MemorySink(SIZE, block_size=block_size, before=self.before)
        with self.serve() as export:
            copy_disk(replace(export, dirty_context=CONTEXT), sink, method=method)
        return sink


def test_nothing_changed_is_nothing_read(tmp_path):
    assert Disk(tmp_path).copy().named == []


@pytest.mark.parametrize("granularity", [512, 4096, 65536, MIB])
@pytest.mark.parametrize("block_size", [512, 4096, 65536])
def test_what_changed_arrives_and_little_else(tmp_path, granularity, block_size):
    disk = Disk(tmp_path, granularity)
    disk.io("write -P 1 4k 4k", "write -P 2 1M 64k", "write -P 3 7168k 1000k", "write -P 4 3M 512")
    sink = disk.copy(block_size)
    assert sink.content == disk.content()
    unit = max(granularity, block_size)
    changed = sum(length for _, length, _ in sink.named)
    assert changed <= 65536 + 1000 * 1024 + 4096 + 512 + 5 * 2 * unit


def test_zeroed_and_discarded_ranges_are_stated_as_zero(tmp_path):
    disk = Disk(tmp_path)
    disk.io("write -z 1M 1M", "discard 4M 128k", "write -P 1 5M 64k", "write -z -u 6M 256k")
    sink = disk.copy()
    assert sink.content == disk.content()
    assert (MIB, MIB, True) in sink.named
    assert (6 * MIB, 256 * 1024, True) in sink.named


def test_a_bitmap_that_is_not_served_is_an_error(tmp_path):
    disk = Disk(tmp_path)
    sink = MemorySink(SIZE)
    with disk.serve() as export:
        for context in ("qemu:dirty-bitmap:other", None):
            with pytest.raises(Unavailable, match=r"vda does not offer|offers no dirty bitmap"):
                copy_disk(replace(export, dirty_context=context), sink, method=Method.BITMAP)
    assert sink.named == []


def test_comparing_names_the_whole_disk(tmp_path):
    sink = Disk(tmp_path).copy(method=Method.COMPARE)
    assert sum(length for _, length, _ in sink.named) == SIZE


# --- sampling ---


class Older:
    """The last point."""

    def __init__(self, content):
        self.content = content
        self.asked = []

    def matches(self, offset, data):
        self.asked.append((offset, len(data)))
        return self.content[offset : offset + len(data)] == bytes(data)


def sample(disk, older, count=16, seed=1):
    with disk.serve() as export:
        return find_changed_sample(
            replace(export, dirty_context=CONTEXT),
            older,
            count=count,
            random=random.Random(seed),
            options=CopyOptions(connections=2),
        )


def test_clean_blocks_match_the_last_point(tmp_path):
    disk = Disk(tmp_path)
    disk.io("write -P 1 2M 3M")
    older = Older(disk.before)
    result = sample(disk, older)
    assert result.changed_at is None
    # Nothing of this disk reads as zero, so the quarter kept for zeroes stays empty.
    assert result.blocks == 12
    assert len(set(older.asked)) == 12
    assert all(not 2 * MIB <= offset < 5 * MIB for offset, _ in older.asked)


def test_a_bitmap_that_missed_a_write_is_found(tmp_path):
    disk = Disk(tmp_path)
    run("qemu-img", "bitmap", "--disable", disk.image, BITMAP)
    disk.io("write -P 1 0 6M")
    run("qemu-img", "bitmap", "--enable", disk.image, BITMAP)
    result = sample(disk, Older(disk.before))
    assert result.changed_at is not None
    assert result.changed_at < 6 * MIB


def test_a_bitmap_that_missed_a_discard_is_found(tmp_path):
    disk = Disk(tmp_path)
    run("qemu-img", "bitmap", "--disable", disk.image, BITMAP)
    disk.io("write -z 0 4M")
    run("qemu-img", "bitmap", "--enable", disk.image, BITMAP)
    result = sample(disk, Older(disk.before), count=8)
    assert result.changed_at is not None
    assert result.changed_at % BLOCK == 0
