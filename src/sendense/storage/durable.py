"""Making files and directories durable, and what a full or read-only repository is called.

A new file is on disk after three things: its content is synced, its name is in the
directory, the directory is synced.  A file that is replaced is written beside its
place and renamed over it, so that a reader and a crash see the old or the new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sendense.errors import NotAllowed, OutOfSpace

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make a file's content durable that another process wrote."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes) -> None:
    """Write a new file and sync its content; its name is durable with its directory."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of a file, at once and durably."""
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    write_file(aside, data)
    aside.replace(path)
    sync_directory(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file or directory, replacing a file, and make that durable."""
    source.replace(target)
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)


@contextmanager
def explaining(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals into ours, with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutOfSpace(
                f"the repository has no room left for {where}",
                hint="free space or delete points there, then run it again; "
                "earlier points are not affected",
                file=where,
            ) from error
        if error.errno in _REFUSED:
            raise NotAllowed(
                f"the repository cannot be written: {error.strerror} ({where})",
                hint="mount it writable, and give this user the right to write there",
                file=where,
            ) from error
        raise
