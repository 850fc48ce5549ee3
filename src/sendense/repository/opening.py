"""Finding and making repositories: from a URL to a :class:`Repository`.

::

    /srv/backup                 a directory: whichever kind it holds
    qcow2:/srv/backup           a QCOW2 chain in a directory
    dedup:/srv/backup           a dedup repository in a directory
    s3://bucket/prefix?...      a dedup repository in a bucket; also azure:, gs:

Where a directory is to become a repository and no kind is named, it becomes a dedup
repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sendense.errors import NotFound, Rejected
from sendense.model.secret import Secret
from sendense.repository.chain import opening as chain
from sendense.repository.dedup import opening as dedup
from sendense.repository.protocol import Repository
from sendense.storage import durable
from sendense.storage.options import DEFAULT, StoreOptions
from sendense.storage.store import Store
from sendense.storage.urls import Credentials, open_store

CHAIN = "qcow2:"
DEDUP = "dedup:"
_OF_THE_FILE_SYSTEM = "lost+found"


@dataclass(frozen=True)
class RepositorySettings:
    """What is chosen once, when a repository is made."""

    compression_level: int | None = None
    """zstd level from 1 to 19 for clusters and chunks; none: data is stored as it is."""


def _no_secret(_new: bool) -> Secret:
    raise Rejected(
        "the repository is encrypted, and no passphrase is given",
        hint="name a file that holds it with --passphrase-file or SENDENSE_PASSPHRASE_FILE",
    )


@dataclass(frozen=True)
class Access:
    """What opening takes beside the URL."""

    secret: Callable[[bool], Secret] = _no_secret
    """Asked for the passphrase or recovery key where one is needed; true: for a new one."""
    cache: Path | None = None
    """Where dedup repositories keep what makes opening quick."""
    credentials: Credentials = field(default_factory=dict)
    """For the store; what is missing comes from the environment."""
    store: StoreOptions = DEFAULT


PLAIN = RepositorySettings()
NO_ACCESS = Access()


def create_repository(
    url: str, settings: RepositorySettings = PLAIN, access: Access = NO_ACCESS
) -> Repository:
    """Make a repository in a new or empty place, and open it."""
    level = settings.compression_level
    if url.startswith(CHAIN):
        return chain.create(_path(url.removeprefix(CHAIN)), compression_level=level)
    with _handed_over(open_objects(url, access)) as store:
        dedup.refuse_occupied(store)
        if store.traits.kind == "local":
            _refuse_occupied(Path(store.location))
        return dedup.create(store, access.secret(True), compression_level=level, cache=access.cache)


def open_repository(url: str, access: Access = NO_ACCESS) -> Repository:
    """Open a repository that exists."""
    if is_chain(url):
        return chain.open_chain(_path(url.removeprefix(CHAIN)))
    with _handed_over(open_objects(url, access)) as store:
        if store.traits.kind == "local":
            _refuse_missing(Path(store.location))
        return dedup.open_dedup(store, lambda: access.secret(False), cache=access.cache)


def is_chain(url: str) -> bool:
    """Tell whether a URL means a QCOW2 chain: it says so, or the directory does."""
    if url.startswith(CHAIN):
        return True
    if url.startswith(DEDUP) or ":" in url.partition("/")[0]:
        return False
    return bool(url) and chain.is_chain(_path(url))


def open_objects(url: str, access: Access) -> Store:
    """Open the store of a dedup repository, which need not be there and takes no key."""
    place = url.removeprefix(DEDUP)
    if place and ":" not in place.partition("/")[0]:
        place = str(_path(place))
    return open_store(place, access.credentials, access.store)


@contextmanager
def _handed_over(store: Store) -> Iterator[Store]:
    """Close a store of which no repository is made: who tries often would run out of files."""
    try:
        yield store
    except BaseException:
        store.close()
        raise


def _refuse_occupied(root: Path) -> None:
    """Make no repository among files that are no objects, which a store does not list."""
    with durable.explaining(root):
        if root.exists() and any(item.name != _OF_THE_FILE_SYSTEM for item in root.iterdir()):
            raise Rejected(f"{root} is not empty", hint="name a new or empty directory")


def _refuse_missing(root: Path) -> None:
    if not root.is_dir():
        raise NotFound(
            f"{root} is not a repository",
            hint="check the path and that it is mounted, or create a repository there",
        )


def _path(text: str) -> Path:
    """Give the directory that a path means."""
    if not text:
        raise Rejected("the repository's path is empty")
    return Path(text).absolute()
