"""The block map: what one layer of a disk states, and the hash of every block of data.

A layer (a full, or an incremental over a parent) states some ranges of the disk
as data and some as zero; the rest is the parent's.  The map beside the layer
says which, and holds a BLAKE3 hash for each block of data::

    header    40 bytes  magic, version, block size, disk size, zero padding
    hashes    32 bytes each, in the order of the blocks of data
    runs      24 bytes each, ascending: first block, 2 x blocks + (1 if zero), first hash
    trailer   72 bytes  numbers of hashes and runs, bytes of data, bytes of zeroes, and the
                        BLAKE3 over all that stands before it: the map's digest

Numbers are little-endian, 64 bits but for two of 32 bits in the header.  The hash
of a block that the disk's end cuts covers the bytes up to that end.  A hash of 32
zero bytes belongs to no content: it marks a block that was known to be damaged
when the map was made, and never matches.

The map is written in one ascending pass and in bounded memory.  Opening it checks
the digest over the whole file, so a map is either as it was written or
:class:`~sendense.errors.Damaged`.  It is read by ``pread`` and not mapped: a bad
sector under a mapped file would kill the process, here it is an error.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from blake3 import blake3

from sendense.errors import Damaged, Unsupported
from sendense.formats.refused import unreadable

MAGIC = b"SDN-MAP\n"
VERSION = 1
HASH_SIZE = 32
NO_CONTENT = bytes(HASH_SIZE)
"""The hash that nothing has."""

_HEADER = struct.Struct("<8sIIQ16x")
_TRAILER = struct.Struct("<QQQQ8s32s")
_END_MAGIC = b"SDN-END\n"
_RUN_SIZE = 24
_SPILL_RUNS = 16384
_BUFFER = 1 << 20
_WINDOW_HASHES = 2048


class Run(NamedTuple):
    """One range that a layer states, cut by the disk's end."""

    start: int
    end: int
    zero: bool
    first_hash: int


@dataclass(frozen=True)
class MapSummary:
    """What a finished map says of its layer."""

    digest: str
    data_bytes: int
    zero_bytes: int


class MapWriter:
    """A map under way: runs of blocks with ascending numbers."""

    def __init__(self, path: Path, size: int, *, block_size: int) -> None:
        """Create ``path``, which must not exist, for a disk of ``size`` bytes."""
        self.path = path
        self._size = size
        self._block_size = block_size
        self._hasher = blake3()
        # Lives as long as the writer; it has no name that could be left behind.
        self._spilled = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        self._file = path.open("xb")
        self._buffer = bytearray(_HEADER.pack(MAGIC, VERSION, block_size, size))
        self._runs = array("Q")
        self._run_count = 0
        self._hash_count = 0
        self._bytes = [0, 0]
        self._first, self._count, self._zero, self._first_hash = 0, 0, False, 0
        self._next = 0

    def data(self, first_block: int, hashes: bytes) -> None:
        """State blocks of data by their joined hashes."""
        count = len(hashes) // HASH_SIZE
        self._state(first_block, count, zero=False)
        self._buffer += hashes
        self._hash_count += count
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def zero(self, first_block: int, count: int) -> None:
        """State blocks to be zero."""
        self._state(first_block, count, zero=True)

    def finish(self) -> MapSummary:
        """Complete the map and make it durable."""
        self._end_run()
        self._spill()
        self._flush()
        self._spilled.seek(0)
        while block := self._spilled.read(_BUFFER):
            self._buffer += block
            self._flush()
        counts = struct.pack("<QQQQ", self._hash_count, self._run_count, *self._bytes)
        self._buffer += counts + _END_MAGIC
        self._flush()
        digest = self._hasher.digest()
        self._file.write(digest)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._close()
        return MapSummary(digest.hex(), self._bytes[0], self._bytes[1])

    def abort(self) -> None:
        """Remove the file; nothing to do after ``finish``."""
        if not self._file.closed:
            self._close()
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._file.close()
        self._spilled.close()

    def _state(self, first: int, count: int, *, zero: bool) -> None:
        """Prolong the open run, or begin one."""
        if count == 0:
            return
        end = (first + count) * self._block_size
        if first < self._next or end >= self._size + self._block_size:
            raise ValueError(f"blocks {first}+{count} do not follow {self._next} in the disk")
        if first != self._next or zero != self._zero or self._count == 0:
            self._end_run()
            self._first, self._zero, self._first_hash = first, zero, self._hash_count
        self._count += count
        self._next = first + count
        self._bytes[zero] += min(end, self._size) - first * self._block_size

    def _end_run(self) -> None:
        if self._count == 0:
            return
        self._runs.extend((self._first, self._count << 1 | self._zero, self._first_hash))
        self._run_count += 1
        self._count = 0
        if len(self._runs) >= 3 * _SPILL_RUNS:
            self._spill()

    def _spill(self) -> None:
        """Put runs aside: they stand behind the hashes, of which more may come."""
        self._spilled.write(_little_endian(self._runs).tobytes())
        self._runs = array("Q")

    def _flush(self) -> None:
        self._hasher.update(self._buffer)
        self._file.write(self._buffer)
        self._buffer = bytearray()


