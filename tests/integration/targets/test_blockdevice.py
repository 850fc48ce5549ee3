"""Restoring to block devices of 512 and 4096 byte sectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendense.errors import Busy, NotFound, Rejected
from sendense.targets.blockdevice import BlockDevice
from tests.integration.targets.test_nbd import fill
from tests.integration.transfer.servers import MIB, run

SIZE = 16 * MIB


def test_a_device_holds_the_disk(loop_device):
    device, _ = loop_device
    with BlockDevice(Path(device), SIZE) as target:
        wanted = fill(target, SIZE)
        target.finish()
        target.publish()
    assert Path(device).read_bytes() == wanted


def test_the_rest_of_a_larger_device_reads_as_zero(loop_device):
    device, _ = loop_device
    size = 5 * MIB + 512
    with pytest.raises(Rejected, match="wrong one"):
        BlockDevice(Path(device), size)
    with BlockDevice(Path(device), size, allow_larger=True) as target:
        wanted = fill(target, size)
        target.finish()
    assert Path(device).read_bytes() == wanted + bytes(SIZE - size)


def test_a_smaller_device_is_refused_untouched(loop_device):
    device, _ = loop_device
    with pytest.raises(Rejected, match="needs"):
        BlockDevice(Path(device), SIZE + 512)
    assert Path(device).read_bytes() == b"\xee" * SIZE


def test_a_mounted_device_is_busy(loop_device, tmp_path):
    device, _ = loop_device
    folder = tmp_path / "mounted"
    folder.mkdir()
    run("mkfs.ext4", "-q", "-F", device)
    run("mount", device, folder)
    try:
        with pytest.raises(Busy, match="busy"):
            BlockDevice(Path(device), SIZE)
    finally:
        run("umount", folder)


def test_no_device(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Rejected, match="no block device"):
        BlockDevice(tmp_path / "file", 0)
    with pytest.raises(NotFound):
        BlockDevice(tmp_path / "none", 0)
