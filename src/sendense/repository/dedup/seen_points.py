"""The point objects that this machine has seen: a list of names beside the local index.

A point is there when its object is.  So who deletes the object deletes the point, and nothing in
the store tells of it.  What tells is that somebody remembers: every listing adds its names
here, our own deletions take theirs out, and a check says which are gone.

The list is a cache.  Without it, or where it cannot be written, nothing is missing but that.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from sendense.storage.names import is_name

log = logging.getLogger(__name__)


def file_of(location: str) -> str:
    """Name the file of the list: each of several copies of a repository has its own."""
    return f"points-{blake3(location.encode(errors='surrogateescape')).hexdigest(length=8)}.seen"


class SeenPoints:
    """The names; used by many threads, the file by many processes."""

    def __init__(self, path: Path | None = None) -> None:
        """Keep the list in the file at ``path``, or in memory."""
        self._path = path
        self._lock = threading.Lock()
        self._known: set[str] = set()
        """Those that the file has for certain, unless another process took them out."""

    def names(self) -> frozenset[str]:
        """Give the names."""
        return self._change(frozenset(), frozenset())

    def add(self, names: Iterable[str]) -> None:
        """Add what was listed."""
        with self._lock:
            new = frozenset(names) - self._known
        if new:
            self._change(new, frozenset())

    def forget(self, names: Iterable[str]) -> None:
        """Take out what was deleted, or told of."""
        gone = frozenset(names)
        if gone:
            self._change(frozenset(), gone)

    def clear(self) -> None:
        """Forget everything."""
        self.forget(self.names())

    def _change(self, new: frozenset[str], gone: frozenset[str]) -> frozenset[str]:
        with self._lock:
            if self._path is not None:
                try:
                    self._known = _changed(self._path, new, gone)
                    return frozenset(self._known)
                except OSError as error:
                    log.debug("%s is not kept: %s", self._path, error)
            self._known = (self._known | new) - gone
            return frozenset(self._known)


def _changed(path: Path, new: frozenset[str], gone: frozenset[str]) -> set[str]:
    """Bring the file up to date, and give what it holds."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file).st_size
        lines = os.pread(file, size, 0).decode("ascii", "replace").split("\n")[:-1]
        held = {line for line in lines if is_name(line)}
        if new <= held and not held & gone:
            return held
        held = (held | new) - gone
        os.ftruncate(file, 0)
        os.pwrite(file, "".join(f"{name}\n" for name in sorted(held)).encode("ascii"), 0)
        return held
    finally:
        os.close(file)
