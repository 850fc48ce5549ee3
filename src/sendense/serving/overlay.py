"""What clients write: kept beside the disk for as long as it is served, and then gone.

A block of 64 KiB is the disk's until something of it is written.  Then it is copied whole into
a sparse file that has no name, so that nothing is left of it however the server ends.

(nbdkit's own filter for this, ``cow``, has one overlay for all exports of a server: what is
written to one disk shows in the others.)

Requests come from many threads.  A block that changes hands is locked; a client that
reads what it is just writing gets the one or the other, as from any disk.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from sendense.errors import NotAllowed, NotFound
from sendense.repository.extents import Extent, check_range, joined
from sendense.repository.protocol import DiskReader
from sendense.units import KIB

BLOCK = 64 * KIB
_DISK, _OWN, _ZERO = 0, 1, 2
"""Whose a block is: the disk's, ours, or nobody's because it is zero."""
_LOCKS = 64


class Overlay:
    """A disk that can be written, over one that cannot; for many threads."""

    def __init__(self, below: DiskReader, folder: Path) -> None:
        """Lay it over ``below``; what is written takes room in ``folder``."""
        self._below = below
        self.size = below.image.size
        self._blocks = bytearray(-(-self.size // BLOCK))
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._fd = _nameless_file(folder)
        os.truncate(self._fd, self.size)

    def close(self) -> None:
        """Drop what was written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- reading ---

    def read_at(self, offset: int, length: int) -> bytes:
        """Give any range."""
        check_range(offset, offset + length, self.size)
        pieces = []
        for state, start, end in self._runs(offset, offset + length):
            if state == _DISK:
                pieces.append(self._below.read_at(start, end - start))
            elif state == _OWN:
                pieces.append(self._read_own(start, end - start))
            else:
                pieces.append(bytes(end - start))
        return b"".join(pieces)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Tell of a range what reads as zero."""
        return joined(self._extents(start, end))

    def _extents(self, start: int, end: int) -> Iterator[Extent]:
        for state, first, behind in self._runs(start, end):
            if state == _DISK:
                yield from self._below.extents(first, behind)
            else:
                yield Extent(first, behind, state == _ZERO)

    def _runs(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Give whose the parts of a range are, as they are now."""
        first = start // BLOCK
        states = bytes(self._blocks[first : -(-end // BLOCK)])
        place = 0
        while place < len(states):
            state = states[place]
            behind = len(states) - len(states[place:].lstrip(bytes((state,))))
            low, high = (first + place) * BLOCK, (first + behind) * BLOCK
            yield state, max(low, start), min(high, end)
            place = behind

    def _read_own(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                raise OSError(errno.EIO, "the overlay is cut off")
            data += more
        return data

    # --- writing ---

    def write(self, offset: int, data: memoryview) -> None:
        """Put data at an offset."""
        check_range(offset, offset + len(data), self.size)
        for number, start, end in self._parts(offset, offset + len(data)):
            with self._locks[number % _LOCKS]:
                self._write_block(number, start, data[start - offset : end - offset])

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zero."""
        check_range(offset, offset + length, self.size)
        for number, start, end in self._parts(offset, offset + length):
            with self._locks[number % _LOCKS]:
                if self._is_whole(number, start, end):
                    self._blocks[number] = _ZERO
                else:
                    self._write_block(number, start, memoryview(bytes(end - start)))

    def _parts(self, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Cut a range at the borders of blocks: number, start and end of each part."""
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            yield number, max(number * BLOCK, offset), min((number + 1) * BLOCK, end)

    def _is_whole(self, number: int, start: int, end: int) -> bool:
        return start == number * BLOCK and end == min(start + BLOCK, self.size)

    def _write_block(self, number: int, start: int, data: memoryview) -> None:
        """Write a part of one block, which becomes ours as a whole."""
        state = self._blocks[number]
        base = number * BLOCK
        if state == _OWN or self._is_whole(number, start, start + len(data)):
            self._write_own(start, data)
        else:
            length = min(BLOCK, self.size - base)
            old = self._below.read_at(base, length) if state == _DISK else bytes(length)
            behind = start - base + len(data)
            whole = b"".join((old[: start - base], data, old[behind:]))
            self._write_own(base, memoryview(whole))
        # Only now: what is ours is read from the file.
        self._blocks[number] = _OWN

    def _write_own(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._fd, data, offset)
            offset, data = offset + written, data[written:]


def _nameless_file(folder: Path) -> int:
    """Open a new file that nobody else finds, and that goes with its last user."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise NotFound(
            f"the directory {folder} for the overlay does not exist",
            hint="make it, or name another one with --overlay-dir",
        ) from error
    except PermissionError as error:
        raise NotAllowed(f"no file can be made in {folder}: {error.strerror}") from error
    except OSError:
        # A file system that cannot do it (NFS, overlayfs of old): make it, and take its name off.
        handle, name = tempfile.mkstemp(prefix="sendense-overlay-", dir=folder)
        Path(name).unlink()
        return handle
