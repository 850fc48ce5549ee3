"""Making and opening a QCOW2 chain in a directory.

A directory becomes a repository only when it is empty or new: somebody's data is
never taken over.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from sendense import clock
from sendense.errors import Damaged, NotFound, Rejected
from sendense.repository import sealed
from sendense.repository.chain import layout
from sendense.repository.chain.repository import ChainRepository
from sendense.storage import durable

KIND = "sendense-repository"
_LEVELS = range(1, 20)


def is_chain(root: Path) -> bool:
    """Tell whether a directory holds a QCOW2 chain."""
    return (root / layout.REPOSITORY).exists()


def create(root: Path, *, compression_level: int | None) -> ChainRepository:
    """Make a repository in a new or empty directory, and open it."""
    if compression_level is not None and compression_level not in _LEVELS:
        raise Rejected(
            f"{compression_level} is no compression level", hint="choose one from 1 to 19"
        )
    with durable.explaining(root):
        if is_chain(root):
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
            "compression_level": compression_level,
        }
        durable.replace_file(root / layout.REPOSITORY, sealed.render(KIND, content))
        durable.sync_directory(root.parent)
    return open_chain(root)


def open_chain(root: Path) -> ChainRepository:
    """Open a repository that exists."""
    path = root / layout.REPOSITORY
    try:
        content = sealed.read(path, KIND)
    except NotFound as error:
        raise NotFound(
            f"{root} is not a repository",
            hint="check the path and that it is mounted, or create a repository there",
        ) from error
    return _build(root, content, str(path))


def _build(root: Path, content: sealed.Content, name: str) -> ChainRepository:
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
