"""New files appear complete or not at all.

A file is written as ``.<name>.sendense-part`` in its own directory, and gets its
name by a link, which fails where the name is taken.  A run that dies leaves
parts only; the next run into that directory sweeps them, under a lock on the
directory, so that it cannot sweep those of a run that lives.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sendense.errors import Busy, Rejected
from sendense.targets.target import failure

_log = logging.getLogger(__name__)

_SUFFIX = ".sendense-part"


def part_of(path: Path) -> Path:
    """Give the name that a file has until it is complete."""
    return path.with_name(f".{path.name}{_SUFFIX}")


def ensure_absent(path: Path) -> None:
    """Refuse a name that is taken."""
    if os.path.lexists(path):
        raise Rejected(
            f"{path} exists already",
            hint="restore into another directory, or say that it may be overwritten",
            path=path,
        )


def publish(path: Path, *, overwrite: bool) -> None:
    """Give a complete part its name, and make the name durable."""
    part = part_of(path)
    try:
        if overwrite:
            part.replace(path)
        else:
            _rename_to_new(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise failure("give its name to", path, error) from error


def _rename_to_new(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        ensure_absent(path)
        raise
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        # No hard links here (vfat, some FUSE). The directory's lock keeps our own runs apart.
        ensure_absent(path)
        part.rename(path)
    else:
        part.unlink()


def write_file(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Make a small file appear, complete and durable."""
    part = part_of(path)
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise failure("write", path, error) from error
    publish(path, overwrite=overwrite)


def replace_content(path: Path, content: bytes) -> None:
    """Replace a small file that may exist; owner and mode stay as they were."""
    write_file(path.with_name(f"{path.name}.sendense-new"), content, overwrite=True)
    new = path.with_name(f"{path.name}.sendense-new")
    try:
        if path.exists():
            before = path.stat()
            os.chown(new, before.st_uid, before.st_gid)
            new.chmod(stat.S_IMODE(before.st_mode))
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise failure("replace", path, error) from error


def sync_folder(folder: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make ``folder``, keep other restores out of it, and sweep what dead ones left in it."""
    if folder.exists() and not folder.is_dir():
        raise Rejected(f"{folder} is no directory", hint="name a directory", path=folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise failure("use the directory", folder, error) from error
    try:
        if _lock(descriptor, folder):
            for part in sorted(folder.glob(f".*{_SUFFIX}")):
                _log.info("removing what a dead restore left: %s", part)
                part.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Lock the directory; tell whether that can be done on this file system."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Busy(
            f"another restore into {folder} is running",
            hint="wait for it to end, or choose another directory",
            path=folder,
        ) from error
    except OSError as error:
        # NFS before 2.6.12 semantics, some FUSE: no sweeping, and O_EXCL still keeps runs apart.
        _log.debug("cannot lock %s: %s", folder, error)
        return False
    return True
