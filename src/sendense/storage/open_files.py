"""Files that are kept open between reads.

A restore reads thousands of ranges from few packs; opening a file costs more than reading a
block of it, on NFS much more.  Only a handful is kept: a pack that is removed keeps its space
for as long as somebody has it open.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class _Entry:
    fd: int
    users: int = 0
    dropped: bool = False


class OpenFiles:
    """At most ``limit`` open files, the least recently used one closed first.

    A file that is in use is closed by its last user, so there may be more for as long as more are
    in use.
    """

    def __init__(self, open_file: Callable[[str], int], limit: int) -> None:
        """Open files with ``open_file``, by name."""
        self._open_file = open_file
        self._limit = limit
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def use(self, name: str) -> Iterator[int]:
        """Give the open file of that name, which stays open inside."""
        entry = self._take(name)
        try:
            yield entry.fd
        finally:
            self._give_back(entry)

    def forget(self, name: str) -> None:
        """Open the file anew the next time: it was replaced or removed."""
        with self._lock:
            entry = self._entries.pop(name, None)
            if entry is not None:
                self._drop(entry)

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            while self._entries:
                self._drop(self._entries.popitem()[1])

    def _take(self, name: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(name)
                return entry
        fd = self._open_file(name)
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = _Entry(fd)
            else:
                os.close(fd)  # another thread was faster
            entry.users += 1
            while len(self._entries) > self._limit:
                self._drop(self._entries.popitem(last=False)[1])
            return entry

    def _give_back(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            if entry.dropped and entry.users == 0:
                os.close(entry.fd)

    @staticmethod
    def _drop(entry: _Entry) -> None:
        entry.dropped = True
        if entry.users == 0:
            os.close(entry.fd)
