"""New disks in a pool: under a name of their own until all disks of a restore are complete."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sendense.capture import images
from sendense.errors import AlreadyExists, NotFound
from sendense.model.ticket import RestorePlace

log = logging.getLogger(__name__)

_SUFFIX = ".part"


def part_of(path: Path) -> Path:
    """Give the name of a new disk that is not complete."""
    return path.with_name(f"{path.name}{_SUFFIX}")


def ensure_new(path: Path) -> None:
    """Refuse a name that is taken, or that nothing can have."""
    if not path.parent.is_dir():
        raise NotFound(f"there is no directory {path.parent}")
    for name in (path, part_of(path)):
        if os.path.lexists(name):
            raise AlreadyExists(f"{name} exists already", hint="a restore overwrites no file")


def create(part: Path, place: RestorePlace) -> None:
    """Make an empty disk."""
    command = ["qemu-img", "create", "-q", "-f", place.format, "--", str(part), str(place.size)]
    status, output, complaint = images.run_tool(command)
    if status != 0:
        raise images.failure_of(complaint.strip() or output.strip(), str(part))
    part.chmod(0o600)


def sync(path: Path) -> None:
    """Make a disk durable."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def whole_of(part: Path) -> Path:
    """Give the name that a new disk gets when all are complete."""
    return part.with_name(part.name[: -len(_SUFFIX)])


def publish(part: Path) -> None:
    """Give a complete disk its name, durably, and never over another file."""
    path = whole_of(part)
    try:
        os.link(part, path)
    except FileExistsError:
        if not part.samefile(path):
            raise AlreadyExists(f"{path} appeared while it was restored") from None
        part.unlink()  # an agent died between the two
    except OSError as error:
        # A file system without hard links.
        log.debug("linking %s: %s", path, error)
        if os.path.lexists(path):
            raise AlreadyExists(f"{path} appeared while it was restored") from None
        part.rename(path)
    else:
        part.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
