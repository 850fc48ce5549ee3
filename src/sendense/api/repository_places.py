"""Where a repository is, for the server and all its workers: one place, and nobody else's yet.

A path without a root means another directory for each process that reads it.  Two entries for one
place list every point twice, and each prunes what the other keeps.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable

from sendense.errors import AlreadyExists, Rejected
from sendense.model.holdings import RepositoryEntry
from sendense.repository.opening import CHAIN, DEDUP
from sendense.storage.urls import parse_url

_WHICH_SERVICE = ("endpoint", "account")
"""What of a store's URL says where it is; the rest says how it is used."""


def require_own_place(url: str, known: Iterable[RepositoryEntry]) -> None:
    """Refuse a URL that means no place, or the place of a repository that is known already."""
    place = place_of(url)
    for entry in known:
        if _place_or_none(entry.url) == place:
            raise AlreadyExists(
                f"this repository is used already, as {entry.name}",
                hint=f"use {entry.name}, or change it with 'sendense repository edit'",
            )


def place_of(url: str) -> tuple[str, ...]:
    """Give what is the same for all URLs of one place."""
    rest = url.removeprefix(CHAIN).removeprefix(DEDUP)
    if rest and ":" not in rest.partition("/")[0] and not rest.startswith("/"):
        raise Rejected(
            f"{rest} is not a whole path", hint="write the whole path on the server's machine"
        )
    store = parse_url(rest)
    if store.kind == "file":
        # Two slashes at the beginning are one, save to this function.
        return "file", "/" + os.path.normpath(store.place).lstrip("/")
    which = (store.query.get(name, "").rstrip("/") for name in _WHICH_SERVICE)
    return store.kind, store.place, store.prefix, *which


def _place_or_none(url: str) -> tuple[str, ...] | None:
    try:
        return place_of(url)
    except Rejected:  # An entry from before URLs were looked at.
        return None
