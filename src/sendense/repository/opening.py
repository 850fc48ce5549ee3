"""Finding and making repositories: from a URL to a :class:`Repository`.

A URL is a path, or ``qcow2:`` and a path.  A directory becomes a repository only
when it is empty or new: somebody's data is never taken over.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from sendense import clock
from sendense.errors import Damaged, NotFound, Rejected, Unsupported
from sendense.repository import durable, layout, sealed
from sendense.repository.chain import ChainRepository
from sendense.repository.protocol import Repository

KIND = "sendense-repository"
SCHEME = "qcow2"
_LEVELS = range(1, 20)


@dataclass(frozen=True)
class RepositorySettings:
    """What is chosen once, when a repository is made."""

    compression_level: int | None = None
    """zstd level from 1 to 19 for clusters; none: data is stored as it is."""


PLAIN = RepositorySettings()


def create_repository(url: str, settings: RepositorySettings = PLAIN) -> Repository:
    """Make a repository in a new or empty directory, and open it."""
    root = _path(url)
    level = settings.compression_level
    if level is not None and level not in _LEVELS:
        raise Rejected(f"{level} is no compression level", hint="choose one from 1 to 19")
    with durable.explaining(root):
        if (root / layout.REPOSITORY).exists():
            raise Rejected(f"{root} is a repository already")
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise Rejected(
                f"{root} is not empty, and is not a repository",
                hint="name a new or empty directory",
            )
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (root / layout.MACHINES).mkdir(mode=0o700)
        content = {
            "id": str(uuid.uuid4()),
            "created_at": clock.format_utc(clock.now()),
            "compression_level": level,
        }
        durable.replace_file(root / layout.REPOSITORY, sealed.render(KIND, content))
        durable.sync_directory(root.parent)
    return open_repository(url)


def open_repository(url: str) -> Repository:
    """Open a repository that exists."""
    root = _path(url)
    path = root / layout.REPOSITORY
    try:
        content = sealed.read(path, KIND)
    except NotFound as error:
        raise NotFound(
            f"{root} is not a repository",
            hint="check the path and that it is mounted, or create a repository there",
        ) from error
    return _build(root, content, str(path))


def _build(root: Path, content: sealed.Content, name: str) -> Repository:
    try:
        level = content["compression_level"]
        return ChainRepository(
            root,
            repository_id=str(content["id"]),
            created_at=clock.parse_utc(content["created_at"]),
            compression_level=level if level in _LEVELS else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{name} does not describe a repository", file=name) from error


def _path(url: str) -> Path:
    """Give the directory that a URL means."""
    scheme, colon, rest = url.partition(":")
    if colon and re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        if scheme != SCHEME:
            raise Unsupported(
                f"there is no kind of repository {scheme!r}", hint=f"write {SCHEME}:<path>"
            )
        url = rest
    if not url:
        raise Rejected("the repository's path is empty")
    return Path(url).absolute()
