"""Where the next cluster of a growing QCOW2 file goes, and how often each is used.

Used by :mod:`sendense.formats.qcow2_writer` alone.  Clusters are handed out in
ascending order, so a block of refcounts is complete when the file has grown
past the clusters it counts: it is appended then, and forgotten.
"""

from __future__ import annotations

import os
import sys
from array import array

from sendense.model.stream import Buffer


def write_all(fd: int, data: Buffer, offset: int) -> None:
    """Write every byte; the kernel may take less than all at once (2 GiB, signals, quota)."""
    written = os.pwrite(fd, data, offset)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(data):
        written += os.pwrite(fd, view[written:], offset + written)


def big_endian(numbers: array[int]) -> bytes:
    """Give an array as the bytes that QCOW2 wants; the array stays as it is."""
    if sys.byteorder == "big":
        return numbers.tobytes()
    swapped = numbers[:]
    swapped.byteswap()
    return swapped.tobytes()


class Space:
    """The file behind the first cluster: allocation and refcounts."""

    def __init__(self, fd: int, cluster_size: int) -> None:
        """Begin behind the header's cluster."""
        self._fd = fd
        self._cluster_size = cluster_size
        self._per_block = cluster_size // 2
        self._next = 1
        self._counts = array("H", [1])
        self._counted_from = 0
        self._blocks = array("Q")
        self._packed = 0

    def allocate(self, count: int) -> int:
        """Give the place of ``count`` new clusters in a row."""
        first = self._next
        self._next += count
        self._counts.extend(array("H", [1]) * count)
        if len(self._counts) >= self._per_block:
            self._append_full_blocks()
        return first * self._cluster_size

    def append_table(self, table: array[int]) -> int:
        """Write a table of 64-bit entries into clusters of its own; give its place."""
        data = big_endian(table)
        place = self.allocate(-(-len(data) // self._cluster_size))
        write_all(self._fd, data, place)
        return place

    def pack(self, length: int) -> int:
        """Give the place of ``length`` bytes that may share clusters with others of their kind."""
        size = self._cluster_size
        used = self._packed % size
        if used and self._packed // size < self._counted_from:
            used = 0  # the cluster's count is on disk already
        if used == 0:
            place = self.allocate(-(-length // size))
        else:
            over = length - (size - used)
            if over > 0 and (self._packed // size + 1) != self._next:
                place = self.allocate(-(-length // size))
            else:
                place = self._packed
                self._counts[place // size - self._counted_from] += 1
                if over > 0:
                    self.allocate(-(-over // size))
        self._packed = place + length
        return place

    def finish(self) -> tuple[int, int]:
        """Append the rest of the refcounts and their table; give its place and clusters.

        These clusters count themselves, so their number is found by trying.
        """
        size = self._cluster_size
        used = len(self._counts)
        blocks, table = 1, 1
        while True:
            needed = -(-(used + blocks + table) // self._per_block)
            clusters = -(-(len(self._blocks) + needed) * 8 // size)
            if (needed, clusters) == (blocks, table):
                break
            blocks, table = max(blocks, needed), max(table, clusters)
        first = self._next
        self._counts.extend(array("H", [1]) * (blocks + table))
        self._counts.extend(array("H", bytes(2 * (blocks * self._per_block - len(self._counts)))))
        write_all(self._fd, big_endian(self._counts), first * size)
        self._blocks.extend(range(first * size, (first + blocks) * size, size))
        place = (first + blocks) * size
        write_all(self._fd, big_endian(self._blocks), place)
        os.ftruncate(self._fd, place + table * size)
        return place, table

    def _append_full_blocks(self) -> None:
        """Append the blocks of refcounts that will not change any more."""
        while len(self._counts) >= self._per_block:
            block = self._counts[: self._per_block]
            del self._counts[: self._per_block]
            self._counted_from += self._per_block
            place = self._next * self._cluster_size
            self._next += 1
            self._counts.append(1)
            self._blocks.append(place)
            write_all(self._fd, big_endian(block), place)