class BlockMap:
    """A finished map, checked when it is opened.  Used by one thread at a time."""

    def __init__(self, path: Path, *, digest: str | None = None) -> None:
        """Open and check a map; ``digest`` is the one that the manifest remembers."""
        self._name = str(path)
        self._window, self._window_start, self._window_end = b"", 0, 0
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise Damaged(f"the block map {path} is missing", file=self._name) from error
        except OSError as error:
            raise unreadable(f"the block map {path}", error) from error
        try:
            self._load(digest)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def runs(self, start: int = 0) -> Iterator[Run]:
        """Give what the layer states, ascending, from the run that holds ``start`` on."""
        first = max(0, bisect_right(self._firsts, start // self.block_size) - 1)
        for index in range(first, len(self._firsts)):
            run = self._run(index)
            if run.end > start:
                yield run

    def find(self, offset: int) -> Run | None:
        """Give the run that states the byte at ``offset``, if any does."""
        index = bisect_right(self._firsts, offset // self.block_size) - 1
        if index < 0:
            return None
        run = self._run(index)
        return run if offset < run.end else None

    def hashes(self, offset: int, count: int) -> bytes:
        """Give the joined hashes of ``count`` blocks of data in one run, from a block's start."""
        run = self.find(offset)
        if run is None or run.zero:
            raise ValueError(f"no data is stated at {offset}")
        return self.stored_hashes(run.first_hash + (offset - run.start) // self.block_size, count)

    def stored_hashes(self, index: int, count: int) -> bytes:
        """Give ``count`` hashes by their number in the file."""
        if not 0 <= index <= index + count <= self.hash_count:
            raise ValueError(f"hashes {index}+{count} are not among {self.hash_count}")
        if not self._window_start <= index <= index + count <= self._window_end:
            size = max(count, _WINDOW_HASHES) * HASH_SIZE
            self._window = self._read(_HEADER.size + index * HASH_SIZE, size)
            self._window_start = index
            self._window_end = index + len(self._window) // HASH_SIZE
        place = (index - self._window_start) * HASH_SIZE
        found = self._window[place : place + count * HASH_SIZE]
        if len(found) != count * HASH_SIZE:
            raise self._damaged("was cut while it was read")
        return found

    # --- opening ---

    def _load(self, digest: str | None) -> None:
        length = os.fstat(self._fd).st_size
        if length < _HEADER.size + _TRAILER.size:
            raise self._damaged("is cut off")
        magic, version, self.block_size, self.size = _HEADER.unpack(self._read(0, _HEADER.size))
        if magic != MAGIC:
            raise self._damaged("is no block map")
        if version > VERSION:
            raise Unsupported(f"{self._name} was written by a newer version (map {version})")
        trailer = self._read(length - _TRAILER.size, _TRAILER.size)
        hashes, runs, self.data_bytes, self.zero_bytes, end, stored = _TRAILER.unpack(trailer)
        if end != _END_MAGIC or stored != self._digest(length - HASH_SIZE):
            raise self._damaged("does not match its own checksum")
        self.digest = stored.hex()
        if digest is not None and self.digest != digest:
            raise self._damaged("is not the one that the point's manifest names")
        self.hash_count = hashes
        place = _HEADER.size + hashes * HASH_SIZE
        if place + runs * _RUN_SIZE != length - _TRAILER.size or version < 1:
            raise self._damaged("contradicts itself")
        table = array("Q")
        table.frombytes(self._read(place, runs * _RUN_SIZE))
        self._firsts = memoryview(_little_endian(table))[0::3]
        self._counts = memoryview(_little_endian(table))[1::3]
        self._indexes = memoryview(_little_endian(table))[2::3]
        self._check_runs()

    def _check_runs(self) -> None:
        """Refuse runs that no writer makes, so that nothing below needs to doubt them."""
        size = self.block_size
        if size == 0 or size & (size - 1):
            raise self._damaged("has an impossible block size")
        blocks, next_block, next_hash = -(-self.size // size), 0, 0
        for first, count, index in zip(self._firsts, self._counts, self._indexes, strict=True):
            length = count >> 1
            wrong = first < next_block or length == 0 or first + length > blocks
            if wrong or index != next_hash:
                raise self._damaged("contradicts itself")
            next_block = first + length
            next_hash += 0 if count & 1 else length
        if next_hash != self.hash_count:
            raise self._damaged("contradicts itself")

    def _digest(self, length: int) -> bytes:
        hasher = blake3()
        for start in range(0, length, _BUFFER):
            hasher.update(self._read(start, min(_BUFFER, length - start)))
        return hasher.digest()

    # --- inside ---

    def _run(self, index: int) -> Run:
        start = self._firsts[index] * self.block_size
        end = start + (self._counts[index] >> 1) * self.block_size
        return Run(start, min(end, self.size), bool(self._counts[index] & 1), self._indexes[index])

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise unreadable(f"the block map {self._name}", error) from error

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"the block map {self._name} {what}", file=self._name)


def _little_endian(numbers: array[int]) -> array[int]:
    """Turn an array from the machine's byte order to the file's, or back."""
    if sys.byteorder == "little":
        return numbers
    swapped = numbers[:]
    swapped.byteswap()
    return swapped
