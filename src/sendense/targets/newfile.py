"""Restored disks as new files: raw (sparse) and QCOW2 (standalone, no backing file)."""

from __future__ import annotations

import os
from pathlib import Path

from sendense.errors import SendenseError
from sendense.formats.qcow2_writer import Qcow2Writer
from sendense.model.stream import Buffer
from sendense.targets import staging
from sendense.targets.target import BLOCK, Target, failure


class RawFile(Target):
    """A sparse raw file; zeroes take no space and no time.

    Chunks ascend and never overlap, so a range that is stated to be zero has
    never been written: it is a hole already.
    """

    def __init__(self, path: Path, size: int, *, overwrite: bool = False) -> None:
        """Create the part of ``path``; a name that is taken is refused unless told otherwise."""
        if not overwrite:
            staging.ensure_absent(path)
        self._path = path
        self._overwrite = overwrite
        self._part = staging.part_of(path)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            # A disk holds whatever its guest kept secret.
            self._fd = os.open(self._part, flags, 0o600)
        except OSError as error:
            raise failure("create", path, error) from error
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            self.abort()
            raise failure(f"make room for {size} bytes in", path, error) from error

    def write(self, offset: int, data: Buffer) -> None:
        """Put ``data`` at ``offset``."""
        try:
            write_all(self._fd, data, offset)
        except OSError as error:
            raise failure("write", self._path, error) from error

    def zero(self, offset: int, length: int) -> None:
        """Leave the hole that is there."""

    def finish(self) -> None:
        """Wait until it is on stable storage."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise failure("write", self._path, error) from error
        self._close()

    def publish(self) -> None:
        """Give it its name."""
        staging.publish(self._path, overwrite=self._overwrite)

    def abort(self) -> None:
        """Remove the part, if it is one still."""
        self._close()
        self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Qcow2File(Target):
    """A QCOW2 file that stands alone."""

    def __init__(self, path: Path, size: int, *, overwrite: bool = False) -> None:
        """Create the part of ``path``; a name that is taken is refused unless told otherwise."""
        if not overwrite:
            staging.ensure_absent(path)
        self._path = path
        self._overwrite = overwrite
        try:
            self._writer = Qcow2Writer(staging.part_of(path), size, cluster_size=BLOCK)
        except OSError as error:
            raise failure("create", path, error) from error

    def write(self, offset: int, data: Buffer) -> None:
        """Put ``data`` at ``offset``."""
        try:
            self._writer.write(offset, data)
        except OSError as error:
            raise failure("write", self._path, error) from error

    def zero(self, offset: int, length: int) -> None:
        """Leave the range out: without a backing file it reads as zero."""
        self._writer.zero(offset, length)

    def finish(self) -> None:
        """Write the metadata, the header last, and wait for stable storage."""
        try:
            self._writer.close()
        except OSError as error:
            raise failure("write", self._path, error) from error

    def publish(self) -> None:
        """Give it its name."""
        staging.publish(self._path, overwrite=self._overwrite)

    def abort(self) -> None:
        """Remove the part, if it is one still."""
        try:
            self._writer.abort()
        except OSError as error:
            raise failure("remove", self._path, error) from error
        staging.part_of(self._path).unlink(missing_ok=True)


def write_all(descriptor: int, data: Buffer, offset: int) -> None:
    """Write all of ``data``; one call may take only a part of it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def new_file(path: Path, size: int, *, image_format: str, overwrite: bool = False) -> Target:
    """Give the target for a new file of a format."""
    kinds: dict[str, type[RawFile] | type[Qcow2File]] = {"raw": RawFile, "qcow2": Qcow2File}
    if image_format not in kinds:
        raise SendenseError(f"cannot write disks as {image_format!r}")
    return kinds[image_format](path, size, overwrite=overwrite)
