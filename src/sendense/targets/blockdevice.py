"""A restored disk on a block device: LVM volume, partition, SAN disk.

The device is opened with ``O_EXCL``, by which the kernel refuses one that is
mounted, held by device mapper or md, or open exclusively by anybody else.  QEMU
opens devices without it: whether a machine runs on the device is for the plan
to find out.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from pathlib import Path

from sendense.errors import Busy, Rejected
from sendense.model.stream import Buffer
from sendense.targets.newfile import write_all
from sendense.targets.target import Target, failure
from sendense.units import MIB

_BLKZEROOUT = 0x127F
"""``_IO(0x12, 127)`` of linux/fs.h: zero a range, by the device itself where it can."""
_ZERO_STEP = 64 * MIB
"""Zeroed per call: a device without the offload writes them all, and cannot be interrupted."""
_SECTOR = 512
_ZEROES = bytes(MIB)


class BlockDevice(Target):
    """An existing device, overwritten from its beginning."""

    def __init__(self, path: Path, size: int, *, allow_larger: bool = False) -> None:
        """Open the device for this process alone, and check that the disk fits exactly."""
        self._path = path
        self._size = size
        self._fd = _open(path)
        try:
            self._capacity = os.lseek(self._fd, 0, os.SEEK_END)
            ensure_fits(str(path), size, self._capacity, allow_larger=allow_larger)
        except BaseException:
            self.abort()
            raise

    def write(self, offset: int, data: Buffer) -> None:
        """Put ``data`` at ``offset``."""
        try:
            write_all(self._fd, data, offset)
        except OSError as error:
            raise failure("write", self._path, error) from error

    def zero(self, offset: int, length: int) -> None:
        """Zero a range by the device where it can."""
        end = offset + length
        for start in range(offset, end, _ZERO_STEP):
            self._zero_step(start, min(_ZERO_STEP, end - start))

    def _zero_step(self, offset: int, length: int) -> None:
        try:
            if offset % _SECTOR or length % _SECTOR:
                self._write_zeroes(offset, length)
            else:
                fcntl.ioctl(self._fd, _BLKZEROOUT, struct.pack("QQ", offset, length))
                # The kernel drops the pages it has cached of the range, so a read sees the zeroes.
        except OSError:
            # Not all devices take the call; all of them take bytes.
            self._write_zeroes(offset, length)

    def _write_zeroes(self, offset: int, length: int) -> None:
        view = memoryview(_ZEROES)
        for start in range(offset, offset + length, len(view)):
            self.write(start, view[: min(len(view), offset + length - start)])

    def finish(self) -> None:
        """Zero what is behind the disk's end, and wait until all is on the device."""
        self.zero(self._size, self._capacity - self._size)
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise failure("write", self._path, error) from error
        self.abort()

    def abort(self) -> None:
        """Close the device, which keeps what was written to it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: Path) -> int:
    try:
        if not stat.S_ISBLK(path.stat().st_mode):
            raise Rejected(f"{path} is no block device", path=path)
        return os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except BlockingIOError as error:
        raise failure("open", path, error) from error
    except OSError as error:
        refusal = failure("open", path, error)
        if isinstance(refusal, Busy):
            refusal.hint = "it is mounted, part of a volume group, or in use; 'lsblk' shows it"
        raise refusal from error


def ensure_fits(place: str, size: int, capacity: int, *, allow_larger: bool) -> None:
    """Refuse a destination that is smaller, and one that is larger unless that was said."""
    if capacity < size:
        raise Rejected(
            f"{place} has {capacity} bytes, the disk needs {size}",
            hint="give it a larger destination",
            path=place,
        )
    if capacity > size and not allow_larger:
        raise Rejected(
            f"{place} has {capacity} bytes, the disk {size}: it may be the wrong one",
            hint="give it one of the same size, or say that it may be larger",
            path=place,
        )
