"""Reading the clusters that one QCOW2 file holds, without its backing chain.

A repository knows from its block maps which layer of a chain owns each byte, so
it needs no backing chain, only the bytes of one file, straight from the page
cache: no process, no socket, and the bytes of each layer can be checked against
that layer's own hashes.  What is read here is *not* trusted: a wrong mapping
gives wrong bytes, which the hashes catch.

Finding places (:meth:`Qcow2Reader.locate`) keeps a table in memory and belongs
to one thread; reading them (:meth:`Qcow2Reader.read`) may be done by many.

Only what the specification allows and QEMU or our writer produces for plain
images is read: data, zero and compressed clusters (zstd and deflate).
"""

from __future__ import annotations

import os
import sys
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import zstandard

from sendense.errors import Damaged
from sendense.formats.qcow2 import (
    COMPRESSION_ZSTD,
    FLAG_COMPRESSED,
    FLAG_ZERO,
    OFFSET_MASK,
    Header,
    read_header,
)
from sendense.formats.refused import unreadable


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run of guest bytes is in the file."""

    length: int
    """Guest bytes."""
    offset: int | None
    """Position in the file; none for what reads as zero or is not there."""
    stored: int = 0
    """Bytes to read for one compressed cluster; 0 for plain data."""
    skipped: int = 0
    """Bytes of a compressed cluster that stand before the wanted ones."""


class Qcow2Reader:
    """One image, open for reading."""

    def __init__(self, path: Path) -> None:
        """Open an image and read its header."""
        self._name = str(path)
        try:
            self.header: Header = read_header(path)
            self._fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise Damaged(f"the image {path} is missing", file=self._name) from error
        except OSError as error:
            raise unreadable(f"the image {self._name}", error) from error
        self._bits = self.header.cluster_bits
        self._per_table = self.header.cluster_size // 8
        self._l1: array[int] | None = None
        self._table_index = -1
        self._table = array("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def locate(self, offset: int, length: int) -> list[Place]:
        """Tell where ``length`` guest bytes from ``offset`` are, in order."""
        size = self.header.cluster_size
        places: list[Place] = []
        end = offset + length
        while offset < end:
            index, slot = divmod(offset >> self._bits, self._per_table)
            table_end = (index + 1) * self._per_table << self._bits
            stop = min(end, table_end)
            count = -(-stop // size) - (offset >> self._bits)
            entries = self._entries(index)[slot : slot + count]
            self._locate_entries(places, entries, offset, stop)
            offset = stop
        return places

    def read(self, places: list[Place], target: memoryview) -> None:
        """Read places into ``target``, which is as long as all of them."""
        position = 0
        for place in places:
            part = target[position : position + place.length]
            if place.offset is None:
                part[:] = bytes(place.length)
            elif place.stored:
                cluster = self._decompress(self._pread(place.offset, place.stored))
                part[:] = cluster[place.skipped : place.skipped + place.length]
            else:
                self._read_into(part, place.offset)
            position += place.length

    # --- finding ---

    def _locate_entries(
        self, places: list[Place], entries: array[int], offset: int, stop: int
    ) -> None:
        """Turn the entries for guest bytes ``offset`` to ``stop`` into places."""
        size = self.header.cluster_size
        skipped = offset % size
        first = entries[0]
        if not first & FLAG_COMPRESSED and _in_a_row(entries, size):
            places.append(Place(stop - offset, (first & OFFSET_MASK) + skipped))
            return
        for entry in entries:
            length = min(size - skipped, stop - offset)
            places.append(self._place(entry, length, skipped))
            offset += length
            skipped = 0

    def _place(self, entry: int, length: int, skipped: int) -> Place:
        if entry & FLAG_COMPRESSED:
            offset_bits = 70 - self._bits
            start = entry & ((1 << offset_bits) - 1)
            sectors = ((entry & (FLAG_COMPRESSED - 1)) >> offset_bits) + 1
            return Place(length, start, sectors * 512 - start % 512, skipped)
        if entry & FLAG_ZERO or entry & OFFSET_MASK == 0:
            return Place(length, None)
        return Place(length, (entry & OFFSET_MASK) + skipped)

    def _entries(self, index: int) -> array[int]:
        """Give one L2 table; the last one used is kept."""
        if index != self._table_index:
            if self._l1 is None:
                header = self.header
                self._l1 = self._read_table(header.l1_offset, header.l1_entries)
            place = self._l1[index] & OFFSET_MASK if index < len(self._l1) else 0
            self._table = (
                self._read_table(place, self._per_table)
                if place
                else array("Q", bytes(self.header.cluster_size))
            )
            self._table_index = index
        return self._table

    def _read_table(self, place: int, count: int) -> array[int]:
        table = array("Q")
        table.frombytes(self._pread(place, count * 8, whole=True))
        if sys.byteorder == "little":
            table.byteswap()
        return table

    # --- reading ---

    def _read_into(self, part: memoryview, offset: int) -> None:
        try:
            done = os.preadv(self._fd, [part], offset)
            while 0 < done < len(part):
                more = os.preadv(self._fd, [part[done:]], offset + done)
                done = done + more if more else -1
        except OSError as error:
            raise unreadable(f"the image {self._name}", error) from error
        if done != len(part):
            raise self._damaged("is cut off")

    def _pread(self, offset: int, length: int, *, whole: bool = False) -> bytes:
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as error:
            raise unreadable(f"the image {self._name}", error) from error
        if whole and len(data) != length:
            raise self._damaged("is cut off")
        return data

    def _decompress(self, data: bytes) -> bytes:
        size = self.header.cluster_size
        try:
            if self.header.compression == COMPRESSION_ZSTD:
                plain = _unpack_zstd(data, size)
            else:
                plain = zlib.decompressobj(-12).decompress(data, size)
        except (zstandard.ZstdError, zlib.error, MemoryError) as error:
            raise self._damaged("holds a compressed cluster that cannot be unpacked") from error
        if len(plain) != size:
            raise self._damaged("holds a compressed cluster of a wrong size")
        return plain

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"the image {self._name} {what}", file=self._name)


def _unpack_zstd(data: bytes, size: int) -> bytes:
    """Unpack one frame; what follows it in its last sector is another cluster's."""
    told = zstandard.frame_content_size(data)
    if told not in (-1, size):
        # The library would allocate whatever the frame says.
        raise zstandard.ZstdError("the frame is not of one cluster")
    return zstandard.ZstdDecompressor().decompress(
        data, max_output_size=size, allow_extra_data=True
    )


def _in_a_row(entries: array[int], size: int) -> bool:
    """Tell whether plain data entries lie one behind the other in the file."""
    first = entries[0]
    if first & FLAG_ZERO or first & OFFSET_MASK == 0:
        return False
    last = first + len(entries) * size
    # A forged entry at the end of the number space cannot be counted up from.
    return last < 1 << 64 and entries == array("Q", range(first, last, size))
